package postgres

import (
	"bytes"
	"context"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// IdempotencyKeys are the requests that must have their effect once.
type IdempotencyKeys struct{ db *DB }

// NewIdempotencyKeys are the keys of a database.
func NewIdempotencyKeys(db *DB) *IdempotencyKeys { return &IdempotencyKeys{db} }

// The update changes nothing; it makes the statement return the row that was
// there first, and locks out the reader who would not see it yet.
const claimKey = `-- name: idempotency.claim
INSERT INTO idempotency_keys AS k (user_id, operation, key, request_hash, resource_id) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, operation, key) DO UPDATE SET key = k.key
RETURNING request_hash, resource_id, status, response`

// Claim takes a key for a request, and gives what the first claim of it left.
//
// Errors: idempotency_key_reused when the first request was another one.
func (s *IdempotencyKeys) Claim(ctx context.Context, c livestream.IdempotencyClaim) (livestream.IdempotencyRecord, error) {
	var (
		record livestream.IdempotencyRecord
		hash   []byte
	)
	err := s.db.primary.QueryRow(ctx, claimKey, c.UserID, c.Operation, c.Key, c.RequestHash, c.ResourceID).
		Scan(&hash, &record.ResourceID, &record.Status, &record.Response)
	if err == nil && !bytes.Equal(hash, c.RequestHash) {
		err = livestream.Errorf(livestream.CodeIdempotencyKeyReused, "this Idempotency-Key belongs to another request")
	}
	return record, edge("claim idempotency key", err)
}

const saveResponse = `-- name: idempotency.save_response
UPDATE idempotency_keys SET status = $4, response = $5 WHERE user_id = $1 AND operation = $2 AND key = $3 AND status = 0`

// SaveResponse keeps a request's answer; the first one stays.
func (s *IdempotencyKeys) SaveResponse(ctx context.Context, userID uuid.UUID, operation, key string, status int, response []byte) error {
	_, err := s.db.primary.Exec(ctx, saveResponse, userID, operation, key, status, response)
	return edge("save response", err)
}
