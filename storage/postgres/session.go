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

// Sessions keeps logins: families of refresh tokens, by their hashes.
type Sessions struct{ db *DB }

// NewSessions keeps logins in db.
func NewSessions(db *DB) *Sessions { return &Sessions{db: db} }

const (
	createSessionSQL = `-- name: sessions.create
WITH s AS (
	INSERT INTO sessions (id, user_id) VALUES ($2, $3) ON CONFLICT (id) DO NOTHING
)
INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES ($1, $2, $4) ON CONFLICT (hash) DO NOTHING`

	// Both rows are locked: what a concurrent rotation or logout did is seen.
	lockTokenSQL = `-- name: sessions.lock_token
SELECT t.session_id, s.user_id, u.role, t.expires_at, t.used_at, t.successor_hash, s.revoked_at
FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id
WHERE t.hash = $1
FOR NO KEY UPDATE OF t, s`

	useTokenSQL = `-- name: sessions.use_token
UPDATE refresh_tokens SET used_at = $2, successor_hash = $3 WHERE hash = $1`

	insertTokenSQL = `-- name: sessions.insert_token
INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES ($1, $2, $3)`

	tokenExpirySQL = `-- name: sessions.token_expiry
SELECT expires_at FROM refresh_tokens WHERE hash = $1`

	revokeFamilySQL = `-- name: sessions.revoke_family
UPDATE sessions SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1`

	revokeSQL = `-- name: sessions.revoke
UPDATE sessions SET revoked_at = coalesce(revoked_at, now())
WHERE id = (SELECT session_id FROM refresh_tokens WHERE hash = $1)
RETURNING id`

	endedSQL = `-- name: sessions.ended
SELECT id FROM sessions WHERE id = ANY($1) AND revoked_at IS NOT NULL`

	// Who holds a login's row is the only one who deletes its tokens, so that the one
	// who deletes the last of them sees that it is.
	deleteOldTokensSQL = `-- name: sessions.delete_old_tokens
DELETE FROM refresh_tokens WHERE hash = ANY (ARRAY (
	SELECT t.hash FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id
	WHERE t.expires_at < $1 ORDER BY t.expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
)) RETURNING session_id`

	deleteEmptySQL = `-- name: sessions.delete_empty
DELETE FROM sessions s WHERE id = ANY($1) AND NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = s.id)`
)

type tokenRow struct {
	SessionID     uuid.UUID
	UserID        uuid.UUID
	Role          livestream.Role
	ExpiresAt     time.Time
	UsedAt        *time.Time
	SuccessorHash []byte
	RevokedAt     *time.Time
}

// Create begins a login with its first token; CodeUserNotFound.
func (s *Sessions) Create(ctx context.Context, token livestream.RefreshToken) error {
	_, err := s.db.primary.Exec(ctx, createSessionSQL, token.Hash, token.FamilyID, token.UserID, token.ExpiresAt)
	return fail(ctx, "create session", err)
}

// Rotate uses a token up and puts next in its place, in the same family, and
// gives next as stored together with the user's role as it is now.
//
// Asking again within livestream.RefreshGrace for the same successor gives the
// same answer, because the first one may have been lost. A token that is used
// otherwise a second time was stolen, or its successor was: the whole family is
// revoked, for good, and the error is CodeRefreshTokenReused, beside which the
// family is given. An unknown, expired or revoked token is
// CodeInvalidRefreshToken.
func (s *Sessions) Rotate(ctx context.Context, oldHash []byte, next livestream.RefreshToken, now time.Time) (livestream.RefreshToken, livestream.Role, error) {
	var (
		token   tokenRow
		stored  livestream.RefreshToken
		refusal *livestream.Error
	)
	// A refusal is not the transaction's error: the revocation must be committed.
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		stored, refusal = next, nil
		token, err = one[tokenRow](ctx, tx, lockTokenSQL, oldHash)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			refusal = invalidRefreshToken()
			return nil
		case err != nil:
			return err
		case token.RevokedAt != nil || !now.Before(token.ExpiresAt):
			refusal = invalidRefreshToken()
			return nil
		case token.UsedAt == nil:
			return rotate(ctx, tx, oldHash, token, next, now)
		case now.Sub(*token.UsedAt) <= livestream.RefreshGrace && bytes.Equal(token.SuccessorHash, next.Hash):
			stored.ExpiresAt, err = scalar[time.Time](ctx, tx, tokenExpirySQL, next.Hash)
			return err
		}
		refusal = livestream.Errorf(livestream.CodeRefreshTokenReused, "this refresh token was used before: log in again")
		_, err = tx.Exec(ctx, revokeFamilySQL, token.SessionID, now)
		return err
	})
	if err != nil {
		return livestream.RefreshToken{}, "", fail(ctx, "rotate refresh token", err)
	}
	stored.FamilyID, stored.UserID = token.SessionID, token.UserID
	if refusal != nil {
		return stored, "", refusal
	}
	return stored, token.Role, nil
}

func rotate(ctx context.Context, tx querier, oldHash []byte, token tokenRow, next livestream.RefreshToken, now time.Time) error {
	if _, err := tx.Exec(ctx, useTokenSQL, oldHash, now, next.Hash); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, insertTokenSQL, next.Hash, token.SessionID, next.ExpiresAt)
	return err
}

func invalidRefreshToken() *livestream.Error {
	return livestream.Errorf(livestream.CodeInvalidRefreshToken, "this refresh token is not valid: log in again")
}

// Revoke ends the login that the token belongs to and gives its family; uuid.Nil
// when there is no such token.
func (s *Sessions) Revoke(ctx context.Context, hash []byte) (uuid.UUID, error) {
	family, err := scalar[uuid.UUID](ctx, s.db.primary, revokeSQL, hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return family, fail(ctx, "revoke session", err)
}

// Ended gives those of the families that were revoked. It asks the primary: a
// replica may not have heard of a logout yet.
func (s *Sessions) Ended(ctx context.Context, families []uuid.UUID) ([]uuid.UUID, error) {
	rows, err := s.db.primary.Query(ctx, endedSQL, families)
	if err != nil {
		return nil, fail(ctx, "ended sessions", err)
	}
	ended, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return ended, fail(ctx, "ended sessions", err)
}

// DeleteOld forgets tokens that expired before a time, the oldest first and at most
// limit of them, and the logins that have none left. It gives how many tokens that
// were: fewer than limit when no more are left. A token that is forgotten is refused
// as one that expired is.
func (s *Sessions) DeleteOld(ctx context.Context, before time.Time, limit int) (int64, error) {
	var deleted int64
	err := s.db.inTx(ctx, func(tx querier) error {
		rows, err := tx.Query(ctx, deleteOldTokensSQL, before, limit)
		if err != nil {
			return err
		}
		families, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		deleted = int64(len(families))
		_, err = tx.Exec(ctx, deleteEmptySQL, families)
		return err
	})
	return deleted, fail(ctx, "delete old refresh tokens", err)
}
