package auth_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
)

// keyFiles are a key as an operator has it: private, and public alone.
type keyFiles struct{ private, public string }

func newKeyFiles(t *testing.T) keyFiles {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, kind string, content []byte, err error) string {
		require.NoError(t, err)
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
		return file
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	secret := write("private.pem", "PRIVATE KEY", pkcs8, err)
	pkix, err := x509.MarshalPKIXPublicKey(public)
	return keyFiles{secret, write("public.pem", "PUBLIC KEY", pkix, err)}
}

func load(t *testing.T, current keyFiles, previous ...string) *auth.Tokens {
	t.Helper()
	tokens, err := auth.LoadTokens(current.private, time.Now, previous...)
	require.NoError(t, err)
	return tokens
}

func keyIDs(tokens *auth.Tokens) []string {
	var ids []string
	for _, key := range tokens.JWKS() {
		ids = append(ids, key.KeyID)
	}
	return ids
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	older, newer := newKeyFiles(t), newKeyFiles(t)
	identity := livestream.Identity{UserID: uuid.New(), Role: livestream.RoleMember, FamilyID: uuid.New()}
	issue := func(tokens *auth.Tokens) string {
		access, err := tokens.Issue(identity)
		require.NoError(t, err)
		return access
	}
	refused := func(tokens *auth.Tokens, access string) {
		_, err := tokens.Verify(access)
		require.Equal(t, livestream.CodeUnauthorized, livestream.CodeOf(err))
	}
	good := func(tokens *auth.Tokens, access string) {
		got, err := tokens.Verify(access)
		require.NoError(t, err)
		require.Equal(t, identity, got)
	}
	before, after := load(t, older), load(t, newer)
	refused(before, issue(after))
	for name, file := range map[string]func(keyFiles) string{
		"private": func(k keyFiles) string { return k.private },
		"public":  func(k keyFiles) string { return k.public },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// First every process knows the next key, then they begin to sign with it
			// one after the other, and at last the old key goes.
			announced, rotated := load(t, older, file(newer)), load(t, newer, file(older))

			good(announced, issue(rotated))
			good(rotated, issue(announced))
			good(rotated, issue(before))
			require.Equal(t, append(keyIDs(before), keyIDs(after)...), keyIDs(announced), "others can verify the tokens of both")
			require.Equal(t, append(keyIDs(after), keyIDs(before)...), keyIDs(rotated), "the current key comes first")
			refused(after, issue(announced))
			require.Equal(t, keyIDs(after), keyIDs(load(t, newer, newer.private)), "a key that is named twice is one key")
		})
	}
}

// The key's id chooses the key: a token is not tried with each of them.
func TestTokenIsVerifiedWithTheKeyItNames(t *testing.T) {
	t.Parallel()
	_, older, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, newer, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	tokens, err := auth.NewTokens(newer, time.Now, auth.Key{Public: older.Public().(ed25519.PublicKey)})
	require.NoError(t, err)
	ids := keyIDs(tokens)
	for name, c := range map[string]struct {
		kid  any
		good bool
	}{
		"its own":     {ids[1], true},
		"the other's": {ids[0], false},
		"unknown":     {"AAAAAAAAAAA", false},
		"a number":    {7, false},
		"none":        {nil, false},
	} {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": "livestream", "aud": "livestream-api", "sub": uuid.NewString(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		})
		token.Header["typ"] = "at+jwt"
		if c.kid != nil {
			token.Header["kid"] = c.kid
		}
		signed, err := token.SignedString(older)
		require.NoError(t, err)
		_, err = tokens.Verify(signed)
		require.Equal(t, c.good, err == nil, name)
	}
}

// A client whose answer was lost asks again, and meets a process that has the
// next key by then: what it gets is what is stored.
func TestSuccessorStaysTheSameAcrossARotation(t *testing.T) {
	t.Parallel()
	older, newer := newKeyFiles(t), newKeyFiles(t)
	before, announced := load(t, older), load(t, older, newer.private)
	rotated := load(t, newer, older.private)
	first, _ := before.NewRefresh()

	lost, stored := before.Successor(first)
	_, meanwhile := announced.Successor(first)
	given, hash := rotated.Successor(first)

	require.Equal(t, stored, meanwhile)
	require.Equal(t, stored, hash)
	require.Equal(t, stored, rotated.HashRefresh(given), "it is found under what was stored")
	require.Equal(t, stored, rotated.HashRefresh(lost), "and so is the one that was lost, if it comes after all")

	// The next one belongs to the new key, also at a process that still signs with
	// the old one.
	_, next := rotated.Successor(given)
	_, same := announced.Successor(given)
	require.Equal(t, next, same)
	require.NotEqual(t, stored, next)

	// A public key cannot tell: the client logs in again.
	_, other := load(t, newer, older.public).Successor(first)
	require.NotEqual(t, stored, other)
}

// Refresh tokens live for a week: those from before keys had names go on.
func TestRefreshTokenWithoutAKeysName(t *testing.T) {
	t.Parallel()
	older, newer := newKeyFiles(t), newKeyFiles(t)
	tokens := load(t, older)
	named, hash := tokens.NewRefresh()
	_, secret, found := bytes.Cut([]byte(named), []byte("."))
	require.True(t, found)
	unnamed := string(secret)

	require.Equal(t, hash, tokens.HashRefresh(unnamed))
	_, one := tokens.Successor(unnamed)
	_, again := tokens.Successor(unnamed)
	require.Equal(t, one, again)
	_, foreign := load(t, newer).Successor(unnamed)
	require.NotEqual(t, one, foreign)
}

func TestPreviousKeysAreChecked(t *testing.T) {
	t.Parallel()
	ours := newKeyFiles(t)
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("hunter2"), 0o600))
	for name, c := range map[string]struct {
		current, previous, err string
	}{
		"public key signs":     {ours.public, ours.private, "signs nothing"},
		"previous is missing":  {ours.private, filepath.Join(t.TempDir(), "gone"), "no such file"},
		"previous is not PEM":  {ours.private, text, "not PEM"},
		"previous is no value": {ours.private, "", "read the key"},
	} {
		_, err := auth.LoadTokens(c.current, time.Now, c.previous)
		require.ErrorContains(t, err, c.err, name)
		require.NotContains(t, err.Error(), "hunter2", "the key's content is not repeated")
	}
}
