package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestAnswerToAWriteSaysHowFarToReadAfter(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	first, err := livestream.ParsePosition(ada.do(http.MethodPatch, "/api/users/me", map[string]any{"bio": "one"}).ok(t, http.StatusOK).header.Get("X-Read-After"))
	require.NoError(t, err)
	second, err := livestream.ParsePosition(ada.do(http.MethodPatch, "/api/users/me", map[string]any{"bio": "two"}).ok(t, http.StatusOK).header.Get("X-Read-After"))
	require.NoError(t, err)
	require.Greater(t, second, first)
	got := p.anybody(t).get("/api/users/"+ada.id, "X-Read-After", second.String()).ok(t, http.StatusOK)
	require.Equal(t, "two", got.text(t, "bio"))
	p.anybody(t).get("/api/users/"+ada.id, "X-Read-After", "FFFFFFFF/FFFFFFFF").ok(t, http.StatusOK) // forged: the primary answers
	p.anybody(t).get("/api/users/"+ada.id, "X-Read-After", "soon").problem(t, http.StatusBadRequest, "invalid_request")
}
