package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Streams are the broadcasts and their timelines.
type Streams struct{ db *DB }

// NewStreams are the streams of a database.
func NewStreams(db *DB) *Streams { return &Streams{db} }

const streamColumns = `id, user_id, title, description, category, tags, status, ingest, record, viewer_count, peak_viewer_count,
	started_at, ended_at, reconnect_deadline, archive_id, created_at`

func scanStream(row pgx.CollectableRow) (livestream.Stream, error) {
	var s livestream.Stream
	err := row.Scan(&s.ID, &s.UserID, &s.Title, &s.Description, &s.Category, &s.Tags, &s.Status, &s.Ingest, &s.Record,
		&s.ViewerCount, &s.PeakViewerCount, &s.StartedAt, &s.EndedAt, &s.ReconnectDeadline, &s.ArchiveID, &s.CreatedAt)
	return s, err
}

const createStream = `-- name: stream.create
INSERT INTO streams (id, user_id, title, description, category, tags, status, ingest, record, started_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, 'live', $7, $8, $9, $9) ON CONFLICT (id) DO NOTHING`

// Create writes a stream that is live, with the beginning of its timeline.
// Creating it again changes nothing.
//
// Errors: already_streaming, user_not_found.
func (s *Streams) Create(ctx context.Context, stream livestream.NewStream, now time.Time) (livestream.Stream, error) {
	if stream.Tags == nil {
		stream.Tags = []string{}
	}
	err := s.db.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, createStream, stream.ID, stream.UserID, stream.Title, stream.Description, stream.Category,
			stream.Tags, stream.Ingest, stream.Record, now)
		if err != nil {
			return err
		}
		for _, event := range []livestream.StreamEventType{livestream.EventCreated, livestream.EventLive} {
			if err := appendEvent(ctx, tx, livestream.NewStreamEvent{StreamID: stream.ID, Key: string(event), Type: event}, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return livestream.Stream{}, edge("create stream", err)
	}
	return s.ByID(ctx, stream.ID)
}

const streamByID = `-- name: stream.by_id
SELECT ` + streamColumns + ` FROM streams WHERE id = $1`

// ByID finds a stream.
//
// Errors: stream_not_found.
func (s *Streams) ByID(ctx context.Context, id uuid.UUID) (livestream.Stream, error) {
	stream, err := one(ctx, s.db.primary, scanStream, streamByID, id)
	return stream, edge("stream by id", orNotFound(err, errStreamNotFound))
}

// List reads streams, those that started last or have most viewers first. The
// statement has only the conditions that are asked for, so that each combination
// runs on its index.
func (s *Streams) List(ctx context.Context, filter livestream.StreamFilter, page livestream.Page) (livestream.List[livestream.Stream], error) {
	var q query
	if filter.Status != nil {
		q.where("status = %s", *filter.Status)
	}
	if filter.UserID != nil {
		q.where("user_id = %s", *filter.UserID)
	}
	if filter.Category != nil {
		q.where("category = %s", *filter.Category)
	}
	order := "started_at"
	if filter.Sort == livestream.SortViewers {
		order = "viewer_count"
	}
	if page.After != nil {
		var key any = page.After.Time
		if filter.Sort == livestream.SortViewers {
			key = page.After.Number
		}
		q.where("("+order+", id) < (%s, %s)", key, page.After.ID)
	}
	sql := q.sql("-- name: stream.list\nSELECT "+streamColumns+" FROM streams", order+" DESC, id DESC", fetchLimit(page))
	rows, err := all(ctx, s.db.primary, scanStream, sql, q.args...)
	return listOf(rows, page, func(s livestream.Stream) livestream.Cursor {
		if filter.Sort == livestream.SortViewers {
			return livestream.Cursor{Number: s.ViewerCount, ID: s.ID}
		}
		return livestream.Cursor{Time: *s.StartedAt, ID: s.ID}
	}), edge("list streams", err)
}

const updateStream = `-- name: stream.update
UPDATE streams SET title = coalesce($2, title), description = coalesce($3, description), category = coalesce($4, category), tags = coalesce($5, tags)
WHERE id = $1 AND user_id = $6 RETURNING ` + streamColumns

// Update changes what a stream says of itself.
//
// Errors: stream_not_found, forbidden.
func (s *Streams) Update(ctx context.Context, id, userID uuid.UUID, patch livestream.StreamPatch) (livestream.Stream, error) {
	stream, err := one(ctx, s.db.primary, scanStream, updateStream, id, patch.Title, patch.Description, patch.Category, patch.Tags, userID)
	if orNotFound(err, errStreamNotFound) == error(errStreamNotFound) {
		if _, err := s.ByID(ctx, id); err != nil {
			return stream, err
		}
		return stream, livestream.Errorf(livestream.CodeForbidden, "this stream is another's")
	}
	return stream, edge("update stream", err)
}

const setStreamStatus = `-- name: stream.set_status
UPDATE streams SET status = $2, reconnect_deadline = $3 WHERE id = $1 AND status <> 'ended' RETURNING ` + streamColumns

