package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestRegisterGivesTokensThatWork(t *testing.T) {
	ada := api(t).mustRegister(t)
	me := ada.get("/api/users/me").ok(t, http.StatusOK)
	require.Equal(t, ada.email, me.text(t, "email"))
	require.Equal(t, ada.name, me.text(t, "display_name"), "the username stands in for a name that was not given")
	require.Equal(t, "member", me.text(t, "role"))
}

func TestRegisterRefusesWhatIsTaken(t *testing.T) {
	p := api(t)
	ada, other := p.mustRegister(t), "n"+uuid.NewString()[:8]
	nobody := p.anybody(t)
	nobody.post("/api/auth/register", map[string]any{"username": strings.ToUpper(ada.name), "email": other + "@example.com", "password": password}).
		problem(t, http.StatusConflict, "username_taken")
	nobody.post("/api/auth/register", map[string]any{"username": other, "email": strings.ToUpper(ada.email), "password": password}).
		problem(t, http.StatusConflict, "email_taken")
}

func TestRegisterRefusesBadInput(t *testing.T) {
	nobody := api(t).anybody(t)
	good := func() map[string]any {
		return map[string]any{"username": "good_name", "email": "good@example.com", "password": password}
	}
	for field, values := range map[string][]any{
		"username":     {"ab", strings.Repeat("a", 31), "with blank", "ünicode", 7, nil},
		"email":        {"nobody", "a@b", "@example.com", strings.Repeat("a", 250) + "@example.com", true},
		"password":     {"short", strings.Repeat("a", 129)},
		"display_name": {"", strings.Repeat("a", 51)},
		"admin":        {true},
	} {
		for _, v := range values {
			in := good()
			in[field] = v
			nobody.post("/api/auth/register", in).problem(t, http.StatusBadRequest, "invalid_request")
		}
	}
	for _, field := range []string{"username", "email", "password"} {
		in := good()
		delete(in, field)
		nobody.post("/api/auth/register", in).problem(t, http.StatusBadRequest, "invalid_request")
	}
}

func TestLoginSaysTheSameOfAnUnknownAddressAndAWrongPassword(t *testing.T) {
	p := api(t)
	ada, nobody := p.mustRegister(t), p.anybody(t)
	nobody.post("/api/auth/login", map[string]any{"email": strings.ToUpper(ada.email), "password": password}).ok(t, http.StatusOK)
	wrong := nobody.post("/api/auth/login", map[string]any{"email": ada.email, "password": "not the right one"}).
		problem(t, http.StatusUnauthorized, "invalid_credentials")
	unknown := nobody.post("/api/auth/login", map[string]any{"email": "nobody-" + ada.email, "password": password}).
		problem(t, http.StatusUnauthorized, "invalid_credentials")
	require.Equal(t, wrong["detail"], unknown["detail"])
}

func TestRefreshRotatesAndGivesTheSameSuccessorWithinTheGrace(t *testing.T) {
	p := api(t)
	ada, nobody := p.mustRegister(t), p.anybody(t)
	first := nobody.post("/api/auth/refresh", map[string]any{"refresh_token": ada.refresh}).ok(t, http.StatusOK)
	again := nobody.post("/api/auth/refresh", map[string]any{"refresh_token": ada.refresh}).ok(t, http.StatusOK)
	require.NotEqual(t, ada.refresh, first.text(t, "refresh_token"))
	require.Equal(t, first.text(t, "refresh_token"), again.text(t, "refresh_token"), "the first answer may have been lost")
	nobody.post("/api/auth/refresh", map[string]any{"refresh_token": "never-was-one"}).problem(t, http.StatusUnauthorized, "invalid_refresh_token")
}

func TestRefreshUsedTwiceRevokesTheFamily(t *testing.T) {
	p := api(t)
	ada, nobody := p.mustRegister(t), p.anybody(t)
	next := nobody.post("/api/auth/refresh", map[string]any{"refresh_token": ada.refresh}).ok(t, http.StatusOK).text(t, "refresh_token")
	p.exec(t, "UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds' WHERE used_at IS NOT NULL AND session_id IN (SELECT id FROM sessions WHERE user_id = $1)", ada.id)
	nobody.post("/api/auth/refresh", map[string]any{"refresh_token": ada.refresh}).problem(t, http.StatusUnauthorized, "refresh_token_reused")
	nobody.post("/api/auth/refresh", map[string]any{"refresh_token": next}).problem(t, http.StatusUnauthorized, "invalid_refresh_token")
}

func TestLogoutNeedsNoAccessTokenAndRevokesTheFamily(t *testing.T) {
	p := api(t)
	ada, nobody := p.mustRegister(t), p.anybody(t)
	for range 2 {
		nobody.post("/api/auth/logout", map[string]any{"refresh_token": ada.refresh}).ok(t, http.StatusNoContent)
	}
	nobody.post("/api/auth/refresh", map[string]any{"refresh_token": ada.refresh}).problem(t, http.StatusUnauthorized, "invalid_refresh_token")
	nobody.post("/api/auth/logout", map[string]any{"refresh_token": "unknown"}).ok(t, http.StatusNoContent)
}

func TestBadTokensAreRefusedOnPublicReadsToo(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	for _, header := range []string{"Bearer nonsense", "Bearer ", "Basic YTpi", "Bearer " + ada.token + "x"} {
		for _, path := range []string{"/api/users/" + ada.id, "/api/users/me", "/api/streams"} {
			got := p.anybody(t).get(path, "Authorization", header)
			got.problem(t, http.StatusUnauthorized, "unauthorized")
			require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
		}
	}
	p.anybody(t).get("/api/users/me").problem(t, http.StatusUnauthorized, "unauthorized")
}

func TestJWKSVerifyTheAccessTokens(t *testing.T) {
	p := api(t)
	keys, _ := p.anybody(t).get("/.well-known/jwks.json").ok(t, http.StatusOK).json(t)["keys"].([]any)
	require.Len(t, keys, 1)
	require.Equal(t, p.tokens.JWKS()[0].X, keys[0].(map[string]any)["x"])
	_, err := p.tokens.Verify(p.mustRegister(t).token)
	require.NoError(t, err)
}
