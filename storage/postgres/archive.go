package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Archives keeps recordings made playable. They are created by
// Recordings.Complete.
type Archives struct{ db *DB }

// NewArchives keeps archives in db.
func NewArchives(db *DB) *Archives { return &Archives{db: db} }

const archiveColumns = `id, stream_id, user_id, title, visibility, status, progress, duration_seconds, size_bytes, renditions,
	storage_class, view_count, failure, created_at, ready_at`

const (
	archiveByIDSQL = `-- name: archives.by_id
SELECT ` + archiveColumns + ` FROM archives WHERE id = $1`

	listArchivesSQL = `-- name: archives.list
SELECT ` + archiveColumns + ` FROM archives
WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::uuid IS NULL OR stream_id = $2) AND ($3::text IS NULL OR status = $3)
	AND (created_at, id) < ($4, $5) AND (visibility = 'public' OR user_id = $6)
ORDER BY created_at DESC, id DESC LIMIT $7`

	archivePlaybackSQL = `-- name: archives.playback
SELECT user_id, visibility, storage_class, storage_class = 'GLACIER' AND tier = 'STANDARD' AS restoring FROM archives WHERE id = $1`

	setArchiveVisibilitySQL = `-- name: archives.set_visibility
UPDATE archives SET visibility = $3 WHERE id = $1 AND user_id = $2 RETURNING ` + archiveColumns

	setArchiveProgressSQL = `-- name: archives.set_progress
UPDATE archives SET progress = $2 WHERE id = $1 AND status = 'processing' AND progress < $2`

	markArchiveProcessingSQL = `-- name: archives.mark_processing
WITH a AS (
	UPDATE archives SET status = 'processing', failure = NULL WHERE id = $1 AND status = 'failed'
)
SELECT EXISTS (SELECT FROM archives WHERE id = $1)`

	markArchiveReadySQL = `-- name: archives.mark_ready
UPDATE archives SET status = 'ready', progress = 1, failure = NULL, duration_seconds = $2, renditions = $3, size_bytes = $4, ready_at = $5
WHERE id = $1 AND status <> 'ready' RETURNING ` + archiveColumns

	markArchiveFailedSQL = `-- name: archives.mark_failed
UPDATE archives SET status = 'failed', failure = $2
WHERE id = $1 AND status <> 'ready' RETURNING ` + archiveColumns

	deleteArchiveSQL = `-- name: archives.delete
DELETE FROM archives WHERE id = $1 AND stream_id = $2 AND user_id = $3`
)

type archiveRow struct {
	ID              uuid.UUID
	StreamID        uuid.UUID
	UserID          uuid.UUID
	Title           string
	Visibility      livestream.ArchiveVisibility
	Status          livestream.ArchiveStatus
	Progress        float64
	DurationSeconds float64
	SizeBytes       int64
	Renditions      []livestream.Rendition
	StorageClass    livestream.StorageClass
	ViewCount       int64
	Failure         *livestream.Failure
	CreatedAt       time.Time
	ReadyAt         *time.Time
}

func (r archiveRow) domain() livestream.Archive { return livestream.Archive(r) }

// ByID gives an archive; CodeArchiveNotFound.
func (s *Archives) ByID(ctx context.Context, id uuid.UUID) (livestream.Archive, error) {
	row, err := readOne[archiveRow](ctx, s.db, archiveByIDSQL, id)
	return row.domain(), failOr(ctx, "read archive", err, archiveNotFound())
}

// List lists archives, newest first.
func (s *Archives) List(ctx context.Context, filter livestream.ArchiveFilter, page livestream.Page) (livestream.List[livestream.Archive], error) {
	limit := limitOf(page)
	at, id := beforeTime(page)
	viewer := filter.Viewer
	if filter.UserID == nil && filter.StreamID == nil {
		viewer = nil // the list of everybody has an index of what is public
	}
	rows, err := readMany[archiveRow](ctx, s.db, listArchivesSQL, filter.UserID, filter.StreamID, filter.Status, at, id, viewer, limit+1)
	if err != nil {
		return livestream.List[livestream.Archive]{}, fail(ctx, "list archives", err)
	}
	return listOf(rows, limit, archiveRow.domain, func(r archiveRow) livestream.Cursor {
		return livestream.Cursor{Time: r.CreatedAt, ID: r.ID}
	}), nil
}

type archivePlaybackRow struct {
	UserID       uuid.UUID
	Visibility   livestream.ArchiveVisibility
	StorageClass livestream.StorageClass
	Restoring    bool
}

