package auth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
)

func newTokens(t *testing.T, now func() time.Time) (*auth.Tokens, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	tokens, err := auth.NewTokens(private, now)
	require.NoError(t, err)
	return tokens, private
}

func TestAccessTokenSaysWhoItBelongsTo(t *testing.T) {
	tokens, _ := newTokens(t, time.Now)
	identity := livestream.Identity{UserID: uuid.New(), Role: livestream.RoleAdmin, FamilyID: uuid.New()}
	access, err := tokens.Issue(identity)
	require.NoError(t, err)

	got, err := tokens.Verify(access)

	require.NoError(t, err)
	require.Equal(t, identity, got)
}

func TestAccessTokenExpiresAfterAnHour(t *testing.T) {
	now := time.Now()
	tokens, _ := newTokens(t, func() time.Time { return now })
	access, err := tokens.Issue(livestream.Identity{UserID: uuid.New()})
	require.NoError(t, err)
	now = now.Add(livestream.AccessTokenLifetime + time.Second)

	_, err = tokens.Verify(access)

	require.Equal(t, livestream.CodeUnauthorized, livestream.CodeOf(err))
}

func TestForgedAccessTokensAreRefused(t *testing.T) {
	tokens, private := newTokens(t, time.Now)
	key := tokens.JWKS()[0].KeyID
	good := jwt.MapClaims{
		"iss": "livestream", "aud": "livestream-api", "sub": uuid.NewString(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	with := func(name string, value any) jwt.MapClaims {
		changed := jwt.MapClaims{}
		for k, v := range good {
			changed[k] = v
		}
		changed[name] = value
		return changed
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	public := private.Public().(ed25519.PublicKey)
	for name, forged := range map[string]struct {
		method jwt.SigningMethod
		key    any
		typ    string
		kid    string
		claims jwt.MapClaims
	}{
		"no algorithm":         {jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "at+jwt", key, good},
		"public key as secret": {jwt.SigningMethodHS256, []byte(public), "at+jwt", key, good},
		"another key":          {jwt.SigningMethodEdDSA, other, "at+jwt", key, good},
		"another type":         {jwt.SigningMethodEdDSA, private, "JWT", key, good},
		"another key id":       {jwt.SigningMethodEdDSA, private, "at+jwt", "x", good},
		"another audience":     {jwt.SigningMethodEdDSA, private, "at+jwt", key, with("aud", "elsewhere")},
		"another issuer":       {jwt.SigningMethodEdDSA, private, "at+jwt", key, with("iss", "elsewhere")},
		"no expiry":            {jwt.SigningMethodEdDSA, private, "at+jwt", key, with("exp", nil)},
		"subject is not an id": {jwt.SigningMethodEdDSA, private, "at+jwt", key, with("sub", "root")},
		"issued in the future": {jwt.SigningMethodEdDSA, private, "at+jwt", key, with("iat", time.Now().Add(time.Hour).Unix())},
		"expired":              {jwt.SigningMethodEdDSA, private, "at+jwt", key, with("exp", time.Now().Add(-time.Minute).Unix())},
	} {
		t.Run(name, func(t *testing.T) {
			token := jwt.NewWithClaims(forged.method, forged.claims)
			token.Header["typ"], token.Header["kid"] = forged.typ, forged.kid
			signed, err := token.SignedString(forged.key)
			require.NoError(t, err)

			_, err = tokens.Verify(signed)

			require.Equal(t, livestream.CodeUnauthorized, livestream.CodeOf(err))
		})
	}
}

func TestRefreshTokenHasOneSuccessor(t *testing.T) {
	tokens, _ := newTokens(t, time.Now)
	first, hash := tokens.NewRefresh()
	second, _ := tokens.NewRefresh()
	require.NotEqual(t, first, second)
	require.Equal(t, hash, tokens.HashRefresh(first))

	next, nextHash := tokens.Successor(first)
	again, againHash := tokens.Successor(first)
	elsewhere, _ := newTokens(t, time.Now)
	foreign, _ := elsewhere.Successor(first)

	require.Equal(t, next, again)
	require.Equal(t, nextHash, againHash)
	require.NotEqual(t, next, foreign, "without the key nobody can tell the successor")
}

func TestPasswords(t *testing.T) {
	p := auth.NewPasswords()
	hash, err := p.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	for _, c := range []struct {
		password, hash string
		want           bool
	}{{"correct horse battery", hash, true}, {"wrong horse battery", hash, false}, {"correct horse battery", "", false}} {
		got, err := p.Verify(t.Context(), c.password, c.hash)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	again, err := p.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	require.NotEqual(t, hash, again, "each has its own salt")
}
