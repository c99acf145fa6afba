package workflows

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// Names of the handlers of a NotifyFollowers workflow. A pause takes effect after the
// ranges that are under way; a cancel does not wait for those that keep failing.
// SignalRetry has the ranges that failed tried again, once all others are done.
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
	// Begun says that the first step is done.
	Begun bool `json:"begun,omitempty"`
	// After is the last follower of the ranges that are done with, or have failed;
	// Planned says that there is nobody after them.
	After   uuid.UUID                  `json:"after"`
	Planned bool                       `json:"planned,omitempty"`
	Failed  []livestream.FollowerRange `json:"failed,omitempty"`
	// Worked is how long ranges have been told.
	Worked time.Duration `json:"worked,omitempty"`
	// Paused and Canceled are what the operator wants, and Retry is how many of Failed,
	// from the first on, are to be tried again.
	Paused   bool `json:"paused,omitempty"`
	Canceled bool `json:"canceled,omitempty"`
	Retry    int  `json:"retry,omitempty"`
	// Rests is since when the fan-out waits for the operator.
	Rests *time.Time `json:"rests,omitempty"`
	// Ended says that the stream is over.
	Ended bool `json:"ended,omitempty"`
}

var notifySteps *activities.Notifications

// NotifyFollowers tells the followers of a creator that a stream is live: key
// range by key range, a bounded number of them at a time.
func NotifyFollowers(ctx workflow.Context, in NotifyInput) error {
	now := workflow.Now(ctx)
	n := &notify{in: in.Stream, asked: ctx}
	if in.State != nil {
		n.NotifyState = *in.State
	} else {
		n.Progress = livestream.NotifyProgress{Status: livestream.NotifyRunning, StartedAt: &now}
	}
	n.saved, n.savedAt = n.Progress.Status, now
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (livestream.NotifyProgress, error) { return n.Progress, nil }); err != nil {
		return err
	}
	// Temporal's own cancel is obeyed as the signal is. What must be written then is
	// written all the same.
	steady, _ := workflow.NewDisconnectedContext(ctx)
	n.work, n.stop = workflow.WithCancel(steady)
	return n.run(steady)
}

type notify struct {
	NotifyState
	in livestream.GoLive

	asked workflow.Context // is cancelled by Temporal's own cancel
	work  workflow.Context // of the steps that a cancel takes back, by stop
	stop  workflow.CancelFunc

	saving  workflow.Future // the last save that nobody waits for
	saved   livestream.NotifyStatus
	savedAt time.Time
}

func (n *notify) run(ctx workflow.Context) error {
	for {
		n.obey(ctx)
		var err error
		switch {
		case n.Canceled:
			return n.finish(ctx, livestream.NotifyCanceled)
		case n.Ended:
			return n.finish(ctx, livestream.NotifyStopped)
		case n.Paused:
			err = n.rest(ctx, livestream.NotifyPaused)
		case !n.Begun:
			var told bool
			if told, err = n.begin(ctx); told {
				return nil
			}
		case !n.Planned:
			err = n.advance(ctx)
		case n.Retry > 0:
			err = n.retry(ctx)
		case len(n.Failed) == 0 || n.Rests != nil && workflow.Now(ctx).Sub(*n.Rests) >= notifyRetryWindow:
			return n.finish(ctx, livestream.NotifyCompleted)
		default:
			err = n.rest(ctx, livestream.NotifyIncomplete)
		}
		if n.Canceled && temporal.IsCanceledError(err) {
			continue // a step was taken back
		}
		if err != nil {
			return err
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			if err := n.save(ctx); err != nil {
				return err
			}
			n.obey(ctx)
			return workflow.NewContinueAsNewError(ctx, NotifyFollowers, NotifyInput{Stream: n.in, State: &n.NotifyState})
		}
	}
}

// spoken says whether the operator has said something that was not obeyed yet.
func (n *notify) spoken(ctx workflow.Context) bool {
	for _, name := range [...]string{SignalPause, SignalResume, SignalCancel, SignalRetry} {
		if workflow.GetSignalChannel(ctx, name).Len() > 0 {
			return true
		}
	}
	return !n.Canceled && n.asked.Err() != nil
}

