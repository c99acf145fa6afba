package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/httpapi"
)

func TestWhoAsksTooOftenIsToldWhenToComeBack(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{noWorkers: true, limits: httpapi.Limits{ReadsPerMinute: 5, WritesPerMinute: 3}})
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	for left := 4; left >= 0; left-- {
		got := ada.get("/api/users/me").ok(t, http.StatusOK)
		require.Equal(t, `"read";q=5;w=60`, got.header.Get("RateLimit-Policy"))
		require.Contains(t, got.header.Get("RateLimit"), `"read";r=`+string(rune('0'+left))+`;t=`)
	}
	got := ada.get("/api/users/me")
	got.problem(t, http.StatusTooManyRequests, "rate_limited")
	require.NotEmpty(t, got.header.Get("Retry-After"))
	bob.get("/api/users/me").ok(t, http.StatusOK) // limits are each member's own
	ada.do(http.MethodPatch, "/api/users/me", map[string]any{"bio": "x"}).ok(t, http.StatusOK)
	p.anybody(t).get("/health").ok(t, http.StatusOK)
	for range 5 {
		p.anybody(t).get("/api/streams").ok(t, http.StatusOK)
	}
	p.anybody(t).get("/api/streams", "X-Forwarded-For", "203.0.113.9").
		problem(t, http.StatusTooManyRequests, "rate_limited") // nobody believes that header
}

func TestPasswordsCannotBeGuessedForLong(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{noWorkers: true, limits: httpapi.Limits{LoginsPerAccount: 3}})
	ada := p.mustRegister(t)
	for range 3 {
		p.anybody(t).post("/api/auth/login", map[string]any{"email": ada.email, "password": "guess after guess"}).
			problem(t, http.StatusUnauthorized, "invalid_credentials")
	}
	p.anybody(t).post("/api/auth/login", map[string]any{"email": ada.email, "password": password}).
		problem(t, http.StatusTooManyRequests, "rate_limited")
	other := p.mustRegister(t)
	p.anybody(t).post("/api/auth/login", map[string]any{"email": other.email, "password": password}).ok(t, http.StatusOK)
}
