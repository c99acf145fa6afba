package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Archives are the recordings made playable.
type Archives struct{ db *DB }

// NewArchives are the archives of a database.
func NewArchives(db *DB) *Archives { return &Archives{db} }

const archiveColumns = `id, stream_id, user_id, title, status, progress, duration_seconds, size_bytes, renditions,
	storage_class, view_count, failure, created_at, ready_at`

func scanArchive(row pgx.CollectableRow) (livestream.Archive, error) {
	var a livestream.Archive
	err := row.Scan(&a.ID, &a.StreamID, &a.UserID, &a.Title, &a.Status, &a.Progress, &a.DurationSeconds, &a.SizeBytes, &a.Renditions,
		&a.StorageClass, &a.ViewCount, &a.Failure, &a.CreatedAt, &a.ReadyAt)
	return a, err
}

const archiveByID = `-- name: archive.by_id
SELECT ` + archiveColumns + ` FROM archives WHERE id = $1`

// ByID finds an archive.
//
// Errors: archive_not_found.
func (s *Archives) ByID(ctx context.Context, id uuid.UUID) (livestream.Archive, error) {
	archive, err := one(ctx, s.db.primary, scanArchive, archiveByID, id)
	return archive, edge("archive by id", orNotFound(err, errArchiveNotFound))
}

// List reads archives, the newest first.
func (s *Archives) List(ctx context.Context, filter livestream.ArchiveFilter, page livestream.Page) (livestream.List[livestream.Archive], error) {
	var q query
	if filter.UserID != nil {
		q.where("user_id = %s", *filter.UserID)
	}
	if filter.StreamID != nil {
		q.where("stream_id = %s", *filter.StreamID)
	}
	if filter.Status != nil {
		q.where("status = %s", *filter.Status)
	}
	if page.After != nil {
		q.where("(created_at, id) < (%s, %s)", page.After.Time, page.After.ID)
	}
	sql := q.sql("-- name: archive.list\nSELECT "+archiveColumns+" FROM archives", "created_at DESC, id DESC", fetchLimit(page))
	rows, err := all(ctx, s.db.primary, scanArchive, sql, q.args...)
	return listOf(rows, page, func(a livestream.Archive) livestream.Cursor {
		return livestream.Cursor{Time: a.CreatedAt, ID: a.ID}
	}), edge("list archives", err)
}

const archiveProgress = `-- name: archive.progress
UPDATE archives SET progress = $2 WHERE id = $1 AND status = 'processing' AND progress < $2`

// SetProgress shows how far the work is; it never goes back.
func (s *Archives) SetProgress(ctx context.Context, id uuid.UUID, progress float64) error {
	_, err := s.db.primary.Exec(ctx, archiveProgress, id, progress)
	return edge("archive progress", err)
}

const archiveProcessing = `-- name: archive.processing
UPDATE archives SET status = 'processing', failure = NULL WHERE id = $1 AND status <> 'ready'`

// MarkProcessing opens an attempt.
func (s *Archives) MarkProcessing(ctx context.Context, id uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, archiveProcessing, id)
	return edge("archive processing", err)
}

const archiveReady = `-- name: archive.ready
UPDATE archives SET status = 'ready', progress = 1, failure = NULL, duration_seconds = $2, renditions = $3, size_bytes = $4, ready_at = coalesce(ready_at, $5)
WHERE id = $1 RETURNING ` + archiveColumns

// MarkReady publishes an archive and notes it in its stream's timeline. Doing it
// again changes nothing.
//
// Errors: archive_not_found.
func (s *Archives) MarkReady(ctx context.Context, id uuid.UUID, info livestream.MediaInfo, renditions []livestream.Rendition, sizeBytes int64, now time.Time) (livestream.Archive, error) {
	if renditions == nil {
		renditions = []livestream.Rendition{}
	}
	var archive livestream.Archive
	err := s.db.inTx(ctx, func(tx pgx.Tx) (err error) {
		archive, err = one(ctx, tx, scanArchive, archiveReady, id, info.DurationSeconds, renditions, sizeBytes, now)
		if err != nil {
			return orNotFound(err, errArchiveNotFound)
		}
		return appendEvent(ctx, tx, livestream.NewStreamEvent{
			StreamID: archive.StreamID, Key: string(livestream.EventArchiveReady), Type: livestream.EventArchiveReady,
			Data: map[string]any{"archive_id": id},
		}, now)
	})
	return archive, edge("archive ready", err)
}

const archiveFailed = `-- name: archive.failed
UPDATE archives SET status = 'failed', failure = $2 WHERE id = $1 RETURNING stream_id`

// MarkFailed says why there is no archive, and notes it in the stream's timeline.
//
// Errors: archive_not_found.
func (s *Archives) MarkFailed(ctx context.Context, id uuid.UUID, failure livestream.Failure, attempt int, now time.Time) error {
	err := s.db.inTx(ctx, func(tx pgx.Tx) error {
		var streamID uuid.UUID
		if err := tx.QueryRow(ctx, archiveFailed, id, failure).Scan(&streamID); err != nil {
			return orNotFound(err, errArchiveNotFound)
		}
		return appendEvent(ctx, tx, livestream.NewStreamEvent{
			StreamID: streamID, Key: fmt.Sprintf("%s:%d", livestream.EventArchiveFailed, attempt), Type: livestream.EventArchiveFailed,
			Data: map[string]any{"archive_id": id, "code": failure.Code, "message": failure.Message},
		}, now)
	})
	return edge("archive failed", err)
}

const deleteArchive = `-- name: archive.delete
WITH gone AS (DELETE FROM archives WHERE id = $1 AND user_id = $2 RETURNING id, stream_id),
     unlinked AS (UPDATE streams SET archive_id = NULL FROM gone WHERE streams.archive_id = gone.id)
SELECT count(*) FROM gone`

// Delete removes an archive's row.
//
// Errors: archive_not_found, forbidden.
func (s *Archives) Delete(ctx context.Context, id, userID uuid.UUID) error {
	var gone int
	if err := s.db.primary.QueryRow(ctx, deleteArchive, id, userID).Scan(&gone); err != nil {
		return edge("delete archive", err)
	}
	if gone == 1 {
		return nil
	}
	if _, err := s.ByID(ctx, id); err != nil {
		return err
	}
	return livestream.Errorf(livestream.CodeForbidden, "this archive is another's")
}
