package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Recordings keeps the uploads of streams' recordings.
type Recordings struct{ db *DB }

// NewRecordings keeps uploads in db.
func NewRecordings(db *DB) *Recordings { return &Recordings{db: db} }

// maxAbandoned bounds what Abandoned and Stale give at once.
const maxAbandoned = 1000

const uploadColumns = `id, stream_id, key, storage_id, content_type, size_bytes, part_size, archive_id, created_at`

const (
	createUploadSQL = `-- name: uploads.create
INSERT INTO uploads (id, stream_id, key, storage_id, content_type, size_bytes, part_size) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING`

	openUploadsSQL = `-- name: uploads.open
SELECT count(*) FILTER (WHERE archive_id IS NULL AND age < $2) AS open,
	max(age) FILTER (WHERE archive_id IS NULL AND age < $2) AS oldest, coalesce(bool_or(archive_id IS NOT NULL), false) AS taken
FROM (SELECT archive_id, now() - created_at AS age FROM uploads WHERE stream_id = $1 AND id <> $3) u`

	uploadByIDSQL = `-- name: uploads.by_id
SELECT ` + uploadColumns + ` FROM uploads WHERE id = $1 AND stream_id = $2`

	lockUploadSQL = `-- name: uploads.lock
SELECT u.stream_id, u.archive_id, s.user_id, s.title
FROM uploads u JOIN streams s ON s.id = u.stream_id WHERE u.id = $1
FOR NO KEY UPDATE OF u, s`

	completeUploadSQL = `-- name: uploads.complete
WITH a AS (
	INSERT INTO archives (id, stream_id, user_id, title) VALUES ($2, $3, $4, $5) RETURNING ` + archiveColumns + `
), u AS (
	UPDATE uploads SET archive_id = $2 WHERE id = $1
), s AS (
	UPDATE streams SET archive_id = $2 WHERE id = $3
)
SELECT * FROM a`

	uploadOfArchiveSQL = `-- name: uploads.of_archive
SELECT ` + uploadColumns + ` FROM uploads WHERE stream_id = $1 AND archive_id = $2`

	abandonedUploadsSQL = `-- name: uploads.abandoned
SELECT ` + uploadColumns + ` FROM uploads WHERE stream_id = $1 AND archive_id IS NULL
ORDER BY created_at, id LIMIT $2`

	staleUploadsSQL = `-- name: uploads.stale
SELECT u.id, u.stream_id, u.key, u.storage_id, u.content_type, u.size_bytes, u.part_size, u.archive_id, u.created_at
FROM uploads u JOIN streams s ON s.id = u.stream_id WHERE u.archive_id IS NULL AND s.ended_at < $1
ORDER BY u.created_at, u.id LIMIT $2`

	deleteUploadSQL = `-- name: uploads.delete
DELETE FROM uploads WHERE id = $1 AND archive_id IS NULL`
)

type uploadRow struct {
	ID          uuid.UUID
	StreamID    uuid.UUID
	Key         string
	StorageID   string
	ContentType string
	SizeBytes   int64
	PartSize    int64
	ArchiveID   *uuid.UUID
	CreatedAt   time.Time
}

func (r uploadRow) domain() livestream.Upload { return livestream.Upload(r) }

type lockedUploadRow struct {
	StreamID  uuid.UUID
	ArchiveID *uuid.UUID
	UserID    uuid.UUID
	Title     string
}

type openUploadsRow struct {
	Open   int
	Oldest *time.Duration
	Taken  bool
}

// Create keeps an upload that was opened. Creating it again changes nothing.
// CodeStreamNotFound; CodeRecordingClosed when the stream is over and has handed its
// recording over; CodeRateLimited when too many are open.
func (s *Recordings) Create(ctx context.Context, upload livestream.Upload) error {
	err := s.db.inTx(ctx, func(tx querier) error {
		stream, err := one[streamRow](ctx, tx, lockStreamSQL, upload.StreamID)
		if err != nil {
			return failOr(ctx, "lock stream", err, streamNotFound())
		}
		others, err := one[openUploadsRow](ctx, tx, openUploadsSQL, upload.StreamID, livestream.RecordingURLExpires, upload.ID)
		switch {
		case err != nil:
			return err
		case stream.EndedAt != nil && others.Taken:
			return livestream.Errorf(livestream.CodeRecordingClosed, "this stream is over and has had its recording")
		case others.Open >= livestream.MaxOpenUploads:
			return &livestream.Error{
				Code: livestream.CodeRateLimited, Message: "this stream has too many uploads under way; complete one of them",
				RetryAfter: livestream.RecordingURLExpires - *others.Oldest,
			}
		}
		_, err = tx.Exec(ctx, createUploadSQL, upload.ID, upload.StreamID, upload.Key, upload.StorageID, upload.ContentType,
			upload.SizeBytes, upload.PartSize)
		return err
	})
	return fail(ctx, "create upload", err)
}

