package workflows

import (
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/livestream-pro/livestream-pro/activities"
)

// Every timeout and retry of the workflows is in this file.
const (
	// StartDeadline is how long what a caller waits for may take from the workflow's
	// start on until its row is written. A workflow whose first task comes later gives
	// up: its caller has been told 503, and a stream that nobody knows of would block
	// the creator's next one.
	StartDeadline = 5 * time.Second

	// reconnectWindow is how long a stream whose encoder went away is kept.
	reconnectWindow = 60 * time.Second

	// SubmitWindow is how long after the workflow's start a payment's answer waits
	// for Stripe before it says "queued".
	SubmitWindow = 5 * time.Second

	// actionWindow is how long a payer has to confirm a payment.
	actionWindow = 24 * time.Hour

	// pollFirst and pollMax space out the looks at Stripe that make up for a
	// webhook that never came.
	pollFirst = 15 * time.Second
	pollMax   = time.Hour

	// quickAttempts at Stripe come first, from quickPause apart on.
	quickAttempts = 3
	quickPause    = 300 * time.Millisecond

	// slowRetryFirst and slowRetryMax space out the attempts at Stripe once the quick
	// ones are used up.
	slowRetryFirst = 10 * time.Second
	slowRetryMax   = time.Hour

	// reconcileWindow is how far back reconciliation looks, twice the time between two
	// runs, and reconcileRest how long it leaves what is under way alone.
	reconcileWindow = 49 * time.Hour
	reconcileRest   = time.Hour

	// restorePause is between two looks at an archive that comes back from GLACIER,
	// which takes the store up to 12 hours.
	restorePause = 10 * time.Minute

	// retryWindow is how long a failed archive waits for an operator, and retryFirst and
	// retryMax space out the attempts until then that it makes by itself when the fault is
	// ours: an outage of hours asks nothing of an operator.
	retryWindow = 30 * 24 * time.Hour
	retryFirst  = 15 * time.Minute
	retryMax    = 24 * time.Hour

	// chunkTarget is about how much of a recording one activity transcodes: what
	// a dead worker costs at most.
	chunkTarget = 60 * time.Second

	// movePerGiB is what a step may take to fetch a GiB of its recording, at 18 MB/s,
	// and to store it again in pieces.
	movePerGiB = 2 * time.Minute

	// An audience of notifySmall is told in one step. A larger one begins with
	// notifyFirstRanges of that size; the ranges after them, of notifyRangeSize each, are
	// planned notifyPlanRanges at a time. notifyWindow ranges run at once.
	notifySmall       = 1000
	notifyFirstRanges = 10
	notifyRangeSize   = 5000
	notifyPlanRanges  = 50
	notifyWindow      = 4

	// notifySavePause is the least time between two saves of a fan-out's progress.
	notifySavePause = time.Second

	// notifyRetryWindow is how long ranges that failed wait for an operator.
	notifyRetryWindow = 24 * time.Hour

	// notifyLookFirst and notifyLookMax space out the looks at the stream of a fan-out
	// that waits for an operator.
	notifyLookFirst = time.Minute
	notifyLookMax   = 15 * time.Minute

	// notifyNamed is how many ranges that failed a fan-out's details name.
	notifyNamed = 20
)

// forever retries until it works: the step is idempotent, and giving up would
// lose what was acknowledged.
var forever = &temporal.RetryPolicy{
	InitialInterval:    200 * time.Millisecond,
	BackoffCoefficient: 2,
	MaximumInterval:    30 * time.Second,
}

// record is for writes of the row that a caller waits for: an idempotent
// database write on the worker that runs the workflow, given up with the caller.
// What is run again long after its start, by a reset, has the whole time.
func record(ctx workflow.Context, summary string) workflow.Context {
	left := StartDeadline - age(ctx)
	if left <= 0 {
		left = StartDeadline
	}
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: left,
		StartToCloseTimeout:    2 * time.Second,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 50 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: time.Second},
		Summary:                summary,
	})
}

// here is for one attempt at an idempotent write on the worker that runs the workflow,
// which saves an activity and a workflow task. What it does not bring about in that
// time, also because the worker has its hands full, is left to write.
func here(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: 2 * time.Second,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:                summary,
	})
}

// write is for an idempotent write that must happen, whenever that is.
func write(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second,
		RetryPolicy:         forever,
		Summary:             summary,
	})
}