// obey takes all that the operator has said. Of what came together a resume outlasts
// a pause, and a cancel both.
func (n *notify) obey(ctx workflow.Context) {
	if !n.spoken(ctx) {
		return
	}
	n.Rests = nil
	if received(ctx, SignalPause) {
		n.Paused = true
	}
	if received(ctx, SignalResume) {
		n.Paused = false
	}
	if received(ctx, SignalRetry) {
		n.Retry = len(n.Failed)
	}
	if received(ctx, SignalCancel) || n.asked.Err() != nil {
		n.Canceled = true
		n.stop()
	}
	n.Progress.Status = livestream.NotifyRunning
	if n.Paused {
		n.Progress.Status = livestream.NotifyPaused
	}
	n.describe(ctx)
}

// received empties a signal channel and says whether anything was in it.
func received(ctx workflow.Context, name string) bool {
	channel, any := workflow.GetSignalChannel(ctx, name), false
	for channel.ReceiveAsync(nil) {
		any = true
	}
	return any
}

// await waits for a step, and obeys the operator meanwhile.
func (n *notify) await(ctx workflow.Context, step workflow.Future, result any) error {
	for !step.IsReady() {
		if err := workflow.Await(ctx, func() bool { return step.IsReady() || n.spoken(ctx) }); err != nil {
			return err
		}
		n.obey(ctx)
	}
	return step.Get(ctx, result)
}

// rest waits for the operator. Now and then, and less and less often, it looks whether
// the stream is over.
func (n *notify) rest(ctx workflow.Context, status livestream.NotifyStatus) error {
	now := workflow.Now(ctx)
	if n.Rests == nil {
		n.Rests, n.Progress.Status = &now, status
		if err := n.save(ctx); err != nil {
			return err
		}
	}
	spoken, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout:      min(max(now.Sub(*n.Rests), notifyLookFirst), notifyLookMax),
		TimerOptions: workflow.TimerOptions{Summary: "see then whether the stream is over"},
	}, func() bool { return n.spoken(ctx) })
	if spoken || err != nil {
		return err
	}
	var nobody livestream.RangeResult
	look := workflow.ExecuteActivity(write(n.work, "see whether the stream is over"), notifySteps.NotifyRange, n.in, livestream.FollowerRange{})
	if err := n.await(ctx, look, &nobody); err != nil {
		return fmt.Errorf("see whether the stream is over: %w", err)
	}
	n.Ended = nobody.Ended
	return nil
}

// begin tells a small audience, or counts a large one. It gives true when all is done.
func (n *notify) begin(ctx workflow.Context) (told bool, err error) {
	const summary = "tell a small audience, or count a large one"
	in := activities.BeginInput{Stream: n.in, Small: notifySmall, StartedAt: *n.Progress.StartedAt}
	var begun activities.Begun
	if workflow.ExecuteLocalActivity(here(ctx, summary), notifySteps.Begin, in).Get(ctx, &begun) != nil {
		step := workflow.ExecuteActivity(write(n.work, summary), notifySteps.Begin, in)
		if err := n.await(ctx, step, &begun); err != nil {
			return false, fmt.Errorf("begin the fan-out: %w", err)
		}
	}
	n.Begun, n.Progress, n.saved = true, begun.Progress, begun.Progress.Status
	n.describe(ctx)
	return begun.Told, nil
}

// advance plans the next ranges and tells them. The first are small, so that the first
// followers hear of the stream at once; later ones save round trips.
func (n *notify) advance(ctx workflow.Context) error {
	in := activities.PlanInput{Stream: n.in, After: n.After, Size: notifyRangeSize, Limit: notifyPlanRanges}
	if n.After == uuid.Nil {
		in.Size, in.Limit = notifySmall, notifyFirstRanges
	}
	var ranges []livestream.FollowerRange
	if err := n.await(ctx, workflow.ExecuteActivity(write(n.work, "plan the next ranges"), notifySteps.Plan, in), &ranges); err != nil {
		return fmt.Errorf("plan the fan-out: %w", err)
	}
	rest, err := n.tell(ctx, ranges)
	if told := ranges[:len(ranges)-len(rest)]; len(told) > 0 {
		n.After = told[len(told)-1].Upto
	}
	n.Planned = len(rest) == 0 && len(ranges) < in.Limit
	return err
}

