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
	// Paused and Canceled are what the operator wants.
	Paused   bool `json:"paused,omitempty"`
	Canceled bool `json:"canceled,omitempty"`
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
	err := n.run(ctx)
	if temporal.IsCanceledError(err) {
		// Temporal's own cancel does not wait for what is under way.
		ctx, _ = workflow.NewDisconnectedContext(ctx)
		return n.finish(ctx, livestream.NotifyCanceled)
	}
	return err
}

type notify struct {
	NotifyState
	in livestream.GoLive
}

func (n *notify) run(ctx workflow.Context) error {
	if n.Progress.StartedAt == nil {
		if err := workflow.ExecuteActivity(write(ctx, "count the audience"), notifySteps.Begin, n.in).Get(ctx, &n.Progress); err != nil {
			return fmt.Errorf("begin the fan-out: %w", err)
		}
	}
	for {
		if err := n.steer(ctx); err != nil {
			return err
		}
		if n.Canceled {
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
	if !n.Paused {
		return nil
	}
	for n.Paused && !n.Canceled {
		if err := n.save(ctx); err != nil {
			return err
		}
		if err := workflow.Await(ctx, func() bool { return signaled(ctx) }); err != nil {
			return err
		}
		n.drain(ctx)
	}
	return n.save(ctx)
}

// drain takes all signals that are there. Of those that came together a resume
// outlasts a pause, and a cancel both.
func (n *notify) drain(ctx workflow.Context) {
	if received(ctx, SignalPause) {
		n.Paused = true
	}
	if received(ctx, SignalResume) {
		n.Paused = false
	}
	if received(ctx, SignalCancel) {
		n.Canceled = true
	}
	n.Progress.Status = livestream.NotifyRunning
	if n.Paused {
		n.Progress.Status = livestream.NotifyPaused
	}
}

// signaled says whether the operator has said something.
func signaled(ctx workflow.Context) bool {
	for _, name := range []string{SignalPause, SignalResume, SignalCancel} {
		if workflow.GetSignalChannel(ctx, name).Len() > 0 {
			return true
		}
	}
	return false
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
	for len(ranges) > 0 && !n.Paused && !n.Canceled {
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
