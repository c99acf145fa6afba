package postgres

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// IdempotencyKeys keeps requests that must have their effect once, and their
// answers.
type IdempotencyKeys struct{ db *DB }

// NewIdempotencyKeys keeps requests in db.
func NewIdempotencyKeys(db *DB) *IdempotencyKeys { return &IdempotencyKeys{db: db} }

const (
	// The update changes nothing: it waits for a claim that is under way, and has
	// the row returned that was there first.
	claimKeySQL = `-- name: idempotency_keys.claim
INSERT INTO idempotency_keys AS k (user_id, operation, key, request_hash, resource_id) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, operation, key) DO UPDATE SET key = k.key
RETURNING request_hash, resource_id, status, response`

	saveResponseSQL = `-- name: idempotency_keys.save_response
UPDATE idempotency_keys SET status = $4, response = $5 WHERE user_id = $1 AND operation = $2 AND key = $3 AND status = 0`

	// What somebody else deletes or claims at the moment is left to the next call. A
	// payment's key stays as long as the payment: its workflow is named after it, so
	// that a key which was forgotten would meet another request's payment.
	deleteOldKeysSQL = `-- name: idempotency_keys.delete_old
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY (
	SELECT ctid FROM idempotency_keys WHERE created_at < $1 AND operation <> 'transaction'
	ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
))`
)

type idempotencyRow struct {
	RequestHash []byte
	ResourceID  uuid.UUID
	Status      int
	Response    []byte
}

// Claim takes a key for a request, and gives what its first claim left: the id of
// what it makes and, once it is known, its answer. CodeIdempotencyKeyReused when
// the first request was another one, CodeUserNotFound.
func (s *IdempotencyKeys) Claim(ctx context.Context, claim livestream.IdempotencyClaim) (livestream.IdempotencyRecord, error) {
	row, err := one[idempotencyRow](ctx, s.db.primary, claimKeySQL, claim.UserID, claim.Operation, claim.Key, claim.RequestHash, claim.ResourceID)
	if err != nil {
		return livestream.IdempotencyRecord{}, fail(ctx, "claim idempotency key", err)
	}
	if !bytes.Equal(row.RequestHash, claim.RequestHash) {
		return livestream.IdempotencyRecord{}, livestream.Errorf(livestream.CodeIdempotencyKeyReused, "this Idempotency-Key belongs to another request")
	}
	return livestream.IdempotencyRecord{ResourceID: row.ResourceID, Status: row.Status, Response: row.Response}, nil
}

// SaveResponse keeps the answer to a request; the first one stays.
func (s *IdempotencyKeys) SaveResponse(ctx context.Context, userID uuid.UUID, operation, key string, status int, response []byte) error {
	_, err := s.db.primary.Exec(ctx, saveResponseSQL, userID, operation, key, status, response)
	return fail(ctx, "save response", err)
}

// DeleteOld forgets requests that were claimed before a time, payments excepted: the
// oldest first and at most limit of them. It gives how many that were: fewer than
// limit when no more are left.
func (s *IdempotencyKeys) DeleteOld(ctx context.Context, before time.Time, limit int) (int64, error) {
	tag, err := s.db.primary.Exec(ctx, deleteOldKeysSQL, before, limit)
	return tag.RowsAffected(), fail(ctx, "delete old idempotency keys", err)
}
