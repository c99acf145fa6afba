package workflows

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// Names of the handlers of a NotifyFollowers workflow. Pause, resume and cancel
// take effect after the ranges that are under way; SignalRetry has the ranges that
// failed tried again, once all others are done.
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
	// After is the last follower of the ranges that are done with, or have failed.
	After  uuid.UUID                  `json:"after"`
	Failed []livestream.FollowerRange `json:"failed,omitempty"`
	// Worked is how long ranges have been told.
	Worked time.Duration `json:"worked,omitempty"`
	// Paused, Canceled and Retry are what the operator wants.
	Paused   bool `json:"paused,omitempty"`
	Canceled bool `json:"canceled,omitempty"`
	Retry    bool `json:"retry,omitempty"`
	// Ended says that the stream is over.
	Ended bool `json:"ended,omitempty"`
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

	saving  workflow.Future // the last save that nobody waits for
	savedAt time.Time
}

func (n *notify) run(ctx workflow.Context) error {
	if n.Progress.StartedAt == nil {
		var begun activities.Begun
		in := activities.BeginInput{Stream: n.in, Small: notifySmall}
		if err := workflow.ExecuteActivity(write(ctx, "tell a small audience, or count a large one"), notifySteps.Begin, in).Get(ctx, &begun); err != nil {
			return fmt.Errorf("begin the fan-out: %w", err)
		}
		n.Progress = begun.Progress
		if begun.Told {
			n.describe(ctx)
			return nil
		}
	}
	for {
		if err := n.steer(ctx); err != nil {
			return err
		}
		if n.Canceled {
			return n.finish(ctx, livestream.NotifyCanceled)
		}
		if n.Ended {
			return n.finish(ctx, livestream.NotifyStopped)
		}
		ranges, err := n.plan(ctx)
		if err != nil {
			return err
		}
		if len(ranges) == 0 && len(n.Failed) == 0 {
			return n.finish(ctx, livestream.NotifyCompleted)
		}
		if len(ranges) > 0 {
			rest, err := n.tell(ctx, ranges)
			if err != nil {
				return err
			}
			if len(rest) < len(ranges) {
				n.After = ranges[len(ranges)-len(rest)-1].Upto
			}
		} else if done, err := n.retry(ctx); done || err != nil {
			return err
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			if err := n.save(ctx); err != nil {
				return err
			}
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

// retry waits for the operator, when there is nobody left to tell but those in the
// ranges that failed. It gives true when the fan-out is over.
func (n *notify) retry(ctx workflow.Context) (done bool, err error) {
	n.Progress.Status = livestream.NotifyIncomplete
	if err := n.save(ctx); err != nil {
		return false, err
	}
	wanted, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout:      notifyRetryWindow,
		TimerOptions: workflow.TimerOptions{Summary: "the failed ranges may be tried again until then"},
	}, func() bool { return n.Retry || n.Paused || n.Canceled || signaled(ctx) })
	if err != nil {
		return false, err
	}
	if !wanted {
		return true, n.finish(ctx, livestream.NotifyCompleted)
	}
	n.drain(ctx)
	if !n.Retry || n.Paused || n.Canceled {
		return false, nil
	}
	failed := n.Failed
	n.Retry, n.Failed = false, nil
	for _, r := range failed {
		n.Progress.Failed -= r.Count
	}
	rest, err := n.tell(ctx, failed)
	for _, r := range rest {
		n.fail(r)
	}
	return false, err
}

// operators are the signals that a person sends.
var operators = []string{SignalPause, SignalResume, SignalCancel, SignalRetry}

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
	if received(ctx, SignalRetry) {
		n.Retry = len(n.Failed) > 0
	}
	n.Progress.Status = livestream.NotifyRunning
	if n.Paused {
		n.Progress.Status = livestream.NotifyPaused
	}
}

