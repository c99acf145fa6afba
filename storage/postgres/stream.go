package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Streams keeps broadcasts and their timelines.
type Streams struct{ db *DB }

// NewStreams keeps streams in db.
func NewStreams(db *DB) *Streams { return &Streams{db: db} }

// A parameter that is NULL narrows nothing. Each execution is planned with its
// own values, so that such a condition is gone before an index is chosen.
const (
	streamColumns = `id, user_id, title, description, category, tags, status, ingest, record, viewer_count, peak_viewer_count,
	started_at, ended_at, reconnect_deadline, archive_id, created_at,
	coalesce((SELECT a.status = 'ready' AND a.visibility = 'public' FROM archives a WHERE a.id = streams.archive_id), false) AS archive_ready`
	streamFilter = `($1::text IS NULL OR status = $1) AND ($2::uuid IS NULL OR user_id = $2) AND ($3::text IS NULL OR category = $3)`
)

const (
	// The timeline begins in the same statement: no stream is without one.
	createStreamSQL = `-- name: streams.create
WITH s AS (
	INSERT INTO streams (id, user_id, title, description, category, tags, ingest, record, status, started_at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
	ON CONFLICT (id) DO NOTHING
	RETURNING ` + streamColumns + `
), begun AS (
	INSERT INTO stream_events (stream_id, seq, key, type, at)
	SELECT s.id, e.seq, e.type, e.type, $11
	FROM s CROSS JOIN (VALUES (1, 'created'), (2, 'live')) e (seq, type) WHERE e.type IN ('created', s.status)
)
SELECT * FROM s`

	streamByIDSQL = `-- name: streams.by_id
SELECT ` + streamColumns + ` FROM streams WHERE id = $1`

	streamsByIDsSQL = `-- name: streams.by_ids
SELECT ` + streamColumns + ` FROM streams WHERE id = ANY ($1)`

	listStreamsSQL = `-- name: streams.list
SELECT ` + streamColumns + ` FROM streams
WHERE ` + streamFilter + ` AND (started_at, id) < ($4, $5)
ORDER BY started_at DESC, id DESC LIMIT $6`

	listStreamsByViewersSQL = `-- name: streams.list_by_viewers
SELECT ` + streamColumns + ` FROM streams
WHERE ` + streamFilter + ` AND (viewer_count, id) < ($4, $5)
ORDER BY viewer_count DESC, id DESC LIMIT $6`

	updateStreamSQL = `-- name: streams.update
UPDATE streams SET title = coalesce($3, title), description = coalesce($4, description), category = coalesce($5, category), tags = coalesce($6, tags)
WHERE id = $1 AND user_id = $2 RETURNING ` + streamColumns

	lockStreamSQL = `-- name: streams.lock
SELECT ` + streamColumns + ` FROM streams WHERE id = $1 FOR NO KEY UPDATE`

	setStreamStatusSQL = `-- name: streams.set_status
UPDATE streams SET status = $2, reconnect_deadline = $4,
	started_at = CASE WHEN $2 = 'live' AND started_at = 'infinity' THEN $3 ELSE started_at END
WHERE id = $1 RETURNING ` + streamColumns

	finishStreamSQL = `-- name: streams.finish
UPDATE streams SET status = 'ended', ended_at = $2, reconnect_deadline = NULL, viewer_count = $3, peak_viewer_count = $4
WHERE id = $1 RETURNING ` + streamColumns

	// The stream is locked: nobody else takes the same number.
	appendEventSQL = `-- name: stream_events.append
INSERT INTO stream_events (stream_id, seq, key, type, at, data)
SELECT $1, coalesce(max(seq), 0) + 1, $2, $3, coalesce($4, clock_timestamp()), $5 FROM stream_events WHERE stream_id = $1
ON CONFLICT (stream_id, key) DO NOTHING`

	timelineSQL = `-- name: stream_events.list
SELECT seq, type, at, data FROM stream_events WHERE stream_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`
)

type streamRow struct {
	ID                uuid.UUID
	UserID            uuid.UUID
	Title             string
	Description       string
	Category          string
	Tags              []string
	Status            livestream.StreamStatus
	Ingest            livestream.Ingest
	Record            bool
	ViewerCount       int64
	PeakViewerCount   int64
	StartedAt         pgtype.Timestamptz // infinity before the start
	EndedAt           *time.Time
	ReconnectDeadline *time.Time
	ArchiveID         *uuid.UUID
	ArchiveReady      bool
	CreatedAt         time.Time
}

