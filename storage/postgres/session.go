package postgres

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Sessions are the logins: families of refresh tokens.
type Sessions struct{ db *DB }

// NewSessions are the logins of a database.
func NewSessions(db *DB) *Sessions { return &Sessions{db} }

const createSession = `-- name: session.create
INSERT INTO refresh_tokens (hash, family_id, user_id, expires_at) VALUES ($1, $2, $3, $4)`

// Create opens a family with its first token.
func (s *Sessions) Create(ctx context.Context, token livestream.RefreshToken) error {
	_, err := s.db.primary.Exec(ctx, createSession, token.Hash, token.FamilyID, token.UserID, token.ExpiresAt)
	return edge("create session", err)
}

const lockSession = `-- name: session.lock
SELECT t.family_id, t.user_id, t.expires_at, t.used_at, t.successor_hash, t.revoked_at, u.role
FROM refresh_tokens t JOIN users u ON u.id = t.user_id
WHERE t.hash = $1 FOR UPDATE OF t`

const useSession = `-- name: session.use
UPDATE refresh_tokens SET used_at = $2, successor_hash = $3 WHERE hash = $1`

const revokeFamily = `-- name: session.revoke_family
UPDATE refresh_tokens SET revoked_at = now() WHERE family_id = $1 AND revoked_at IS NULL`

var (
	errInvalidRefresh = livestream.Errorf(livestream.CodeInvalidRefreshToken, "this refresh token is not valid; log in again")
	errReusedRefresh  = livestream.Errorf(livestream.CodeRefreshTokenReused, "this refresh token was used before; all sessions of this login are closed")
)

// Rotate trades a token for the next one, whose family and owner are the old
// one's. A token that was used a moment ago gives the same successor again,
// because the answer may have been lost; one that was used before that is taken
// for stolen, and its family is revoked.
//
// Errors: invalid_refresh_token, refresh_token_reused.
func (s *Sessions) Rotate(ctx context.Context, hash []byte, next livestream.RefreshToken, now time.Time) (livestream.RefreshToken, livestream.Role, error) {
	var (
		role    livestream.Role
		refusal error
	)
	err := s.db.inTx(ctx, func(tx pgx.Tx) error {
		var (
			expires       time.Time
			used, revoked *time.Time
			successor     []byte
		)
		refusal = nil
		err := tx.QueryRow(ctx, lockSession, hash).Scan(&next.FamilyID, &next.UserID, &expires, &used, &successor, &revoked, &role)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			refusal = errInvalidRefresh
			return nil
		case err != nil:
			return err
		case revoked != nil || !now.Before(expires):
			refusal = errInvalidRefresh
			return nil
		case used == nil:
			if _, err := tx.Exec(ctx, useSession, hash, now, next.Hash); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, createSession, next.Hash, next.FamilyID, next.UserID, next.ExpiresAt)
			return err
		case now.Sub(*used) <= livestream.RefreshGrace && bytes.Equal(successor, next.Hash):
			return nil
		}
		refusal = errReusedRefresh
		_, err = tx.Exec(ctx, revokeFamily, next.FamilyID)
		return err
	})
	if err == nil {
		err = refusal
	}
	return next, role, edge("rotate session", err)
}

const familyOf = `-- name: session.family_of
SELECT family_id FROM refresh_tokens WHERE hash = $1`

// Revoke closes a token's whole family and says which it was; a token that is
// not known has none.
func (s *Sessions) Revoke(ctx context.Context, hash []byte) (uuid.UUID, error) {
	var family uuid.UUID
	err := s.db.primary.QueryRow(ctx, familyOf, hash).Scan(&family)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	if err == nil {
		_, err = s.db.primary.Exec(ctx, revokeFamily, family)
	}
	return family, edge("revoke session", err)
}
