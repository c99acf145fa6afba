package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// StreamStore is what the stream's steps need of the database.
type StreamStore interface {
	Create(ctx context.Context, stream livestream.NewStream, now time.Time) (livestream.Stream, error)
	SetStatus(ctx context.Context, id uuid.UUID, status livestream.StreamStatus, at time.Time, reconnectDeadline *time.Time) (livestream.Stream, error)
	Finish(ctx context.Context, id uuid.UUID, at time.Time, viewers, peak int64) (livestream.Stream, error)
	AppendEvent(ctx context.Context, event livestream.NewStreamEvent) error
}

// RecordingStore is what they need of it for recordings.
type RecordingStore interface {
	Complete(ctx context.Context, uploadID, archiveID uuid.UUID, now time.Time) (livestream.Archive, error)
	Abandoned(ctx context.Context, streamID uuid.UUID) ([]livestream.Upload, error)
	Stale(ctx context.Context, before time.Time) ([]livestream.Upload, error)
	Delete(ctx context.Context, id uuid.UUID) error
}

// UploadAborter forgets an upload that nobody will finish, with its parts.
type UploadAborter interface {
	AbortUpload(ctx context.Context, upload livestream.Upload) error
}

// ViewerCounter knows how many watch a stream.
type ViewerCounter interface {
	Viewers(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]int64, error)
	Peak(ctx context.Context, id uuid.UUID) (int64, error)
}

// ChatAppender writes an event into a stream's chat.
type ChatAppender interface {
	Append(ctx context.Context, event livestream.NewChatEvent) (livestream.ChatEvent, bool, error)
}

// Streams are the steps of a stream's life.
type Streams struct {
	Store      StreamStore
	Recordings RecordingStore
	Uploads    UploadAborter
	Viewers    ViewerCounter
	Chat       ChatAppender
	Now        func() time.Time
}

// Create writes the stream's row and the beginning of its timeline. The database
// refuses a creator's second live stream. A start that was taken back stays so.
func (a *Streams) Create(ctx context.Context, stream livestream.NewStream) error {
	made, err := a.Store.Create(ctx, stream, a.Now())
	if err == nil && !made.Status.Active() {
		err = livestream.Errorf(livestream.CodeStreamNotLive, "this stream is over; start another one, with another Idempotency-Key")
	}
	return edge(err)
}

// Withdraw ends a stream whose start was not answered, if there is one.
func (a *Streams) Withdraw(ctx context.Context, id uuid.UUID) error {
	_, err := a.Store.Finish(ctx, id, a.Now(), 0, 0)
	return edge(unless(err, livestream.CodeStreamNotFound))
}

// StreamStatusChange is one step of a stream's life.
type StreamStatusChange struct {
	StreamID          uuid.UUID
	Status            livestream.StreamStatus
	At                time.Time
	ReconnectDeadline *time.Time
}

// SetStatus writes a change of state and its line in the timeline.
func (a *Streams) SetStatus(ctx context.Context, change StreamStatusChange) error {
	_, err := a.Store.SetStatus(ctx, change.StreamID, change.Status, change.At, change.ReconnectDeadline)
	return edge(err)
}

// countTimeout bounds what the end of a stream waits for its viewers' counts.
const countTimeout = 500 * time.Millisecond

// Finish ends the stream and keeps its viewers' final and peak counts. With the
// counts out of reach the end is written all the same, with what is known.
func (a *Streams) Finish(ctx context.Context, id uuid.UUID, at time.Time) error {
	viewers, peak := a.count(ctx, id)
	_, err := a.Store.Finish(ctx, id, at, viewers, peak)
	return edge(err)
}

func (a *Streams) count(ctx context.Context, id uuid.UUID) (viewers, peak int64) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	if counts, err := a.Viewers.Viewers(ctx, id); err == nil {
		viewers = counts[id]
	}
	if p, err := a.Viewers.Peak(ctx, id); err == nil {
		peak = p
	}
	return viewers, max(peak, viewers)
}

// AppendEvent writes a line of the timeline.
func (a *Streams) AppendEvent(ctx context.Context, event livestream.NewStreamEvent) error {
	return edge(a.Store.AppendEvent(ctx, event))
}

// AnnounceStatus tells the chat of states that the stream has come to, one after the
// other. Between two reconnects it comes to each of them once.
func (a *Streams) AnnounceStatus(ctx context.Context, id uuid.UUID, statuses []livestream.StreamStatus, reconnects int) error {
	for _, status := range statuses {
		_, _, err := a.Chat.Append(ctx, livestream.NewChatEvent{
			StreamID: id, Nonce: fmt.Sprintf("status:%s:%d", status, reconnects), Type: livestream.ChatStreamStatus, Body: livestream.ChatStreamBody{Status: status},
		})
		if err != nil {
			return edge(err)
		}
	}
	return nil
}

// CompleteRecording writes the archive that a received recording will become,
// and gives its id. Object names derive from that id, so the first one stays.
func (a *Streams) CompleteRecording(ctx context.Context, uploadID uuid.UUID) (livestream.Archive, error) {
	archiveID, err := uuid.NewV7()
	if err != nil {
		return livestream.Archive{}, err
	}
	archive, err := a.Recordings.Complete(ctx, uploadID, archiveID, a.Now())
	return archive, edge(err)
}

// AbortUploads forgets the uploads of a stream that were never completed. What it
// did stays done when it runs again.
func (a *Streams) AbortUploads(ctx context.Context, streamID uuid.UUID) error {
	return a.abort(ctx, func() ([]livestream.Upload, error) { return a.Recordings.Abandoned(ctx, streamID) })
}

// AbortStaleUploads forgets those that were begun when the stream's workflow had done so.
func (a *Streams) AbortStaleUploads(ctx context.Context) error {
	before := a.Now().Add(-livestream.UploadsKept)
	return a.abort(ctx, func() ([]livestream.Upload, error) { return a.Recordings.Stale(ctx, before) })
}

// abort forgets uploads until there are no more; next gives some of them.
func (a *Streams) abort(ctx context.Context, next func() ([]livestream.Upload, error)) error {
	for {
		uploads, err := next()
		if err != nil || len(uploads) == 0 {
			return edge(err)
		}
		for _, upload := range uploads {
			if err := a.Uploads.AbortUpload(ctx, upload); err != nil {
				return edge(err)
			}
			if err := a.Recordings.Delete(ctx, upload.ID); err != nil {
				return edge(err)
			}
			activity.RecordHeartbeat(ctx)
		}
	}
}