// retry tells the next of the failed ranges that are to be tried again.
func (n *notify) retry(ctx workflow.Context) error {
	again := n.Failed[:min(n.Retry, notifyPlanRanges)]
	n.Failed, n.Retry = n.Failed[len(again):], n.Retry-len(again)
	for _, r := range again {
		n.Progress.Failed -= r.Count
	}
	rest, err := n.tell(ctx, again)
	for _, r := range rest {
		n.Progress.Failed += r.Count
	}
	n.Failed, n.Retry = append(slices.Clone(rest), n.Failed...), n.Retry+len(rest)
	return err
}

// tell notifies the ranges in their order, notifyWindow of them at a time, and gives
// those that it did not come to: the operator stopped it, or the stream ended.
func (n *notify) tell(ctx workflow.Context, ranges []livestream.FollowerRange) ([]livestream.FollowerRange, error) {
	began, worked := workflow.Now(ctx), n.Worked
	selector, underWay, next := workflow.NewSelector(ctx), 0, 0
	for {
		n.obey(ctx)
		for ; next < len(ranges) && underWay < notifyWindow && !n.Paused && !n.Canceled && !n.Ended; next++ {
			r := ranges[next]
			underWay++
			summary := fmt.Sprintf("tell %d followers up to %s", r.Count, r.Upto)
			selector.AddFuture(workflow.ExecuteActivity(fanout(n.work, summary), notifySteps.NotifyRange, n.in, r), func(told workflow.Future) {
				underWay--
				n.count(ctx, r, told)
			})
		}
		if underWay == 0 {
			return ranges[next:], nil
		}
		if err := workflow.Await(ctx, func() bool { return selector.HasPending() || n.spoken(ctx) || n.unsaved() }); err != nil {
			return ranges[next:], err
		}
		for selector.HasPending() {
			selector.Select(ctx)
		}
		n.Worked = worked + workflow.Now(ctx).Sub(began)
		if n.Worked > 0 {
			n.Progress.Rate = float64(n.Progress.Notified+n.Progress.Skipped) / n.Worked.Seconds()
		}
		n.glimpse(ctx)
	}
}

// count takes what became of a range. One that a cancel took back between two attempts
// has failed too: an attempt that was not heard of may have told its followers.
func (n *notify) count(ctx workflow.Context, r livestream.FollowerRange, told workflow.Future) {
	var result livestream.RangeResult
	if err := told.Get(ctx, &result); err != nil {
		workflow.GetLogger(ctx).Error("a range was given up", "range", r, "error", err)
		n.Failed = append(n.Failed, r)
		n.Progress.Failed += r.Count
	}
	n.Progress.Notified += result.Notified
	n.Progress.Skipped += result.Skipped
	n.Ended = n.Ended || result.Ended
}

// unsaved says that the status is another than what was kept, and can be kept.
func (n *notify) unsaved() bool {
	return n.Progress.Status != n.saved && (n.saving == nil || n.saving.IsReady())
}

// glimpse keeps the progress now and then, and a new status at once. It waits for
// nothing.
func (n *notify) glimpse(ctx workflow.Context) {
	n.describe(ctx)
	now := workflow.Now(ctx)
	if !n.unsaved() && (now.Sub(n.savedAt) < notifySavePause || n.saving != nil && !n.saving.IsReady()) {
		return
	}
	n.saved, n.savedAt = n.Progress.Status, now
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
	n.saved = n.Progress.Status
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
	named := n.Failed[:min(len(n.Failed), notifyNamed)]
	for _, r := range named {
		text += fmt.Sprintf("\n- failed: %d followers after %s up to %s", r.Count, r.After, r.Upto)
	}
	if more := len(n.Failed) - len(named); more > 0 {
		text += fmt.Sprintf("\n- and %d ranges more", more)
	}
	workflow.SetCurrentDetails(ctx, text)
}
