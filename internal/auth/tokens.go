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

// Tokens signs and verifies tokens with one Ed25519 key.
type Tokens struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	keyID   string
	refresh []byte
	parser  *jwt.Parser
	now     func() time.Time
}

// LoadTokens reads the key from a PKCS#8 PEM file.
func LoadTokens(file string, now func() time.Time) (*Tokens, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the key of the access tokens: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("the key of the access tokens is not PEM; make one with: openssl genpkey -algorithm ed25519")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key of the access tokens: %w", err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the key of the access tokens is not Ed25519; make one with: openssl genpkey -algorithm ed25519")
	}
	return NewTokens(private, now)
}

// NewTokens signs with the key; now is the clock.
func NewTokens(private ed25519.PrivateKey, now func() time.Time) (*Tokens, error) {
	public := private.Public().(ed25519.PublicKey)
	refresh, err := hkdf.Key(sha256.New, private.Seed(), nil, "livestream refresh tokens", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the refresh key: %w", err)
	}
	thumbprint := sha256.Sum256(public)
	return &Tokens{
		private: private, public: public, refresh: refresh, now: now,
		keyID: base64.RawURLEncoding.EncodeToString(thumbprint[:8]),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithTimeFunc(now), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding(),
		),
	}, nil
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
	var c claims
	_, err := t.parser.ParseWithClaims(access, &c, func(token *jwt.Token) (any, error) {
		if token.Header["typ"] != tokenType || token.Header["kid"] != t.keyID {
			return nil, errors.New("not an access token of ours")
		}
		return t.public, nil
	})
	if err == nil {
		var id uuid.UUID
		if id, err = uuid.Parse(c.Subject); err == nil {
			return livestream.Identity{UserID: id, Role: c.Role, FamilyID: c.Family}, nil
		}
	}
	return livestream.Identity{}, &livestream.Error{Code: livestream.CodeUnauthorized, Message: "the access token is not valid or has expired", Err: err}
}

// JWKS lists the keys that verify access tokens.
func (t *Tokens) JWKS() []livestream.JWK {
	return []livestream.JWK{{
		KeyType: "OKP", Curve: "Ed25519", X: base64.RawURLEncoding.EncodeToString(t.public),
		KeyID: t.keyID, Alg: jwt.SigningMethodEdDSA.Alg(), Use: "sig",
	}}
}

// NewRefresh makes the first refresh token of a login, and the hash under which
// it is stored.
func (t *Tokens) NewRefresh() (token string, hash []byte) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it never fails; see crypto/rand
	token = base64.RawURLEncoding.EncodeToString(secret[:])
	return token, t.HashRefresh(token)
}

// Successor makes the refresh token that follows another. One token has one
// successor, so that an answer that was lost can be given again.
func (t *Tokens) Successor(token string) (next string, hash []byte) {
	mac := hmac.New(sha256.New, t.refresh)
	mac.Write([]byte(token))
	next = base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	return next, t.HashRefresh(next)
}

// HashRefresh is what is stored of a refresh token. The token is random, so that
// a plain hash is enough.
func (*Tokens) HashRefresh(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
