package httpapi_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/httpapi"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

func TestContractIsValidAndHasExamples(t *testing.T) {
	t.Parallel()
	contract, err := httpapi.LoadContract()
	require.NoError(t, err)
	require.NoError(t, contract.Validate(t.Context(), openapi3.EnableExamplesValidation()))
	for path, item := range contract.Paths.Map() {
		for method, operation := range item.Operations() {
			require.NotEmpty(t, operation.OperationID, "%s %s", method, path)
			require.NotEmpty(t, operation.Summary, "%s %s", method, path)
			require.NotNil(t, operation.Responses.Default(), "%s %s says nothing of errors", method, path)
			if operation.RequestBody != nil {
				require.NotNil(t, operation.RequestBody.Value.Content.Get("application/json").Example, "%s %s", method, path)
			}
			for status, response := range operation.Responses.Map() {
				for _, media := range response.Value.Content {
					require.True(t, media.Example != nil || media.Schema.Value.Example != nil, "the answer %s of %s %s", status, method, path)
				}
			}
			for _, parameter := range slices.Concat(item.Parameters, operation.Parameters) {
				if parameter.Value.In == openapi3.ParameterInPath {
					require.NotNil(t, parameter.Value.Example, "%s of %s %s", parameter.Value.Name, method, path)
				}
			}
		}
	}
}

func TestDocumentsNeedNoOtherHost(t *testing.T) {
	nobody := api(t).anybody(t)
	yaml := nobody.get("/openapi.yaml").ok(t, http.StatusOK)
	require.Contains(t, string(yaml.body), "openapi: 3.0")
	page := nobody.get("/docs").ok(t, http.StatusOK)
	require.Contains(t, page.header.Get("Content-Type"), "text/html")
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(string(page.body), -1)
	require.NotEmpty(t, assets)
	for _, asset := range assets {
		require.True(t, strings.HasPrefix(asset[1], "/docs/"), "%s is on another host", asset[1])
		nobody.get(asset[1]).ok(t, http.StatusOK)
	}
}

func TestWhatIsNotThereIsAProblem(t *testing.T) {
	nobody := api(t).anybody(t)
	nobody.get("/api/nothing").problem(t, http.StatusNotFound, "not_found")
	nobody.do(http.MethodDelete, "/api/streams", nil).problem(t, http.StatusMethodNotAllowed, "method_not_allowed")
	nobody.get("/api/streams/"+uuid.NewString()).problem(t, http.StatusNotFound, "stream_not_found")
	nobody.get("/api/archives/"+uuid.NewString()).problem(t, http.StatusNotFound, "archive_not_found")
	for _, id := range []string{"x", "{" + uuid.NewString() + "}", strings.ReplaceAll(uuid.NewString(), "-", ""), "urn:uuid:" + uuid.NewString()} {
		nobody.get("/api/streams/"+id).problem(t, http.StatusBadRequest, "invalid_request")
	}
}

func TestRootLeadsToTheDocuments(t *testing.T) {
	nobody := api(t).anybody(t)
	require.Contains(t, nobody.get("/").ok(t, http.StatusOK).header.Get("Content-Type"), "text/html", "by a redirect to /docs")
}

func TestHeadIsAGetWithoutItsBody(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	for _, path := range []string{"/api/users/" + ada.id, "/api/users/me", "/health", "/openapi.yaml", "/docs"} {
		get, head := ada.get(path).ok(t, http.StatusOK), ada.do(http.MethodHead, path, nil).ok(t, http.StatusOK)
		require.Empty(t, head.body, path)
		require.Equal(t, get.header.Get("Content-Type"), head.header.Get("Content-Type"), path)
	}
	for path, status := range map[string]int{
		"/api/users/" + uuid.NewString(): http.StatusNotFound, "/api/users/x": http.StatusBadRequest, "/api/auth/login": http.StatusMethodNotAllowed,
	} {
		require.Equal(t, status, ada.do(http.MethodHead, path, nil).status, path)
	}
	require.Equal(t, http.StatusUnauthorized, p.anybody(t).do(http.MethodHead, "/api/users/me", nil).status)
}

// A client shows these beside its fields.
func TestEachFieldIsRefusedOnceAndInWords(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	with := func(changes map[string]any) map[string]any {
		in := tip(bob.id)
		for field, v := range changes {
			in[field] = v
			if v == "missing" {
				delete(in, field)
			}
		}
		return in
	}
	for _, c := range []struct {
		path           string
		in             map[string]any
		field, message string
	}{
		{"/api/streams", map[string]any{"title": ""}, "title", "is shorter than 1 characters"},
		{"/api/streams", map[string]any{"title": " "}, "title", "does not have the form that the contract asks for"},
		{"/api/streams", map[string]any{"title": strings.Repeat("t", 141)}, "title", "is longer than 140 characters"},
		{"/api/streams", map[string]any{"title": nil}, "title", "may not be null"},
		{"/api/streams", map[string]any{"title": 7}, "title", "is not of the type string"},
		{"/api/streams", map[string]any{}, "title", "is missing"},
		{"/api/streams", map[string]any{"title": "t", "ingest": "srt"}, "ingest", "is none of [external rtmp]"},
		{"/api/streams", map[string]any{"title": "t", "tags": make([]string, 11)}, "tags", "has more than 10 entries"},
		{"/api/streams", map[string]any{"title": "t", "admin": true}, "body", `"admin" is no field of it`},
		{"/api/transactions", with(map[string]any{"amount": 49}), "amount", "is less than 50"},
		{"/api/transactions", with(map[string]any{"amount": 1e9}), "amount", "is more than 99999999"},
		{"/api/transactions", with(map[string]any{"currency": "zzz"}), "currency", "is no currency of ISO 4217"},
		{"/api/transactions", with(map[string]any{"currency": "USD"}), "currency", "does not have the form that the contract asks for"},
		{"/api/transactions", with(map[string]any{"recipient_id": "x"}), "recipient_id", "is no uuid"},
	} {
		problem := ada.post(c.path, c.in, "Idempotency-Key", "k").problem(t, http.StatusBadRequest, "invalid_request")
		fields, _ := problem["errors"].([]any)
		seen := map[any]bool{}
		for _, f := range fields {
			entry := f.(map[string]any)
			require.False(t, seen[entry["field"]], "%v", fields)
			seen[entry["field"]] = true
		}
		require.Contains(t, fields, any(map[string]any{"field": c.field, "message": c.message}))
	}
}

