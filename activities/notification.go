package activities

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// NotificationStore is what the fan-out needs of the database.
type NotificationStore interface {
	Open(ctx context.Context, creator uuid.UUID) (int64, error)
	PlanRanges(ctx context.Context, live livestream.GoLive, after uuid.UUID, size, limit int) ([]livestream.FollowerRange, error)
	NotifyRange(ctx context.Context, live livestream.GoLive, r livestream.FollowerRange) (livestream.RangeResult, error)
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

// courtesyTimeout bounds what a step can do without. It has better to do than to wait
// for a Redis that hangs.
const courtesyTimeout = 250 * time.Millisecond

// ring tells those who are connected, which is made up for when they next ask, and has
// the browsers told that are subscribed: that is sure to happen when it has worked.
func ring(ctx context.Context, connected NotificationPublisher, browsers Browsers, push livestream.NotificationPush) error {
	brief, cancel := context.WithTimeout(ctx, courtesyTimeout)
	defer cancel()
	if err := connected.Publish(brief, push); err != nil {
		activity.GetLogger(ctx).Warn("push a notification", "key", push.Key, "error", err)
	}
	return browsers.Ring(ctx, push)
}

// Notifications are the steps of a fan-out.
type Notifications struct {
	Store    NotificationStore
	Timeline TimelineStore
	Push     NotificationPublisher
	Browsers Browsers
	Now      func() time.Time
}

// BeginInput opens a fan-out. An audience of no more than Small is told at once.
type BeginInput struct {
	Stream livestream.GoLive
	Small  int
	// StartedAt is the same at each attempt, so that none is taken for a later fan-out.
	StartedAt time.Time
}

// Begun is where a fan-out is after its first step.
type Begun struct {
	Progress livestream.NotifyProgress `json:"progress"`
	// Told says that this was all of it; but for its Finish.
	Told bool `json:"told,omitempty"`
}

// Begin opens the fan-out's progress. A small audience is told in the same step; when
// that does not work, the fan-out goes on as a large one does.
func (a *Notifications) Begin(ctx context.Context, in BeginInput) (Begun, error) {
	live := in.Stream
	total, err := a.Store.Open(ctx, live.CreatorID)
	if err != nil {
		return Begun{}, edge(err)
	}
	begun := Begun{Progress: livestream.NotifyProgress{Status: livestream.NotifyRunning, FollowersTotal: total, StartedAt: &in.StartedAt}}
	err = a.Timeline.AppendEvent(ctx, livestream.NewStreamEvent{
		StreamID: live.StreamID, Key: string(livestream.EventNotifyStarted), Type: livestream.EventNotifyStarted,
		Data: map[string]any{"followers_total": total},
	})
	if err != nil {
		return begun, edge(err)
	}
	ranges, err := a.Store.PlanRanges(ctx, live, uuid.Nil, in.Small, 2)
	if err != nil {
		return begun, edge(err)
	}
	if len(ranges) < 2 {
		if p, ok := a.tellAll(ctx, live, ranges, begun.Progress); ok {
			return Begun{Progress: p, Told: true}, edge(a.finish(ctx, live.StreamID, p))
		}
	}
	return begun, edge(a.Store.SaveProgress(ctx, live.StreamID, begun.Progress))
}

// tellAll tells the one range of a small audience, or the none of an empty one.
func (a *Notifications) tellAll(ctx context.Context, live livestream.GoLive, ranges []livestream.FollowerRange, p livestream.NotifyProgress) (livestream.NotifyProgress, bool) {
	began := a.Now()
	p.Status = livestream.NotifyCompleted
	for _, r := range ranges {
		result, err := a.NotifyRange(ctx, live, r)
		if err != nil {
			return p, false
		}
		p.Notified, p.Skipped = result.Notified, result.Skipped
		if result.Ended {
			p.Status = livestream.NotifyStopped
		}
	}
	if p.Status == livestream.NotifyCompleted {
		p.FollowersTotal = p.Done()
	}
	now := a.Now()
	if took := now.Sub(began).Seconds(); took > 0 {
		p.Rate = float64(p.Done()) / took
	}
	p.FinishedAt = &now
	return p, true
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
// push that is lost is made up for by the next, or when the client comes back. Their
// browsers are rung by a workflow, which is there when this has worked.
func (a *Notifications) NotifyRange(ctx context.Context, live livestream.GoLive, r livestream.FollowerRange) (livestream.RangeResult, error) {
	result, err := a.Store.NotifyRange(ctx, live, r)
	if err != nil {
		return result, edge(err)
	}
	if result.Notified > 0 {
		push := livestream.NotificationPush{Key: livestream.StreamLiveKey(live.StreamID), At: live.Before, Range: &r, CreatorID: live.CreatorID}
		err = ring(ctx, a.Push, a.Browsers, push)
	}
	return result, edge(err)
}

// SaveProgress keeps how far the fan-out is.
func (a *Notifications) SaveProgress(ctx context.Context, streamID uuid.UUID, progress livestream.NotifyProgress) error {
	return edge(a.Store.SaveProgress(ctx, streamID, progress))
}

// Finish closes the fan-out.
func (a *Notifications) Finish(ctx context.Context, streamID uuid.UUID, progress livestream.NotifyProgress) error {
	return edge(a.finish(ctx, streamID, progress))
}

func (a *Notifications) finish(ctx context.Context, streamID uuid.UUID, progress livestream.NotifyProgress) error {
	if err := a.Store.SaveProgress(ctx, streamID, progress); err != nil {
		return err
	}
	return a.Timeline.AppendEvent(ctx, livestream.NewStreamEvent{
		StreamID: streamID, Key: string(livestream.EventNotifyFinished), Type: livestream.EventNotifyFinished,
		Data: map[string]any{"status": progress.Status, "notified": progress.Notified, "skipped": progress.Skipped, "failed": progress.Failed},
	})
}
