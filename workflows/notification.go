package workflows

import (
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// Names of the handlers of a NotifyFollowers workflow. Pause, resume and cancel
// take effect after the ranges that are under way.
const (
	SignalPause   = "pause"
	SignalResume  = "resume"
	SignalCancel  = "cancel"
	QueryProgress = "progress"
)

// NotifyInput starts a fan-out, or carries one over to its next run.
type NotifyInput struct {
	Stream livestream.GoLive `json:"stream"`
	State  *NotifyState      `json:"state,omitempty"`
}

// NotifyState is all that a fan-out carries from run to run.
type NotifyState struct {
	Progress livestream.NotifyProgress `json:"progress"`
	// After is the last follower of the ranges that are done with.
	After uuid.UUID `json:"after"`
}

var notifySteps *activities.Notifications

// NotifyFollowers tells the followers of a creator that a stream is live: key
// range by key range, a bounded number of them at a time.
func NotifyFollowers(ctx workflow.Context, in NotifyInput) error {
	n := &notify{in: in.Stream}
	if in.State != nil {
		n.NotifyState = *in.State
	}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (livestream.NotifyProgress, error) { return n.Progress, nil }); err != nil {
		return err
	}
	return n.run(ctx)
}

type notify struct {
	NotifyState
	in     livestream.GoLive
	paused bool
	cancel bool
}

func (n *notify) run(ctx workflow.Context) error {
	n.paused = n.Progress.Status == livestream.NotifyPaused
	if n.Progress.StartedAt == nil {
		if err := workflow.ExecuteActivity(write(ctx, "count the audience"), notifySteps.Begin, n.in).Get(ctx, &n.Progress); err != nil {
			return fmt.Errorf("begin the fan-out: %w", err)
		}
	}
	for {
		if err := n.steer(ctx); err != nil {
			return err
		}
		if n.cancel {
			return n.finish(ctx, livestream.NotifyCanceled)
		}
		ranges, err := n.plan(ctx)
		if err != nil {
			return err
		}
		if len(ranges) == 0 {
			return n.finish(ctx, livestream.NotifyCompleted)
		}
		if err := n.tell(ctx, ranges); err != nil {
			return err
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			n.drain(ctx)
			return workflow.NewContinueAsNewError(ctx, NotifyFollowers, NotifyInput{Stream: n.in, State: &n.NotifyState})
		}
	}
}

// steer obeys the operator's signals, and waits while the fan-out is paused.
func (n *notify) steer(ctx workflow.Context) error {
	n.drain(ctx)
	if !n.paused {
		return nil
	}
	for n.paused && !n.cancel {
		n.Progress.Status = livestream.NotifyPaused
		if err := n.save(ctx); err != nil {
			return err
		}
		if err := workflow.Await(ctx, func() bool { return n.drain(ctx) }); err != nil {
			return err
		}
	}
	n.Progress.Status = livestream.NotifyRunning
	return n.save(ctx)
}

// drain takes all signals that are there, in the order of their importance: a
// cancel outlasts a resume. It says whether there was any.
func (n *notify) drain(ctx workflow.Context) bool {
	pause := received(ctx, SignalPause)
	resume := received(ctx, SignalResume)
	cancel := received(ctx, SignalCancel)
	if pause {
		n.paused = true
	}
	if resume {
		n.paused = false
	}
	n.cancel = n.cancel || cancel
	if n.paused {
		n.Progress.Status = livestream.NotifyPaused
	} else {
		n.Progress.Status = livestream.NotifyRunning
	}
	return pause || resume || cancel
}

// received empties a signal channel and says whether anything was in it.
func received(ctx workflow.Context, name string) bool {
	channel, any := workflow.GetSignalChannel(ctx, name), false
	for channel.ReceiveAsync(nil) {
		any = true
	}
	return any
}

func (n *notify) plan(ctx workflow.Context) ([]livestream.FollowerRange, error) {
	in := activities.PlanInput{Stream: n.in, After: n.After, Size: notifyRangeSize, Limit: notifyPlanRanges}
	var ranges []livestream.FollowerRange
	if err := workflow.ExecuteActivity(write(ctx, "plan the next ranges"), notifySteps.Plan, in).Get(ctx, &ranges); err != nil {
		return nil, fmt.Errorf("plan the fan-out: %w", err)
	}
	return ranges, nil
}

// tell notifies the ranges, notifyWindow at a time. It stops early, at the end of
// what is under way, when the operator says so.
func (n *notify) tell(ctx workflow.Context, ranges []livestream.FollowerRange) error {
	for len(ranges) > 0 && !n.paused && !n.cancel {
		batch := ranges[:min(notifyWindow, len(ranges))]
		ranges = ranges[len(batch):]
		futures := make([]workflow.Future, len(batch))
		for i, r := range batch {
			summary := fmt.Sprintf("tell %d followers up to %s", r.Count, r.Upto)
			futures[i] = workflow.ExecuteActivity(fanout(ctx, summary), notifySteps.NotifyRange, n.in, r)
		}
		for i, future := range futures {
			var notified int64
			err := future.Get(ctx, &notified)
			if temporal.IsCanceledError(err) {
				return err
			}
			if err != nil {
				workflow.GetLogger(ctx).Error("a range was given up", "range", batch[i], "error", err)
				n.Progress.Failed += batch[i].Count
			}
			n.Progress.Notified += notified
			n.After = batch[i].Upto
		}
		n.drain(ctx)
		n.describe(ctx)
	}
	return n.save(ctx)
}

func (n *notify) save(ctx workflow.Context) error {
	n.describe(ctx)
	if err := workflow.ExecuteActivity(write(ctx, "keep the progress"), notifySteps.SaveProgress, n.in.StreamID, n.Progress).Get(ctx, nil); err != nil {
		return fmt.Errorf("keep the fan-out's progress: %w", err)
	}
	return nil
}

func (n *notify) finish(ctx workflow.Context, status livestream.NotifyStatus) error {
	now := workflow.Now(ctx)
	n.Progress.Status, n.Progress.FinishedAt = status, &now
	n.describe(ctx)
	if err := workflow.ExecuteActivity(write(ctx, "close the fan-out"), notifySteps.Finish, n.in.StreamID, n.Progress).Get(ctx, nil); err != nil {
		return fmt.Errorf("close the fan-out: %w", err)
	}
	return nil
}

func (n *notify) describe(ctx workflow.Context) {
	p := n.Progress
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s**: %d of %d followers told, %d failed", p.Status, p.Notified, p.FollowersTotal, p.Failed))
}
