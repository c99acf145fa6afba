package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Recordings are the uploads of streams' recordings.
type Recordings struct{ db *DB }

// NewRecordings are the uploads of a database.
func NewRecordings(db *DB) *Recordings { return &Recordings{db} }

const uploadColumns = `id, stream_id, object_key, storage_id, content_type, size_bytes, part_size, archive_id, created_at`

func scanUpload(row pgx.CollectableRow) (livestream.Upload, error) {
	var u livestream.Upload
	err := row.Scan(&u.ID, &u.StreamID, &u.Key, &u.StorageID, &u.ContentType, &u.SizeBytes, &u.PartSize, &u.ArchiveID, &u.CreatedAt)
	return u, err
}

const createUpload = `-- name: upload.create
INSERT INTO uploads (id, stream_id, object_key, storage_id, content_type, size_bytes, part_size) VALUES ($1, $2, $3, $4, $5, $6, $7)`

// Create notes an upload that was opened.
func (s *Recordings) Create(ctx context.Context, u livestream.Upload) error {
	_, err := s.db.primary.Exec(ctx, createUpload, u.ID, u.StreamID, u.Key, u.StorageID, u.ContentType, u.SizeBytes, u.PartSize)
	return edge("create upload", err)
}

const uploadByID = `-- name: upload.by_id
SELECT ` + uploadColumns + ` FROM uploads WHERE stream_id = $1 AND id = $2`

// ByID finds an upload of a stream.
//
// Errors: upload_not_found.
func (s *Recordings) ByID(ctx context.Context, streamID, id uuid.UUID) (livestream.Upload, error) {
	upload, err := one(ctx, s.db.primary, scanUpload, uploadByID, streamID, id)
	return upload, edge("upload by id", orNotFound(err, errUploadNotFound))
}

const lockUpload = `-- name: upload.lock
SELECT s.user_id, s.title, u.stream_id, u.archive_id FROM uploads u JOIN streams s ON s.id = u.stream_id
WHERE u.id = $1 FOR UPDATE`

const createArchive = `-- name: archive.create
INSERT INTO archives (id, stream_id, user_id, title, status, created_at) VALUES ($1, $2, $3, $4, 'processing', $5)`

const linkArchive = `-- name: archive.link
WITH upload AS (UPDATE uploads SET archive_id = $2 WHERE id = $1 RETURNING stream_id)
UPDATE streams SET archive_id = $2 FROM upload WHERE streams.id = upload.stream_id`

// Complete takes a whole recording: it writes the archive that it will become,
// and notes it in the stream's timeline. Completing it again gives the same
// archive.
//
// Errors: upload_not_found, recording_exists.
func (s *Recordings) Complete(ctx context.Context, uploadID, archiveID uuid.UUID, now time.Time) (livestream.Archive, error) {
	var archive livestream.Archive
	err := s.db.inTx(ctx, func(tx pgx.Tx) error {
		var (
			userID, streamID uuid.UUID
			title            string
			known            *uuid.UUID
		)
		err := tx.QueryRow(ctx, lockUpload, uploadID).Scan(&userID, &title, &streamID, &known)
		if err != nil {
			return orNotFound(err, errUploadNotFound)
		}
		if known != nil {
			archive, err = one(ctx, tx, scanArchive, archiveByID, *known)
			return orNotFound(err, errArchiveNotFound)
		}
		if _, err := tx.Exec(ctx, createArchive, archiveID, streamID, userID, title, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, linkArchive, uploadID, archiveID); err != nil {
			return err
		}
		event := livestream.NewStreamEvent{
			StreamID: streamID, Key: string(livestream.EventRecordingReceived), Type: livestream.EventRecordingReceived,
			Data: map[string]any{"archive_id": archiveID, "upload_id": uploadID},
		}
		if err := appendEvent(ctx, tx, event, now); err != nil {
			return err
		}
		archive, err = one(ctx, tx, scanArchive, archiveByID, archiveID)
		return err
	})
	return archive, edge("complete recording", err)
}

const abandonedUploads = `-- name: upload.abandoned
SELECT ` + uploadColumns + ` FROM uploads WHERE stream_id = $1 AND archive_id IS NULL`

// Abandoned lists a stream's uploads that were not completed.
func (s *Recordings) Abandoned(ctx context.Context, streamID uuid.UUID) ([]livestream.Upload, error) {
	uploads, err := all(ctx, s.db.primary, scanUpload, abandonedUploads, streamID)
	return uploads, edge("abandoned uploads", err)
}

const deleteUpload = `-- name: upload.delete
DELETE FROM uploads WHERE id = $1`

// Delete forgets an upload.
func (s *Recordings) Delete(ctx context.Context, id uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, deleteUpload, id)
	return edge("delete upload", err)
}