func (r streamRow) domain() livestream.Stream {
	stream := livestream.Stream{
		ID: r.ID, UserID: r.UserID, Title: r.Title, Description: r.Description, Category: r.Category, Tags: r.Tags, Status: r.Status,
		Ingest: r.Ingest, Record: r.Record, ViewerCount: r.ViewerCount, PeakViewerCount: r.PeakViewerCount, EndedAt: r.EndedAt,
		ReconnectDeadline: r.ReconnectDeadline, ArchiveID: r.ArchiveID, ArchiveReady: r.ArchiveReady, CreatedAt: r.CreatedAt,
	}
	if r.StartedAt.InfinityModifier == pgtype.Finite {
		stream.StartedAt = &r.StartedAt.Time
	}
	return stream
}

type streamEventRow struct {
	Seq  int64
	Type livestream.StreamEventType
	At   time.Time
	Data json.RawMessage
}

func (r streamEventRow) domain() livestream.StreamEvent { return livestream.StreamEvent(r) }

// Create writes a stream and the beginning of its timeline. With external ingest
// it is live at once, with RTMP it starts. Creating it again changes nothing.
// CodeAlreadyStreaming, CodeUserNotFound.
func (s *Streams) Create(ctx context.Context, stream livestream.NewStream, now time.Time) (livestream.Stream, error) {
	status, startedAt := livestream.StreamLive, pgtype.Timestamptz{Time: now, Valid: true}
	if stream.Ingest == livestream.IngestRTMP {
		status, startedAt = livestream.StreamStarting, lastTime
	}
	row, err := one[streamRow](ctx, s.db.primary, createStreamSQL, stream.ID, stream.UserID, stream.Title, stream.Description, stream.Category,
		notNil(stream.Tags), stream.Ingest, stream.Record, status, startedAt, now)
	err = fail(ctx, "create stream", err)
	// The stream that is under way may be this one: of two attempts at the same
	// moment, the slower is refused by whichever of the two keys it meets first.
	if errors.Is(err, pgx.ErrNoRows) || livestream.CodeOf(err) == livestream.CodeAlreadyStreaming {
		made, e := one[streamRow](ctx, s.db.primary, streamByIDSQL, stream.ID)
		if !errors.Is(e, pgx.ErrNoRows) {
			return made.domain(), fail(ctx, "read stream", e)
		}
	}
	return row.domain(), err
}

// ByID gives a stream; CodeStreamNotFound.
func (s *Streams) ByID(ctx context.Context, id uuid.UUID) (livestream.Stream, error) {
	row, err := readOne[streamRow](ctx, s.db, streamByIDSQL, id)
	return row.domain(), failOr(ctx, "read stream", err, streamNotFound())
}

// ByIDs gives those of the streams that there are, in no order.
func (s *Streams) ByIDs(ctx context.Context, ids []uuid.UUID) ([]livestream.Stream, error) {
	rows, err := readMany[streamRow](ctx, s.db, streamsByIDsSQL, ids)
	return all(rows, streamRow.domain), fail(ctx, "read streams", err)
}

// List lists streams, those that started last or that have most viewers first.
func (s *Streams) List(ctx context.Context, filter livestream.StreamFilter, page livestream.Page) (livestream.List[livestream.Stream], error) {
	limit := limitOf(page)
	var (
		rows   []streamRow
		err    error
		cursor func(streamRow) livestream.Cursor
	)
	if filter.Sort == livestream.SortViewers {
		viewers, id := beforeNumber(page)
		rows, err = readMany[streamRow](ctx, s.db, listStreamsByViewersSQL, filter.Status, filter.UserID, filter.Category, viewers, id, limit+1)
		cursor = func(r streamRow) livestream.Cursor { return livestream.Cursor{Number: r.ViewerCount, ID: r.ID} }
	} else {
		at, id := beforeTime(page)
		rows, err = readMany[streamRow](ctx, s.db, listStreamsSQL, filter.Status, filter.UserID, filter.Category, at, id, limit+1)
		cursor = func(r streamRow) livestream.Cursor { return livestream.Cursor{Time: r.StartedAt.Time, ID: r.ID} }
	}
	if err != nil {
		return livestream.List[livestream.Stream]{}, fail(ctx, "list streams", err)
	}
	return listOf(rows, limit, streamRow.domain, cursor), nil
}

// Update changes what a stream says of itself; CodeStreamNotFound, and
// CodeForbidden when it is not the user's.
func (s *Streams) Update(ctx context.Context, id, userID uuid.UUID, patch livestream.StreamPatch) (livestream.Stream, error) {
	var tags []string
	if patch.Tags != nil {
		tags = notNil(*patch.Tags)
	}
	row, err := one[streamRow](ctx, s.db.primary, updateStreamSQL, id, userID, patch.Title, patch.Description, patch.Category, tags)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err := one[streamRow](ctx, s.db.primary, streamByIDSQL, id); err != nil {
			return livestream.Stream{}, failOr(ctx, "read stream", err, streamNotFound())
		}
		return livestream.Stream{}, livestream.Errorf(livestream.CodeForbidden, "this stream is another member's")
	}
	return row.domain(), fail(ctx, "update stream", err)
}

