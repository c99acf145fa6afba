package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	mediaAudience = "livestream-media"
	mediaType     = "media+jwt"
	// mediaGrantLifetime is how long a grant is good at least, and mediaGrantStep how
	// long a member gets the same one: caches know files by their address.
	mediaGrantLifetime = 12 * time.Hour
	mediaGrantStep     = time.Hour
)

// GrantMedia makes what lets its bearer play a member's private archives, as a part
// of an address. A player needs no header for it.
func (t *Tokens) GrantMedia(userID uuid.UUID) (grant string, until time.Time, err error) {
	until = t.now().UTC().Truncate(mediaGrantStep).Add(mediaGrantStep + mediaGrantLifetime)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.RegisteredClaims{
		Issuer: issuer, Audience: jwt.ClaimStrings{mediaAudience}, Subject: userID.String(), ExpiresAt: jwt.NewNumericDate(until),
	})
	token.Header["typ"], token.Header["kid"] = mediaType, t.keyID
	if grant, err = token.SignedString(t.private); err != nil {
		return "", until, fmt.Errorf("sign a media grant: %w", err)
	}
	return grant, until, nil
}

// VerifyMedia says whose private archives a grant lets its bearer play.
func (t *Tokens) VerifyMedia(grant string) (uuid.UUID, error) {
	var c jwt.RegisteredClaims
	_, err := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(mediaAudience),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(t.now), jwt.WithStrictDecoding(),
	).ParseWithClaims(grant, &c, func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		public, known := t.public[id]
		if token.Header["typ"] != mediaType || !known {
			return nil, errors.New("not a media grant of ours")
		}
		return public, nil
	})
	if err != nil {
		return uuid.Nil, err
	}
	return uuid.Parse(c.Subject)
}