func TestRequestIDIsEchoedOrMade(t *testing.T) {
	nobody := api(t).anybody(t)
	require.Equal(t, "trace-7", nobody.get("/health", "X-Request-ID", "trace-7").ok(t, http.StatusOK).header.Get("X-Request-ID"))
	for _, bad := range []string{"", strings.Repeat("x", 129), "with blank"} {
		_, err := uuid.Parse(nobody.get("/health", "X-Request-ID", bad).header.Get("X-Request-ID"))
		require.NoError(t, err)
	}
}

func TestTicketsAreForTheirPurpose(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	stream := ada.mustStart(nil)
	got := ada.post("/api/ws-tickets", map[string]any{"purpose": "chat", "stream_id": stream}).ok(t, http.StatusCreated)
	require.Equal(t, "ws://chat.test/ws/streams/"+stream+"/chat?ticket="+got.text(t, "ticket"), got.text(t, "url"))
	require.EqualValues(t, 30, got.json(t)["expires_in"])
	got = ada.post("/api/ws-tickets", map[string]any{"purpose": "notifications"}).ok(t, http.StatusCreated)
	require.Equal(t, "ws://chat.test/ws/notifications?ticket="+got.text(t, "ticket"), got.text(t, "url"))
	ada.post("/api/ws-tickets", map[string]any{"purpose": "chat"}).problem(t, http.StatusBadRequest, "invalid_request")
	ada.post("/api/ws-tickets", map[string]any{"purpose": "notifications", "stream_id": stream}).problem(t, http.StatusBadRequest, "invalid_request")
	ada.post("/api/ws-tickets", map[string]any{"purpose": "chat", "stream_id": uuid.NewString()}).problem(t, http.StatusNotFound, "stream_not_found")
	p.anybody(t).post("/api/ws-tickets", map[string]any{"purpose": "notifications"}).problem(t, http.StatusUnauthorized, "unauthorized")
}

func TestHealthReadyAndMetrics(t *testing.T) {
	p := api(t)
	nobody := p.anybody(t)
	require.Equal(t, "ok", nobody.get("/health").ok(t, http.StatusOK).text(t, "status"))
	ready := nobody.get("/ready").ok(t, http.StatusOK)
	require.Equal(t, "ok", ready.text(t, "status"), "%s", ready.body)
	for _, name := range []string{"postgres", "replicas", "redis", "temporal", "s3"} {
		require.Contains(t, ready.json(t)["checks"], name)
	}
	nobody.get("/api/users/" + uuid.NewString())
	metrics := string(nobody.get("/metrics").ok(t, http.StatusOK).body)
	require.Contains(t, metrics, `http_request_duration_seconds_count{method="GET",route="/api/users/:user_id",status="404"}`)
}

func TestDrainingIsSeenButStillServes(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{noWorkers: true})
	p.server.Drain()
	p.anybody(t).get("/health").problem(t, http.StatusServiceUnavailable, "unavailable")
	p.anybody(t).get("/api/streams").ok(t, http.StatusOK)
}

// nowhere is an address where nothing listens.
func nowhere(t *testing.T) string {
	t.Helper()
	address, err := devstack.FreeAddress(t.Context())
	require.NoError(t, err)
	return address
}

func TestDependencyThatIsDownIsSaidQuicklyAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	quickly := func(t *testing.T, ask func() answer) {
		t.Helper()
		began := time.Now()
		got := ask()
		got.problem(t, http.StatusServiceUnavailable, "unavailable")
		require.NotEmpty(t, got.header.Get("Retry-After"))
		require.NotContains(t, string(got.body), "127.0.0.1", "no host in an error")
		require.Less(t, time.Since(began), 10*time.Second, "a hang")
	}
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		p := newProduct(t, options{databaseURL: "postgres://nobody@" + nowhere(t) + "/none", noWorkers: true})
		quickly(t, func() answer { return p.anybody(t).get("/api/streams") })
		require.Equal(t, "down", p.anybody(t).get("/ready").ok(t, http.StatusServiceUnavailable).text(t, "status"))
	})
	t.Run("temporal", func(t *testing.T) {
		t.Parallel()
		p := newProduct(t, options{temporalAddress: nowhere(t), noWorkers: true})
		ada := p.mustRegister(t)
		quickly(t, func() answer { return ada.post("/api/streams", map[string]any{"title": "not now"}) })
		ada.get("/api/streams").ok(t, http.StatusOK)
		require.Equal(t, "degraded", ada.get("/ready").ok(t, http.StatusOK).text(t, "status"))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		p := newProduct(t, options{redisURL: "redis://" + nowhere(t) + "/0"})
		ada := p.mustRegister(t)
		quickly(t, func() answer { return ada.post("/api/ws-tickets", map[string]any{"purpose": "notifications"}) })
		id := ada.mustStart(nil)
		ada.get("/api/streams/"+id).ok(t, http.StatusOK)
		ada.mustEnd(id)
		require.Equal(t, "degraded", ada.get("/ready").ok(t, http.StatusOK).text(t, "status"))
	})
}
