package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPagesOfAllowedOriginsMayReadAnswers(t *testing.T) {
	nobody := api(t).anybody(t)
	got := nobody.get("/api/streams", "Origin", "https://app.test").ok(t, http.StatusOK)
	require.Equal(t, "https://app.test", got.header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, got.header.Values("Vary"), "Origin")
	preflight := nobody.do(http.MethodOptions, "/api/streams", nil, "Origin", "https://app.test", "Access-Control-Request-Method", "POST").ok(t, http.StatusNoContent)
	require.Contains(t, preflight.header.Get("Access-Control-Allow-Headers"), "Authorization")
	for _, origin := range []string{"https://evil.test", "null", "https://app.test.evil.test", "http://app.test"} {
		require.Empty(t, nobody.get("/api/streams", "Origin", origin).header.Get("Access-Control-Allow-Origin"), origin)
		refused := nobody.do(http.MethodOptions, "/api/streams", nil, "Origin", origin, "Access-Control-Request-Method", "POST")
		require.Empty(t, refused.header.Get("Access-Control-Allow-Methods"), origin)
	}
}

func TestAnswersAreNoPages(t *testing.T) {
	nobody := api(t).anybody(t)
	for _, path := range []string{"/api/streams", "/api/nothing", "/health"} {
		header := nobody.get(path).header
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"), path)
		require.Contains(t, header.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
	}
	require.Equal(t, "no-store", nobody.get("/api/streams").header.Get("Cache-Control"))
}
