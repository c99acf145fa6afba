package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	tieredArchivesSQL = `-- name: archives.tiered
SELECT id, ready_at, restored_at, size_bytes, duration_seconds AS seconds, jsonb_array_length(renditions) AS renditions,
	storage_class AS class, tier, moving_until IS NOT NULL AS moving,
	coalesce((SELECT sum(views) FROM archive_views WHERE archive_id = archives.id AND day >= $2), 0)::bigint AS views
FROM archives WHERE id > $1 AND status = 'ready' ORDER BY id LIMIT $3`

	// What goes to GLACIER counts as being there at once: some of it cannot be read from
	// now on. One that is there moves no more, unless this is the move that takes it there.
	// An attempt that comes late does not take away what was asked for since. A restore
	// that was given up is taken back.
	beginMoveSQL = `-- name: archives.begin_move
UPDATE archives SET tier = $2, storage_class = CASE WHEN $2 = 'GLACIER' AND $3 THEN $2 ELSE storage_class END
WHERE id = $1 AND status = 'ready' AND (storage_class <> 'GLACIER' OR tier = $2 OR $2 = 'GLACIER' AND restored_at < $5)
	AND restored_at IS NOT DISTINCT FROM $4`

	keepMovingSQL = `-- name: archives.keep_moving
UPDATE archives SET moving_until = $3 WHERE id = $1 AND tier = $2`

	archiveTierSQL = `-- name: archives.tier
SELECT tier FROM archives WHERE id = $1`

	endMoveSQL = `-- name: archives.end_move
UPDATE archives SET storage_class = $2, moving_until = NULL WHERE id = $1 AND tier = $2`

	endRestoreSQL = `-- name: archives.end_restore
UPDATE archives SET storage_class = 'STANDARD', moving_until = NULL
WHERE id = $1 AND tier = 'STANDARD' AND (moving_until IS NULL OR moving_until < $2)`

	beginRestoreSQL = `-- name: archives.begin_restore
UPDATE archives SET tier = 'STANDARD', restored_at = $2
WHERE id = $1 AND storage_class = 'GLACIER' AND (tier <> 'STANDARD' OR restored_at < $3)`
)

type tieredArchiveRow struct {
	ID         uuid.UUID
	ReadyAt    time.Time
	RestoredAt *time.Time
	SizeBytes  int64
	Seconds    float64
	Renditions int
	Class      livestream.StorageClass
	Tier       livestream.StorageClass
	Moving     bool
	Views      int64
}

// Tiered gives archives that can be played, in the order of their ids and from after
// one of them on, with their views since a day.
func (s *Archives) Tiered(ctx context.Context, after uuid.UUID, since time.Time, limit int) ([]livestream.TieredArchive, error) {
	rows, err := many[tieredArchiveRow](ctx, s.db.primary, tieredArchivesSQL, after, since, limit)
	out := make([]livestream.TieredArchive, len(rows))
	for i, row := range rows {
		out[i] = livestream.TieredArchive{
			ID: row.ID, ReadyAt: row.ReadyAt, RestoredAt: row.RestoredAt, SizeBytes: row.SizeBytes, Seconds: row.Seconds, Renditions: row.Renditions,
			Views: row.Views, Class: row.Class, Tier: row.Tier, Moving: row.Moving,
		}
	}
	return out, fail(ctx, "list archives by tier", err)
}

// BeginMove notes where an archive's media are to be, and says whether they may be
// moved there: it is there, and nobody restores it. moves says whether they are.
func (s *Archives) BeginMove(ctx context.Context, move livestream.TierMove, moves bool, now time.Time) (bool, error) {
	tag, err := s.db.primary.Exec(ctx, beginMoveSQL, move.ArchiveID, move.To, moves, move.RestoredAt, now.Add(-livestream.RestoreGivenUp))
	return tag.RowsAffected() == 1, fail(ctx, "begin to move archive", err)
}

// KeepMoving notes until when copies of a move may be under way, before they begin.
// CodeArchiveNotFound, also when the archive is to be elsewhere by now.
func (s *Archives) KeepMoving(ctx context.Context, id uuid.UUID, to livestream.StorageClass, until time.Time) error {
	tag, err := s.db.primary.Exec(ctx, keepMovingSQL, id, to, until)
	if err == nil && tag.RowsAffected() == 0 {
		return archiveNotFound()
	}
	return fail(ctx, "keep moving archive", err)
}

// EndRestore notes that an archive's media are back, by a look that began at a time, and
// says whether they are: copies of the move that it stopped may have come after it.
func (s *Archives) EndRestore(ctx context.Context, id uuid.UUID, began time.Time) (bool, error) {
	tag, err := s.db.primary.Exec(ctx, endRestoreSQL, id, began)
	return tag.RowsAffected() == 1, fail(ctx, "end the restore of archive", err)
}

// Tier says where an archive's media are to be. CodeArchiveNotFound.
func (s *Archives) Tier(ctx context.Context, id uuid.UUID) (livestream.StorageClass, error) {
	tier, err := scalar[livestream.StorageClass](ctx, s.db.primary, archiveTierSQL, id)
	return tier, failOr(ctx, "read archive's tier", err, archiveNotFound())
}

// EndMove notes that an archive's media are where they were to be, if that has not
// changed meanwhile, and says so.
func (s *Archives) EndMove(ctx context.Context, id uuid.UUID, to livestream.StorageClass) (bool, error) {
	tag, err := s.db.primary.Exec(ctx, endMoveSQL, id, to)
	return tag.RowsAffected() == 1, fail(ctx, "end the move of archive", err)
}

// BeginRestore notes that an archive is to come back from GLACIER. Once is enough, until
// the restore is given up.
func (s *Archives) BeginRestore(ctx context.Context, id uuid.UUID, now time.Time) error {
	_, err := s.db.primary.Exec(ctx, beginRestoreSQL, id, now, now.Add(-livestream.RestoreWindow))
	return fail(ctx, "begin to restore archive", err)
}