// Playback says who may play an archive; CodeArchiveNotFound.
func (s *Archives) Playback(ctx context.Context, id uuid.UUID) (livestream.ArchivePlayback, error) {
	row, err := readOne[archivePlaybackRow](ctx, s.db, archivePlaybackSQL, id)
	return livestream.ArchivePlayback(row), failOr(ctx, "read archive", err, archiveNotFound())
}

// SetVisibility says who may play an archive from now on; CodeArchiveNotFound, also
// when it is not the user's.
func (s *Archives) SetVisibility(ctx context.Context, id, userID uuid.UUID, visibility livestream.ArchiveVisibility) (livestream.Archive, error) {
	row, err := one[archiveRow](ctx, s.db.primary, setArchiveVisibilitySQL, id, userID, visibility)
	return row.domain(), failOr(ctx, "set archive visibility", err, archiveNotFound())
}

// SetProgress shows how far the work on an archive is, from 0 to 1. It never goes
// back; an archive that is not being processed, or is not there, is left alone.
func (s *Archives) SetProgress(ctx context.Context, id uuid.UUID, progress float64) error {
	_, err := s.db.primary.Exec(ctx, setArchiveProgressSQL, id, progress)
	return fail(ctx, "set archive progress", err)
}

// MarkProcessing opens an attempt: an archive that failed is processed again. One
// that is ready stays so. CodeArchiveNotFound.
func (s *Archives) MarkProcessing(ctx context.Context, id uuid.UUID) error {
	there, err := scalar[bool](ctx, s.db.primary, markArchiveProcessingSQL, id)
	if err == nil && !there {
		return archiveNotFound()
	}
	return fail(ctx, "mark archive processing", err)
}

// MarkReady publishes an archive and notes it in its stream's timeline. Doing it
// again changes nothing. CodeArchiveNotFound.
func (s *Archives) MarkReady(ctx context.Context, id uuid.UUID, info livestream.MediaInfo, renditions []livestream.Rendition, sizeBytes int64, now time.Time) (livestream.Archive, error) {
	var row archiveRow
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		row, err = one[archiveRow](ctx, tx, markArchiveReadySQL, id, info.DurationSeconds, notNil(renditions), sizeBytes, now)
		if errors.Is(err, pgx.ErrNoRows) {
			row, err = one[archiveRow](ctx, tx, archiveByIDSQL, id)
			return failOr(ctx, "read archive", err, archiveNotFound())
		}
		if err != nil {
			return err
		}
		return lockAndAppend(ctx, tx, livestream.NewStreamEvent{
			StreamID: row.StreamID, Key: fmt.Sprintf("%s:%s", livestream.EventArchiveReady, id), Type: livestream.EventArchiveReady,
			Data: map[string]any{"archive_id": id},
		}, &now)
	})
	return row.domain(), fail(ctx, "mark archive ready", err)
}

// MarkFailed says why an attempt gave no archive, and notes it in the stream's
// timeline, once an attempt. One that is ready stays so. CodeArchiveNotFound.
func (s *Archives) MarkFailed(ctx context.Context, id uuid.UUID, failure livestream.Failure, attempt int, now time.Time) error {
	err := s.db.inTx(ctx, func(tx querier) error {
		row, err := one[archiveRow](ctx, tx, markArchiveFailedSQL, id, failure)
		if errors.Is(err, pgx.ErrNoRows) {
			_, err = one[archiveRow](ctx, tx, archiveByIDSQL, id)
			return failOr(ctx, "read archive", err, archiveNotFound())
		}
		if err != nil {
			return err
		}
		return lockAndAppend(ctx, tx, livestream.NewStreamEvent{
			StreamID: row.StreamID, Key: fmt.Sprintf("%s:%s:%d", livestream.EventArchiveFailed, id, attempt), Type: livestream.EventArchiveFailed,
			Data: map[string]any{"archive_id": id, "code": failure.Code, "message": failure.Message},
		}, &now)
	})
	return fail(ctx, "mark archive failed", err)
}

// Delete removes the archive of a stream; CodeArchiveNotFound, and CodeForbidden
// when it is not the user's.
func (s *Archives) Delete(ctx context.Context, id, streamID, userID uuid.UUID) error {
	tag, err := s.db.primary.Exec(ctx, deleteArchiveSQL, id, streamID, userID)
	if err != nil || tag.RowsAffected() == 1 {
		return fail(ctx, "delete archive", err)
	}
	row, err := one[archiveRow](ctx, s.db.primary, archiveByIDSQL, id)
	if err == nil && row.StreamID != streamID {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return failOr(ctx, "read archive", err, archiveNotFound())
	}
	return livestream.Errorf(livestream.CodeForbidden, "this archive is another member's")
}