// signaled says whether the operator has said something.
func signaled(ctx workflow.Context) bool {
	for _, name := range operators {
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

// plan gives the next ranges. The first are small, so that the first followers hear
// of the stream at once; later ones save round trips.
func (n *notify) plan(ctx workflow.Context) ([]livestream.FollowerRange, error) {
	in := activities.PlanInput{Stream: n.in, After: n.After, Size: notifyRangeSize, Limit: notifyPlanRanges}
	if n.After == uuid.Nil {
		in.Size, in.Limit = notifySmall, notifyFirstRanges
	}
	var ranges []livestream.FollowerRange
	if err := workflow.ExecuteActivity(write(ctx, "plan the next ranges"), notifySteps.Plan, in).Get(ctx, &ranges); err != nil {
		return nil, fmt.Errorf("plan the fan-out: %w", err)
	}
	return ranges, nil
}

// tell notifies the ranges in their order, notifyWindow of them at a time, and gives
// those that it did not come to: the operator stopped it, or the stream ended.
func (n *notify) tell(ctx workflow.Context, ranges []livestream.FollowerRange) ([]livestream.FollowerRange, error) {
	began, worked := workflow.Now(ctx), n.Worked
	selector, underWay, next := workflow.NewSelector(ctx), 0, 0
	var canceled error
	for {
		for ; next < len(ranges) && underWay < notifyWindow && !n.Paused && !n.Canceled && !n.Ended && canceled == nil; next++ {
			r := ranges[next]
			underWay++
			summary := fmt.Sprintf("tell %d followers up to %s", r.Count, r.Upto)
			selector.AddFuture(workflow.ExecuteActivity(fanout(ctx, summary), notifySteps.NotifyRange, n.in, r), func(told workflow.Future) {
				underWay--
				var result livestream.RangeResult
				switch err := told.Get(ctx, &result); {
				case temporal.IsCanceledError(err):
					canceled = err
				case err != nil:
					workflow.GetLogger(ctx).Error("a range was given up", "range", r, "error", err)
					n.fail(r)
				}
				n.Progress.Notified += result.Notified
				n.Progress.Skipped += result.Skipped
				n.Ended = n.Ended || result.Ended
			})
		}
		if underWay == 0 {
			return ranges[next:], canceled
		}
		selector.Select(ctx)
		n.drain(ctx)
		n.Worked = worked + workflow.Now(ctx).Sub(began)
		if n.Worked > 0 {
			n.Progress.Rate = float64(n.Progress.Notified+n.Progress.Skipped) / n.Worked.Seconds()
		}
		n.glimpse(ctx)
	}
}

func (n *notify) fail(r livestream.FollowerRange) {
	n.Failed = append(n.Failed, r)
	n.Progress.Failed += r.Count
}

// glimpse keeps the progress now and then, and waits for nothing.
func (n *notify) glimpse(ctx workflow.Context) {
	n.describe(ctx)
	now := workflow.Now(ctx)
	if now.Sub(n.savedAt) < notifySavePause || n.saving != nil && !n.saving.IsReady() {
		return
	}
	n.savedAt = now
	n.saving = workflow.ExecuteActivity(write(ctx, "keep the progress"), notifySteps.SaveProgress, n.in.StreamID, n.Progress)
}

// settle waits for the progress that is on its way: it must not be kept after what
// follows it. Whether it was kept does not matter then.
func (n *notify) settle(ctx workflow.Context) {
	if n.saving != nil {
		_ = n.saving.Get(ctx, nil)
	}
}

func (n *notify) save(ctx workflow.Context) error {
	n.describe(ctx)
	n.settle(ctx)
	if err := workflow.ExecuteActivity(write(ctx, "keep the progress"), notifySteps.SaveProgress, n.in.StreamID, n.Progress).Get(ctx, nil); err != nil {
		return fmt.Errorf("keep the fan-out's progress: %w", err)
	}
	return nil
}

func (n *notify) finish(ctx workflow.Context, status livestream.NotifyStatus) error {
	now := workflow.Now(ctx)
	n.Progress.Status, n.Progress.FinishedAt = status, &now
	if status == livestream.NotifyCompleted {
		n.Progress.FollowersTotal = n.Progress.Done()
	}
	n.describe(ctx)
	n.settle(ctx)
	if err := workflow.ExecuteActivity(write(ctx, "close the fan-out"), notifySteps.Finish, n.in.StreamID, n.Progress).Get(ctx, nil); err != nil {
		return fmt.Errorf("close the fan-out: %w", err)
	}
	return nil
}

func (n *notify) describe(ctx workflow.Context) {
	p := n.Progress
	text := fmt.Sprintf("**%s**: %d of %d followers told, %d skipped, %d failed; %.0f a second", p.Status, p.Notified, p.FollowersTotal, p.Skipped, p.Failed, p.Rate)
	if left := p.Left(); left > 0 {
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	for _, r := range n.Failed {
		text += fmt.Sprintf("\n- failed: %d followers after %s up to %s", r.Count, r.After, r.Upto)
	}
	workflow.SetCurrentDetails(ctx, text)
}
