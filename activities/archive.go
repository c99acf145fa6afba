package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// ArchiveStore is what the archive's steps need of the database.
type ArchiveStore interface {
	ByID(ctx context.Context, id uuid.UUID) (livestream.Archive, error)
	MarkProcessing(ctx context.Context, id uuid.UUID) error
	MarkReady(ctx context.Context, id uuid.UUID, info livestream.MediaInfo, renditions []livestream.Rendition, sizeBytes int64, now time.Time) (livestream.Archive, error)
	MarkFailed(ctx context.Context, id uuid.UUID, failure livestream.Failure, attempt int, now time.Time) error
	Delete(ctx context.Context, id, streamID, userID uuid.UUID) error
}

// SourceStore knows which recording an archive was made of.
type SourceStore interface {
	OfArchive(ctx context.Context, streamID, archiveID uuid.UUID) (livestream.Upload, error)
}

// ObjectRemover deletes from object storage.
type ObjectRemover interface {
	Delete(ctx context.Context, key string) error
	DeletePrefix(ctx context.Context, prefix string, alive func()) error
}

// Notifier writes a notification of one recipient.
type Notifier interface {
	Notify(ctx context.Context, notification livestream.NewNotification) (livestream.Notification, error)
}

// Archives are the steps of an archive's life that need no media tools.
type Archives struct {
	Store      ArchiveStore
	Recordings SourceStore
	Timeline   TimelineStore
	Objects    ObjectRemover
	Notify     Notifier
	Push       NotificationPublisher
	Browsers   Browsers
	Now        func() time.Time
}

// Begin opens an attempt to make the archive.
func (a *Archives) Begin(ctx context.Context, id, streamID uuid.UUID, attempt int) error {
	if err := a.Store.MarkProcessing(ctx, id); err != nil {
		return edge(err)
	}
	return edge(a.Timeline.AppendEvent(ctx, livestream.NewStreamEvent{
		StreamID: streamID, Key: fmt.Sprintf("%s:%s:%d", livestream.EventArchiveStarted, id, attempt), Type: livestream.EventArchiveStarted,
		Data: map[string]any{"archive_id": id},
	}))
}

// Ready publishes the archive and tells its creator.
func (a *Archives) Ready(ctx context.Context, id uuid.UUID, info livestream.MediaInfo, made Assembled) error {
	archive, err := a.Store.MarkReady(ctx, id, info, made.Renditions, made.SizeBytes, a.Now())
	if err != nil {
		return edge(err)
	}
	key := livestream.ArchiveReadyKey(id)
	_, err = a.Notify.Notify(ctx, livestream.NewNotification{
		UserID: archive.UserID, Key: key, Type: livestream.NotifyArchiveReady, At: *archive.ReadyAt,
		Data: map[string]any{"archive_id": id, "stream_id": archive.StreamID},
	})
	if err != nil {
		return edge(err)
	}
	push := livestream.NotificationPush{Key: key, At: *archive.ReadyAt, User: &archive.UserID}
	return edge(ring(ctx, a.Push, a.Browsers, push))
}

// Fail says why there is no archive. One that was deleted meanwhile needs no
// reason.
func (a *Archives) Fail(ctx context.Context, id uuid.UUID, failure livestream.Failure, attempt int) error {
	err := a.Store.MarkFailed(ctx, id, failure, attempt, a.Now())
	return edge(unless(err, livestream.CodeArchiveNotFound))
}

// Delete removes the archive's row; nobody finds it from then on.
func (a *Archives) Delete(ctx context.Context, id, streamID, userID uuid.UUID) error {
	return edge(unless(a.Store.Delete(ctx, id, streamID, userID), livestream.CodeArchiveNotFound))
}

// DeleteObjects removes an archive's files, with what its steps noted, and the
// recording that they were made of; the stream may have another one by now.
func (a *Archives) DeleteObjects(ctx context.Context, id, streamID uuid.UUID) error {
	for _, prefix := range []string{livestream.ArchivePrefix(id), workPrefix(id)} {
		if err := a.Objects.DeletePrefix(ctx, prefix, func() { activity.RecordHeartbeat(ctx) }); err != nil {
			return edge(err)
		}
	}
	source, err := a.Recordings.OfArchive(ctx, streamID, id)
	if err != nil {
		return edge(unless(err, livestream.CodeUploadNotFound))
	}
	return edge(a.Objects.Delete(ctx, source.Key))
}
