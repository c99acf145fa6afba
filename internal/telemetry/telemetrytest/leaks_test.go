package telemetrytest_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/telemetry/telemetrytest"
)

func TestLeaks(t *testing.T) {
	t.Parallel()
	tokens, err := auth.NewTokens(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), time.Now)
	require.NoError(t, err)
	access, err := tokens.Issue(livestream.Identity{UserID: uuid.New()})
	require.NoError(t, err)
	refresh, _ := tokens.NewRefresh()
	hash, err := auth.NewPasswords().Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	for what, text := range map[string]string{
		"an access token":           access,
		"an Authorization header":   "authorization: bearer 0123456789",
		"an e-mail address":         "ada+1@mail.example.com is taken",
		"a password's hash":         hash,
		"a Stripe key":              "sk_test_123",
		"a webhook's secret":        "whsec_123",
		"a payment's client secret": "pi_3_secret_4",
		"a private key":             "-----BEGIN PRIVATE KEY-----",
		"a password in an address":  "dial redis://:hunter2@127.0.0.1:6379/0",
		"a signed address":          "/bucket/key?X-Amz-Signature=abc",
		"a ticket":                  "/ws/chat?stream_id=1&ticket=abc",
		refresh:                     "refresh " + refresh,
		"correct horse":             "password: correct horse",
	} {
		found := telemetrytest.Leaks([]byte(`{"msg":"ok"}`+"\n"+`{"msg":"request","error":"`+text+`"}`), refresh, "correct horse", "")
		require.NotEmpty(t, found, what)
		require.Contains(t, found[0], "line 2")
		require.Contains(t, found[0], what)
	}
}

// What lines are full of is no secret.
func TestACleanLogHasNoLeaks(t *testing.T) {
	t.Parallel()
	require.Empty(t, telemetrytest.Leaks([]byte(`{"level":"info","time":"2026-01-02T03:04:05.678901234Z","caller":"httpapi/middleware.go:88","msg":"request","role":"api","request_id":"018f3b1e-0000-7000-8000-000000000001","method":"POST","route":"/api/users/:user_id/follow","status":204,"response_time_ms":1.25,"db_query_time_ms":0.75,"external_api_time_ms":0,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}
{"level":"warn","msg":"waiting for Temporal","address":"127.0.0.1:7233","error":"dial tcp 127.0.0.1:7233: connect: connection refused"}
{"level":"error","msg":"insert user","error":"ERROR: duplicate key value violates unique constraint \"users_email_key\" (SQLSTATE 23505)"}
{"level":"warn","msg":"traces","error":"Post \"http://127.0.0.1:4318/v1/traces\": EOF","WorkflowID":"payment/018f3b1e-0000-7000-8000-000000000001/tip-1"}
`), "hunter2"))
}