// ByID gives an upload of a stream; CodeUploadNotFound.
func (s *Recordings) ByID(ctx context.Context, streamID, id uuid.UUID) (livestream.Upload, error) {
	row, err := one[uploadRow](ctx, s.db.primary, uploadByIDSQL, id, streamID)
	return row.domain(), failOr(ctx, "read upload", err, uploadNotFound())
}

// Complete takes a whole recording: it writes the archive that it will become
// and notes it in the stream's timeline. Completing an upload again gives the
// same archive, or CodeArchiveNotFound once that was deleted. Of a stream's
// uploads one becomes its archive: CodeRecordingExists. CodeUploadNotFound.
func (s *Recordings) Complete(ctx context.Context, uploadID, archiveID uuid.UUID, now time.Time) (livestream.Archive, error) {
	var archive archiveRow
	err := s.db.inTx(ctx, func(tx querier) error {
		upload, err := one[lockedUploadRow](ctx, tx, lockUploadSQL, uploadID)
		if err != nil {
			return failOr(ctx, "lock upload", err, uploadNotFound())
		}
		if upload.ArchiveID != nil {
			archive, err = one[archiveRow](ctx, tx, archiveByIDSQL, *upload.ArchiveID)
			return failOr(ctx, "read archive", err, archiveNotFound())
		}
		archive, err = one[archiveRow](ctx, tx, completeUploadSQL, uploadID, archiveID, upload.StreamID, upload.UserID, upload.Title)
		if err != nil {
			return err
		}
		_, err = appendEvent(ctx, tx, livestream.NewStreamEvent{
			StreamID: upload.StreamID, Key: string(livestream.EventRecordingReceived) + ":" + uploadID.String(), Type: livestream.EventRecordingReceived,
			Data: map[string]any{"upload_id": uploadID, "archive_id": archiveID},
		}, &now)
		return err
	})
	if err != nil {
		return livestream.Archive{}, fail(ctx, "complete upload", err)
	}
	return archive.domain(), nil
}

// OfArchive gives the upload that an archive was made of, even when the archive was
// deleted; CodeUploadNotFound.
func (s *Recordings) OfArchive(ctx context.Context, streamID, archiveID uuid.UUID) (livestream.Upload, error) {
	row, err := one[uploadRow](ctx, s.db.primary, uploadOfArchiveSQL, streamID, archiveID)
	return row.domain(), failOr(ctx, "read upload", err, uploadNotFound())
}

// Abandoned lists a stream's uploads that were not completed, the oldest first,
// at most 1,000 of them.
func (s *Recordings) Abandoned(ctx context.Context, streamID uuid.UUID) ([]livestream.Upload, error) {
	rows, err := many[uploadRow](ctx, s.db.primary, abandonedUploadsSQL, streamID, maxAbandoned)
	return all(rows, uploadRow.domain), fail(ctx, "list abandoned uploads", err)
}

// Stale lists uploads that were not completed and whose streams ended before a time,
// the oldest first, at most 1,000 of them.
func (s *Recordings) Stale(ctx context.Context, before time.Time) ([]livestream.Upload, error) {
	rows, err := many[uploadRow](ctx, s.db.primary, staleUploadsSQL, before, maxAbandoned)
	return all(rows, uploadRow.domain), fail(ctx, "list stale uploads", err)
}

// Delete forgets an upload, unless it was completed; there need not be one.
func (s *Recordings) Delete(ctx context.Context, id uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, deleteUploadSQL, id)
	return fail(ctx, "delete upload", err)
}
