// Package auth makes and checks what identifies a member: access tokens, refresh
// tokens and passwords. It stores nothing.
package auth

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	issuer   = "livestream"
	audience = "livestream-api"
	// tokenType keeps other JWTs that the same key may sign from passing for
	// access tokens (RFC 9068).
	tokenType = "at+jwt"
	// clockSkew is how far the clocks of two API processes may be apart: a token
	// that one has just issued is good at the other.
	clockSkew = 5 * time.Second
)

// Key is an Ed25519 key that was used before, or is about to be.
type Key struct {
	Public ed25519.PublicKey
	// Private lets a refresh token that the key's process issued have the same
	// successor again. Nil: the key only verifies access tokens.
	Private ed25519.PrivateKey
}

// Tokens signs tokens with one Ed25519 key, and verifies those of others too, so
// that a key can be replaced while its tokens are in use.
type Tokens struct {
	private ed25519.PrivateKey
	keyID   string
	keys    []livestream.JWK             // the current one first
	public  map[string]ed25519.PublicKey // by key id
	refresh map[string][]byte            // what derives successors, by key id
	parser  *jwt.Parser
	now     func() time.Time

	mu       sync.RWMutex
	verified map[[sha256.Size]byte]verified // by the token's hash
}

// verified is a token whose signature was checked: that costs ten times as much as
// all else that a cached read does.
type verified struct {
	identity livestream.Identity
	until    time.Time
}

// maxVerified bounds how many tokens are remembered, at some 150 bytes each. When
// there are more, all begin anew.
const maxVerified = 20_000

// LoadTokens reads the current key from a PKCS#8 PEM file, and other keys that
// are good for verifying from files of the same kind or with public keys.
func LoadTokens(file string, now func() time.Time, previous ...string) (*Tokens, error) {
	current, err := readKey(file)
	if err != nil {
		return nil, err
	}
	if current.Private == nil {
		return nil, fmt.Errorf("the key of the access tokens in %s is a public one, which signs nothing; it may be among the previous ones", file)
	}
	keys := make([]Key, len(previous))
	for i, file := range previous {
		if keys[i], err = readKey(file); err != nil {
			return nil, err
		}
	}
	return NewTokens(current.Private, now, keys...)
}

func readKey(file string) (Key, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return Key{}, fmt.Errorf("read the key of the access tokens: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return Key{}, fmt.Errorf("the key of the access tokens in %s is not PEM; make one with: openssl genpkey -algorithm ed25519", file)
	}
	var key any
	if block.Type == "PUBLIC KEY" {
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return Key{}, fmt.Errorf("the key of the access tokens in %s: %w", file, err)
	}
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return Key{Public: key.Public().(ed25519.PublicKey), Private: key}, nil
	case ed25519.PublicKey:
		return Key{Public: key}, nil
	}
	return Key{}, fmt.Errorf("the key of the access tokens in %s is not Ed25519; make one with: openssl genpkey -algorithm ed25519", file)
}

// NewTokens signs with the private key; now is the clock. The tokens of the
// previous keys are good as well.
func NewTokens(private ed25519.PrivateKey, now func() time.Time, previous ...Key) (*Tokens, error) {
	t := &Tokens{
		private: private, keyID: keyID(private.Public().(ed25519.PublicKey)), now: now,
		public: map[string]ed25519.PublicKey{}, refresh: map[string][]byte{}, verified: map[[sha256.Size]byte]verified{},
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithTimeFunc(now), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding(),
		),
	}
	current := Key{Public: private.Public().(ed25519.PublicKey), Private: private}
	for _, key := range append([]Key{current}, previous...) {
		if err := t.add(key); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// keyID is a key's own: all processes, and others who verify, find the same.
func keyID(public ed25519.PublicKey) string {
	thumbprint := sha256.Sum256(public)
	return base64.RawURLEncoding.EncodeToString(thumbprint[:8])
}

func (t *Tokens) add(key Key) error {
	id := keyID(key.Public)
	if key.Private != nil {
		refresh, err := hkdf.Key(sha256.New, key.Private.Seed(), nil, "livestream refresh tokens", 32)
		if err != nil {
			return fmt.Errorf("derive a refresh key: %w", err)
		}
		t.refresh[id] = refresh
	}
	if _, twice := t.public[id]; twice {
		return nil
	}
	t.public[id] = key.Public
	t.keys = append(t.keys, livestream.JWK{
		KeyType: "OKP", Curve: "Ed25519", X: base64.RawURLEncoding.EncodeToString(key.Public),
		KeyID: id, Alg: jwt.SigningMethodEdDSA.Alg(), Use: "sig",
	})
	return nil
}

type claims struct {
	jwt.RegisteredClaims
	Role   livestream.Role `json:"role"`
	Family uuid.UUID       `json:"sid"`
}

// Issue makes an access token for an hour.
func (t *Tokens) Issue(identity livestream.Identity) (string, error) {
	now := t.now()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Subject: identity.UserID.String(), ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(livestream.AccessTokenLifetime)),
		},
		Role: identity.Role, Family: identity.FamilyID,
	})
	token.Header["typ"] = tokenType
	token.Header["kid"] = t.keyID
	signed, err := token.SignedString(t.private)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	return signed, nil
}