// promptly does an idempotent write that must happen: at once on the worker that runs
// the workflow, and when that has not worked, as an activity of its own.
func promptly(ctx workflow.Context, summary string, step any, args ...any) error {
	err := workflow.ExecuteLocalActivity(here(ctx, summary), step, args...).Get(ctx, nil)
	if err != nil && !final(err) {
		err = workflow.ExecuteActivity(write(ctx, summary), step, args...).Get(ctx, nil)
	}
	return err
}

// age is how long ago the workflow was started, which its caller waits from.
func age(ctx workflow.Context) time.Duration {
	return workflow.Now(ctx).Sub(workflow.GetInfo(ctx).WorkflowStartTime)
}

// courtesy is for what is good to do but not worth waiting for: a chat line that
// nobody can see while Redis is down.
func courtesy(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    5 * time.Second,
		ScheduleToCloseTimeout: time.Minute,
		RetryPolicy:            forever,
		Summary:                summary,
	})
}

// fanout is for one range of followers. A range that keeps failing is given up
// and reported, so that it does not hold up the others. A statement has 5 s by default: what
// takes longer is a worker that died. A cancel waits for an attempt that is under way,
// so that whom it told is counted, and for no further one.
func fanout(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 15 * time.Second,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 500 * time.Millisecond, BackoffCoefficient: 2,
			MaximumInterval: time.Minute, MaximumAttempts: 20,
		},
		Summary: summary,
	})
}

// transcode is for work on the CPU fleet: on that much of a recording, which
// is fetched first. Heartbeats carry FFmpeg's progress, so a hung encoder and a dead
// worker are noticed alike. A worker that was killed costs an attempt, hence more of
// them than an honest failure needs. A cancel waits for the step that is under way, so
// that nothing is written after it. Creators take turns on the fleet, so that the
// hundreds of steps of a long recording do not hold up the few of a short one.
func transcode(ctx workflow.Context, summary string, creator uuid.UUID, sizeBytes int64, media time.Duration) workflow.Context {
	move := time.Duration(sizeBytes>>30) * movePerGiB
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           QueueTranscode,
		Priority:            temporal.Priority{FairnessKey: creator.String()},
		StartToCloseTimeout: 10*time.Minute + move + 20*media,
		HeartbeatTimeout:    15 * time.Second,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2,
			MaximumInterval: time.Minute, MaximumAttempts: 10,
		},
		Summary: summary,
	})
}

// quick is for the first attempts at Stripe, while somebody waits; Stripe's own
// timeout is 5 s a call, inside the client, and a step makes up to two of them. What Stripe answered with an error of its
// own is not tried again under its key, see insist.
func quick(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 15 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: quickPause, BackoffCoefficient: 2, MaximumAttempts: quickAttempts,
			NonRetryableErrorTypes: []string{activities.ErrStripeFailed},
		},
		Summary: summary,
	})
}

// once is one attempt of the slow retries; the workflow spaces them.
func once(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 15 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             summary,
	})
}

// sweep is for deleting in batches, however many there are. Heartbeats tell of each
// batch. Who fails for long is left to the next run.
func sweep(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * time.Hour,
		HeartbeatTimeout:    time.Minute,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2,
			MaximumInterval: 5 * time.Minute, MaximumAttempts: 10,
		},
		Summary: summary,
	})
}

// steady is sweep for what somebody waits for: it is tried until it has worked.
func steady(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithRetryPolicy(sweep(ctx, summary), temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 5 * time.Minute,
	})
}

// page is for comparing a page of Stripe's with the books, which may cancel or book
// each thing on it. What fails for long is left to the next run, which could not begin
// otherwise.
func page(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 5 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2,
			MaximumInterval: 5 * time.Minute, MaximumAttempts: 10,
		},
		Summary: summary,
	})
}

// pushing is for telling browsers: of a range of followers up to tens of thousands.
// Heartbeats tell of each. An attempt ends where services are busy and says itself when
// the next one begins. After a day nothing is of use any more.
func pushing(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: 24 * time.Hour,
		StartToCloseTimeout:    2 * time.Hour,
		HeartbeatTimeout:       15 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute,
		},
		Summary: summary,
	})
}

// abandoned is for a workflow that goes on by itself when its parent is done.
func abandoned(ctx workflow.Context, id, queue, summary string, attributes temporal.SearchAttributes) workflow.Context {
	return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		TaskQueue:             queue,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:         summary,
		TypedSearchAttributes: attributes,
	})
}