// SetStatus moves a stream to another state and notes it in its timeline. Doing
// it again changes nothing, and a stream that has ended stays so.
//
// Errors: stream_not_found.
func (s *Streams) SetStatus(ctx context.Context, id uuid.UUID, status livestream.StreamStatus, at time.Time, reconnectDeadline *time.Time) (livestream.Stream, error) {
	return s.move(ctx, id, livestream.StreamEventType(status), at, func(tx pgx.Tx) (livestream.Stream, error) {
		return one(ctx, tx, scanStream, setStreamStatus, id, status, reconnectDeadline)
	})
}

const finishStream = `-- name: stream.finish
UPDATE streams SET status = 'ended', ended_at = $2, reconnect_deadline = NULL, viewer_count = $3, peak_viewer_count = greatest(peak_viewer_count, $4)
WHERE id = $1 AND status <> 'ended' RETURNING ` + streamColumns

// Finish ends a stream and keeps how many watched it. Doing it again changes
// nothing.
//
// Errors: stream_not_found.
func (s *Streams) Finish(ctx context.Context, id uuid.UUID, at time.Time, viewers, peak int64) (livestream.Stream, error) {
	return s.move(ctx, id, livestream.EventEnded, at, func(tx pgx.Tx) (livestream.Stream, error) {
		return one(ctx, tx, scanStream, finishStream, id, at, viewers, peak)
	})
}

// move runs a change of state and notes it, in one transaction. The event's key
// holds its time, which is the workflow's own and so the same in each attempt.
func (s *Streams) move(ctx context.Context, id uuid.UUID, event livestream.StreamEventType, at time.Time, change func(tx pgx.Tx) (livestream.Stream, error)) (livestream.Stream, error) {
	var stream livestream.Stream
	err := s.db.inTx(ctx, func(tx pgx.Tx) (err error) {
		stream, err = change(tx)
		if orNotFound(err, errStreamNotFound) == error(errStreamNotFound) {
			stream, err = one(ctx, tx, scanStream, streamByID, id)
			return orNotFound(err, errStreamNotFound)
		}
		if err != nil {
			return err
		}
		key := fmt.Sprintf("%s:%d", event, at.UnixMicro())
		return appendEvent(ctx, tx, livestream.NewStreamEvent{StreamID: id, Key: key, Type: event}, at)
	})
	return stream, edge("move stream", err)
}

const lockStream = `-- name: stream.lock
SELECT last_seq FROM streams WHERE id = $1 FOR UPDATE`

const insertEvent = `-- name: stream_event.insert
INSERT INTO stream_events (stream_id, seq, key, type, at, data) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT stream_events_key DO NOTHING`

const bumpSeq = `-- name: stream.bump_seq
UPDATE streams SET last_seq = $2 WHERE id = $1`

// AppendEvent writes a line of a stream's timeline; one with a key that is there
// changes nothing.
//
// Errors: stream_not_found.
func (s *Streams) AppendEvent(ctx context.Context, event livestream.NewStreamEvent) error {
	err := s.db.inTx(ctx, func(tx pgx.Tx) error { return appendEvent(ctx, tx, event, time.Now().UTC()) })
	return edge("append event", err)
}

// appendEvent takes the next seq under the stream's lock, so that there is no gap.
func appendEvent(ctx context.Context, tx pgx.Tx, event livestream.NewStreamEvent, at time.Time) error {
	var last int64
	if err := tx.QueryRow(ctx, lockStream, event.StreamID).Scan(&last); err != nil {
		return orNotFound(err, errStreamNotFound)
	}
	data := event.Data
	if data == nil {
		data = map[string]any{}
	}
	tag, err := tx.Exec(ctx, insertEvent, event.StreamID, last+1, event.Key, event.Type, at, data)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	_, err = tx.Exec(ctx, bumpSeq, event.StreamID, last+1)
	return err
}

const streamTimeline = `-- name: stream_event.list
SELECT seq, type, at, data FROM stream_events WHERE stream_id = $1 AND seq > coalesce($2, 0) ORDER BY seq LIMIT $3`

// Timeline reads what happened to a stream, in order.
func (s *Streams) Timeline(ctx context.Context, streamID uuid.UUID, page livestream.Page) (livestream.List[livestream.StreamEvent], error) {
	rows, err := all(ctx, s.db.primary, func(row pgx.CollectableRow) (livestream.StreamEvent, error) {
		var (
			e    livestream.StreamEvent
			data []byte
		)
		err := row.Scan(&e.Seq, &e.Type, &e.At, &data)
		e.Data = json.RawMessage(data)
		return e, err
	}, streamTimeline, streamID, afterNumber(page), fetchLimit(page))
	return listOf(rows, page, func(e livestream.StreamEvent) livestream.Cursor {
		return livestream.Cursor{Number: e.Seq}
	}), edge("timeline", err)
}