// SetStatus moves a stream to another state and notes it in the timeline, once
// for each state and time. A stream that is ending or has ended does not come
// back, which is no error. CodeStreamNotFound.
func (s *Streams) SetStatus(ctx context.Context, id uuid.UUID, status livestream.StreamStatus, at time.Time, reconnectDeadline *time.Time) (livestream.Stream, error) {
	return s.move(ctx, id, status, at, func(tx querier) (streamRow, error) {
		return one[streamRow](ctx, tx, setStreamStatusSQL, id, status, at, reconnectDeadline)
	})
}

// Finish ends a stream and keeps how many watched it at last and at most.
// Finishing it again changes nothing. CodeStreamNotFound.
func (s *Streams) Finish(ctx context.Context, id uuid.UUID, at time.Time, viewers, peak int64) (livestream.Stream, error) {
	return s.move(ctx, id, livestream.StreamEnded, at, func(tx querier) (streamRow, error) {
		return one[streamRow](ctx, tx, finishStreamSQL, id, at, viewers, peak)
	})
}

// move changes a stream and notes it, together. That it is noted already means
// that the change was made: an attempt that was thought lost and comes late must
// not undo what followed it.
func (s *Streams) move(ctx context.Context, id uuid.UUID, to livestream.StreamStatus, at time.Time, change func(tx querier) (streamRow, error)) (livestream.Stream, error) {
	var row streamRow
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		row, err = lockStream(ctx, tx, id)
		if err != nil || row.Status == livestream.StreamEnded || to.Active() && !row.Status.Active() {
			return err
		}
		event := livestream.NewStreamEvent{StreamID: id, Key: fmt.Sprintf("%s:%d", to, at.UnixMicro()), Type: livestream.StreamEventType(to)}
		fresh, err := appendEvent(ctx, tx, event, &at)
		if err != nil || !fresh {
			return err
		}
		row, err = change(tx)
		return err
	})
	return row.domain(), fail(ctx, "stream becomes "+string(to), err)
}

// AppendEvent adds a line to a stream's timeline, once a key; CodeStreamNotFound.
func (s *Streams) AppendEvent(ctx context.Context, event livestream.NewStreamEvent) error {
	err := s.db.inTx(ctx, func(tx querier) error { return lockAndAppend(ctx, tx, event, nil) })
	return fail(ctx, "append to timeline", err)
}

// lockStream keeps everybody else from a stream's state and timeline until the
// transaction ends.
func lockStream(ctx context.Context, tx querier, id uuid.UUID) (streamRow, error) {
	row, err := one[streamRow](ctx, tx, lockStreamSQL, id)
	return row, failOr(ctx, "lock stream", err, streamNotFound())
}

func lockAndAppend(ctx context.Context, tx querier, event livestream.NewStreamEvent, at *time.Time) error {
	if _, err := lockStream(ctx, tx, event.StreamID); err != nil {
		return err
	}
	_, err := appendEvent(ctx, tx, event, at)
	return err
}

// appendEvent adds a line to the timeline of a stream that is locked, and says
// whether it was not there. Without a time it has the database's.
func appendEvent(ctx context.Context, tx querier, event livestream.NewStreamEvent, at *time.Time) (bool, error) {
	data := event.Data
	if data == nil {
		data = map[string]any{}
	}
	tag, err := tx.Exec(ctx, appendEventSQL, event.StreamID, event.Key, event.Type, at, data)
	return tag.RowsAffected() == 1, err
}

// Timeline lists what happened to a stream, in order; nothing when there is no
// such stream.
func (s *Streams) Timeline(ctx context.Context, streamID uuid.UUID, page livestream.Page) (livestream.List[livestream.StreamEvent], error) {
	limit := limitOf(page)
	rows, err := readMany[streamEventRow](ctx, s.db, timelineSQL, streamID, afterNumber(page), limit+1)
	if err != nil {
		return livestream.List[livestream.StreamEvent]{}, fail(ctx, "read timeline", err)
	}
	return listOf(rows, limit, streamEventRow.domain, func(r streamEventRow) livestream.Cursor {
		return livestream.Cursor{Number: r.Seq}
	}), nil
}

// notNil is for columns that are not null: pgx writes a nil slice as NULL.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
