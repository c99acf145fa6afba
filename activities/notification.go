package activities

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// NotificationStore is what the fan-out needs of the database.
type NotificationStore interface {
	CountAudience(ctx context.Context, live livestream.GoLive) (int64, error)
	PlanRanges(ctx context.Context, live livestream.GoLive, after uuid.UUID, size, limit int) ([]livestream.FollowerRange, error)
	NotifyRange(ctx context.Context, live livestream.GoLive, r livestream.FollowerRange) (int64, error)
	SaveProgress(ctx context.Context, streamID uuid.UUID, progress livestream.NotifyProgress) error
}

// TimelineStore writes lines of a stream's timeline.
type TimelineStore interface {
	AppendEvent(ctx context.Context, event livestream.NewStreamEvent) error
}

// NotificationPublisher tells the chat nodes that inboxes changed.
type NotificationPublisher interface {
	Publish(ctx context.Context, push livestream.NotificationPush) error
}

// Notifications are the steps of a fan-out.
type Notifications struct {
	Store    NotificationStore
	Timeline TimelineStore
	Push     NotificationPublisher
	Now      func() time.Time
}

// Begin counts the audience and opens the fan-out's progress.
func (a *Notifications) Begin(ctx context.Context, live livestream.GoLive) (livestream.NotifyProgress, error) {
	total, err := a.Store.CountAudience(ctx, live)
	if err != nil {
		return livestream.NotifyProgress{}, edge(err)
	}
	now := a.Now()
	progress := livestream.NotifyProgress{Status: livestream.NotifyRunning, FollowersTotal: total, StartedAt: &now}
	if err := a.Store.SaveProgress(ctx, live.StreamID, progress); err != nil {
		return progress, edge(err)
	}
	err = a.Timeline.AppendEvent(ctx, livestream.NewStreamEvent{
		StreamID: live.StreamID, Key: string(livestream.EventNotifyStarted), Type: livestream.EventNotifyStarted,
		Data: map[string]any{"followers_total": total},
	})
	return progress, edge(err)
}

// PlanInput asks for the next ranges of a stream's audience.
type PlanInput struct {
	Stream livestream.GoLive
	After  uuid.UUID
	Size   int
	Limit  int
}

// Plan gives the next ranges; none at the end.
func (a *Notifications) Plan(ctx context.Context, in PlanInput) ([]livestream.FollowerRange, error) {
	ranges, err := a.Store.PlanRanges(ctx, in.Stream, in.After, in.Size, in.Limit)
	return ranges, edge(err)
}

// NotifyRange writes the notifications of one range of followers in one
// statement and has those that are connected told. The rows are what counts: a
// push that is lost is made up for when the client next asks.
func (a *Notifications) NotifyRange(ctx context.Context, live livestream.GoLive, r livestream.FollowerRange) (int64, error) {
	notified, err := a.Store.NotifyRange(ctx, live, r)
	if err != nil {
		return 0, edge(err)
	}
	_ = a.Push.Publish(ctx, livestream.NotificationPush{Key: livestream.StreamLiveKey(live.StreamID), Range: &r})
	return notified, nil
}

// SaveProgress keeps how far the fan-out is.
func (a *Notifications) SaveProgress(ctx context.Context, streamID uuid.UUID, progress livestream.NotifyProgress) error {
	return edge(a.Store.SaveProgress(ctx, streamID, progress))
}

// Finish closes the fan-out.
func (a *Notifications) Finish(ctx context.Context, streamID uuid.UUID, progress livestream.NotifyProgress) error {
	if err := a.Store.SaveProgress(ctx, streamID, progress); err != nil {
		return edge(err)
	}
	return edge(a.Timeline.AppendEvent(ctx, livestream.NewStreamEvent{
		StreamID: streamID, Key: string(livestream.EventNotifyFinished), Type: livestream.EventNotifyFinished,
		Data: map[string]any{"status": progress.Status, "notified": progress.Notified, "failed": progress.Failed},
	}))
}
