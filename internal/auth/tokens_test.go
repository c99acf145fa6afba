package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
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
	t.Parallel()
	tokens, _ := newTokens(t, time.Now)
	identity := livestream.Identity{UserID: uuid.New(), Role: livestream.RoleAdmin, FamilyID: uuid.New()}
	access, err := tokens.Issue(identity)
	require.NoError(t, err)

	got, err := tokens.Verify(access)

	require.NoError(t, err)
	require.Equal(t, identity, got)
}

func TestAccessTokenExpiresAfterAnHour(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tokens, _ := newTokens(t, func() time.Time { return now })
	access, err := tokens.Issue(livestream.Identity{UserID: uuid.New()})
	require.NoError(t, err)
	now = now.Add(livestream.AccessTokenLifetime - time.Second)
	_, err = tokens.Verify(access)
	require.NoError(t, err)
	now = now.Add(10 * time.Second)

	_, err = tokens.Verify(access)

	require.Equal(t, livestream.CodeUnauthorized, livestream.CodeOf(err))
}

func TestForgedAccessTokensAreRefused(t *testing.T) {
	t.Parallel()
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
			t.Parallel()
			token := jwt.NewWithClaims(forged.method, forged.claims)
			token.Header["typ"], token.Header["kid"] = forged.typ, forged.kid
			signed, err := token.SignedString(forged.key)
			require.NoError(t, err)

			_, err = tokens.Verify(signed)

			require.Equal(t, livestream.CodeUnauthorized, livestream.CodeOf(err))
		})
	}
	// The same claims, signed as they should be, are good: each of the above
	// differs from them in what its name says.
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, good)
	token.Header["typ"], token.Header["kid"] = "at+jwt", key
	signed, err := token.SignedString(private)
	require.NoError(t, err)
	_, err = tokens.Verify(signed)
	require.NoError(t, err)
}

func TestTamperedAccessTokensAreRefused(t *testing.T) {
	t.Parallel()
	tokens, _ := newTokens(t, time.Now)
	access, err := tokens.Issue(livestream.Identity{UserID: uuid.New(), Role: livestream.RoleMember})
	require.NoError(t, err)
	parts := strings.Split(access, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	promoted := bytes.Replace(payload, []byte(`"member"`), []byte(`"admin"`), 1)
	require.NotEqual(t, payload, promoted)
	refresh, _ := tokens.NewRefresh()
	for name, forged := range map[string]string{
		"another role":             parts[0] + "." + base64.RawURLEncoding.EncodeToString(promoted) + "." + parts[2],
		"no signature":             parts[0] + "." + parts[1] + ".",
		"no signature part":        parts[0] + "." + parts[1],
		"a part too many":          access + ".x",
		"twice":                    access + access,
		"blank behind":             access + " ",
		"line break within":        parts[0] + "." + parts[1] + "\n." + parts[2],
		"nothing":                  "",
		"dots":                     "..",
		"a refresh token":          refresh,
		"padding":                  access + "=",
		"another's signature":      parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, ed25519.SignatureSize)),
		"header that is no header": base64.RawURLEncoding.EncodeToString([]byte("[]")) + "." + parts[1] + "." + parts[2],
	} {
		_, err := tokens.Verify(forged)
		require.Equal(t, livestream.CodeUnauthorized, livestream.CodeOf(err), name)
		var refused *livestream.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "the access token is not valid or has expired", refused.Message, "nobody is told what was wrong")
	}
}

// Any number of API processes issue and verify tokens with one key; their clocks
// are not quite the same.
func TestClocksMayDifferALittle(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	ahead := func(by time.Duration) *auth.Tokens {
		tokens, err := auth.NewTokens(private, func() time.Time { return now.Add(by) })
		require.NoError(t, err)
		return tokens
	}
	for by, good := range map[time.Duration]bool{3 * time.Second: true, time.Minute: false} {
		access, err := ahead(by).Issue(livestream.Identity{UserID: uuid.New()})
		require.NoError(t, err)
		_, err = ahead(0).Verify(access)
		require.Equal(t, good, err == nil, "issued %s ahead", by)
	}
}

// Others verify our tokens with what we publish.
func TestPublishedKeyVerifies(t *testing.T) {
	t.Parallel()
	tokens, private := newTokens(t, time.Now)
	access, err := tokens.Issue(livestream.Identity{UserID: uuid.New()})
	require.NoError(t, err)
	keys := tokens.JWKS()
	require.Len(t, keys, 1)
	published, err := json.Marshal(keys[0])
	require.NoError(t, err)
	require.NotContains(t, string(published), `"d"`, "the private part stays here")

	parsed, err := jwt.Parse(access, func(token *jwt.Token) (any, error) {
		require.Equal(t, keys[0].KeyID, token.Header["kid"])
		require.Equal(t, keys[0].Alg, token.Method.Alg())
		x, err := base64.RawURLEncoding.DecodeString(keys[0].X)
		return ed25519.PublicKey(x), err
	})

	require.NoError(t, err)
	require.True(t, parsed.Valid)
	again, err := auth.NewTokens(private, time.Now)
	require.NoError(t, err)
	require.Equal(t, keys, again.JWKS(), "the id of a key is its own")
}

func TestLoadTokens(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ours, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	other, err := x509.MarshalPKCS8PrivateKey(curve)
	require.NoError(t, err)
	encoded := func(content []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: content})
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		content []byte
		err     string // empty: it is loaded
	}{
		"ours":    {encoded(ours), ""},
		"other":   {encoded(other), "openssl genpkey -algorithm ed25519"},
		"text":    {[]byte("secret"), "openssl genpkey -algorithm ed25519"},
		"damaged": {encoded(ours[:10]), "the key of the access tokens"},
		"nothing": {nil, "not PEM"},
		"raw DER": {ours, "not PEM"},
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, c.content, 0o600))
		tokens, err := auth.LoadTokens(file, time.Now)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, name)
			require.NotContains(t, err.Error(), "secret", "the key's content is not repeated")
			continue
		}
		require.NoError(t, err)
		_, err = tokens.Issue(livestream.Identity{UserID: uuid.New()})
		require.NoError(t, err)
	}
	_, err = auth.LoadTokens(filepath.Join(dir, "missing"), time.Now)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What is accepted says what we signed, and nothing makes Verify panic.
func FuzzVerify(f *testing.F) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	now := func() time.Time { return time.Unix(1_700_000_000, 0) }
	tokens, err := auth.NewTokens(private, now)
	require.NoError(f, err)
	identity := livestream.Identity{UserID: uuid.MustParse("018f3b1e-0000-7000-8000-000000000001"), Role: livestream.RoleAdmin}
	access, err := tokens.Issue(identity)
	require.NoError(f, err)
	f.Add(access)
	f.Add("")
	f.Add("..")
	f.Add("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.e30.")
	f.Add(strings.Replace(access, ".", "..", 1))
	f.Add(access[:len(access)-1])
	f.Fuzz(func(t *testing.T, token string) {
		got, err := tokens.Verify(token)
		if err == nil {
			require.Equal(t, identity, got)
			return
		}
		require.Equal(t, livestream.CodeUnauthorized, livestream.CodeOf(err))
		require.Zero(t, got)
	})
}

func TestRefreshTokenHasOneSuccessor(t *testing.T) {
	t.Parallel()
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