// Verify says who an access token belongs to.
//
// Errors: unauthorized.
func (t *Tokens) Verify(access string) (livestream.Identity, error) {
	hash := sha256.Sum256([]byte(access))
	t.mu.RLock()
	known, is := t.verified[hash]
	t.mu.RUnlock()
	if is && t.now().Before(known.until) {
		return known.identity, nil
	}
	identity, until, err := t.verify(access)
	if err != nil {
		return livestream.Identity{}, &livestream.Error{Code: livestream.CodeUnauthorized, Message: "the access token is not valid or has expired", Err: err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.verified) >= maxVerified {
		clear(t.verified)
	}
	t.verified[hash] = verified{identity, until}
	return identity, nil
}

// verify says who a token belongs to and how long it is good.
func (t *Tokens) verify(access string) (livestream.Identity, time.Time, error) {
	var c claims
	_, err := t.parser.ParseWithClaims(access, &c, func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		public, known := t.public[id]
		if token.Header["typ"] != tokenType || !known {
			return nil, errors.New("not an access token of ours")
		}
		return public, nil
	})
	if err != nil {
		return livestream.Identity{}, time.Time{}, err
	}
	id, err := uuid.Parse(c.Subject)
	if err != nil {
		return livestream.Identity{}, time.Time{}, err
	}
	return livestream.Identity{UserID: id, Role: c.Role, FamilyID: c.Family}, c.ExpiresAt.Add(clockSkew), nil
}

// JWKS lists the keys that verify access tokens, the current one first.
func (t *Tokens) JWKS() []livestream.JWK { return slices.Clone(t.keys) }

// NewRefresh makes the first refresh token of a login, and the hash under which
// it is stored.
func (t *Tokens) NewRefresh() (token string, hash []byte) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it never fails; see crypto/rand
	return t.refreshToken(secret[:])
}

// refreshToken is a secret and the key of its time: "<key id>.<secret>".
func (t *Tokens) refreshToken(secret []byte) (token string, hash []byte) {
	token = t.keyID + "." + base64.RawURLEncoding.EncodeToString(secret)
	return token, t.HashRefresh(token)
}

// Successor makes the refresh token that follows another. One token has one
// successor, so that an answer that was lost can be given again: it derives from
// the key that the token names, also when another one is the current key by now.
// When that key's private part is gone, it derives from the current one.
func (t *Tokens) Successor(token string) (next string, hash []byte) {
	id, secret := splitRefresh(token)
	key, known := t.refresh[id]
	if !known {
		key = t.refresh[t.keyID]
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(secret))
	return t.refreshToken(mac.Sum(nil))
}

// HashRefresh is what is stored of a refresh token. The token is random, so that
// a plain hash is enough. The key's name is no part of it: a successor that is
// given again after the key has changed has another name before the same secret.
func (*Tokens) HashRefresh(token string) []byte {
	_, secret := splitRefresh(token)
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// splitRefresh takes a refresh token apart. One from before keys had names has
// none.
func splitRefresh(token string) (keyID, secret string) {
	if id, secret, named := strings.Cut(token, "."); named {
		return id, secret
	}
	return "", token
}
