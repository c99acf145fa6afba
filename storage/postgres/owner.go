package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Owners know whom what is in the bucket belongs to.
type Owners struct{ db *DB }

// NewOwners asks db.
func NewOwners(db *DB) *Owners { return &Owners{db: db} }

const (
	ownersArchivesSQL = `-- name: owners.archives
SELECT id FROM archives WHERE id = ANY ($1)`

	ownersRecordingsSQL = `-- name: owners.recordings
SELECT u.id FROM uploads u JOIN streams s ON s.id = u.stream_id WHERE u.id = ANY ($1) AND CASE WHEN u.archive_id IS NULL
	THEN s.ended_at IS NULL OR s.ended_at > $2 ELSE EXISTS (SELECT FROM archives WHERE archives.id = u.archive_id) END`

	// The notes and pieces of one that failed wait for a retry.
	ownersWorkSQL = `-- name: owners.work
SELECT id FROM archives a WHERE id = ANY ($1) AND (status = 'processing' OR status = 'failed' AND EXISTS (
	SELECT FROM stream_events e WHERE e.stream_id = a.stream_id AND e.type = 'archive_failed' AND e.at > $2))`
)

// Archives gives those of the ids that are archives'.
func (s *Owners) Archives(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	known, err := scalars[uuid.UUID](ctx, s.db.primary, ownersArchivesSQL, ids)
	return known, fail(ctx, "list archives by id", err)
}

// Work gives those of the ids that are of archives which are being made, or may still
// be: they failed after a time.
func (s *Owners) Work(ctx context.Context, ids []uuid.UUID, failedAfter time.Time) ([]uuid.UUID, error) {
	known, err := scalars[uuid.UUID](ctx, s.db.primary, ownersWorkSQL, ids, failedAfter)
	return known, fail(ctx, "list archives in work by id", err)
}

// Recordings gives those of the ids that are uploads': of an archive, or of a stream
// that still takes them, which is not over since before a time.
func (s *Owners) Recordings(ctx context.Context, ids []uuid.UUID, endedAfter time.Time) ([]uuid.UUID, error) {
	known, err := scalars[uuid.UUID](ctx, s.db.primary, ownersRecordingsSQL, ids, endedAfter)
	return known, fail(ctx, "list uploads by id", err)
}
