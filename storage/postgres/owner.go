package postgres

import (
	"context"

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
SELECT id FROM uploads WHERE id = ANY ($1) AND (archive_id IS NULL OR EXISTS (SELECT FROM archives WHERE archives.id = archive_id))`
)

// Archives gives those of the ids that are archives'.
func (s *Owners) Archives(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	known, err := scalars[uuid.UUID](ctx, s.db.primary, ownersArchivesSQL, ids)
	return known, fail(ctx, "list archives by id", err)
}

// Recordings gives those of the ids that are uploads', complete or not, but for those
// whose archive was deleted.
func (s *Owners) Recordings(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	known, err := scalars[uuid.UUID](ctx, s.db.primary, ownersRecordingsSQL, ids)
	return known, fail(ctx, "list uploads by id", err)
}
