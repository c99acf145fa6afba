package httpapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/livestream-pro/livestream-pro/internal/telemetry/telemetrytest"
)

// buffer is a log that can be read while it is written.
type buffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.content.Bytes())
}

// I3: one line a request, which says where its time went, and no secret.
func TestEachRequestIsALineOfTheLogWithoutSecrets(t *testing.T) {
	t.Parallel()
	var log buffer
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	p := newProduct(t, options{log: zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&log), zapcore.DebugLevel))})
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	ticket := ada.post("/api/ws-tickets", map[string]any{"purpose": "chat", "stream_id": stream}).ok(t, http.StatusCreated).text(t, "ticket")
	next := p.anybody(t).post("/api/auth/refresh", map[string]any{"refresh_token": ada.refresh}).ok(t, http.StatusOK).text(t, "refresh_token")
	p.anybody(t).post("/api/auth/login", map[string]any{"email": ada.email, "password": "not the right one"}).problem(t, http.StatusUnauthorized, "invalid_credentials")
	p.anybody(t).get("/api/users/me", "Authorization", "Bearer "+ada.token+"x").problem(t, http.StatusUnauthorized, "unauthorized")
	paid := bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "logged").ok(t, http.StatusCreated)
	ada.mustOpenUpload(stream, 1000)
	ada.get("/api/users/me", "X-Request-ID", "the-one").ok(t, http.StatusOK)
	p.anybody(t).post("/api/auth/logout", map[string]any{"refresh_token": next}).ok(t, http.StatusNoContent)

	require.Empty(t, telemetrytest.Leaks(log.Bytes(), password, "not the right one", ada.token, ada.refresh, next, ticket, paid.text(t, "client_secret"), ada.email))
	var line map[string]any
	for _, text := range bytes.Split(log.Bytes(), []byte("\n")) {
		if bytes.Contains(text, []byte(`"the-one"`)) {
			require.Nil(t, line, "one line a request")
			require.NoError(t, json.Unmarshal(text, &line))
		}
	}
	require.Equal(t, "/api/users/me", line["route"])
	require.EqualValues(t, http.StatusOK, line["status"])
	require.Equal(t, ada.id, line["user_id"])
	require.Positive(t, line["db_query_time_ms"])
	require.GreaterOrEqual(t, line["response_time_ms"], line["db_query_time_ms"])
	require.Contains(t, line, "external_api_time_ms")
}
