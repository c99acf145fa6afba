// Package workers says which queue runs which workflows and activities, and with
// what limits. It holds no logic.
package workers

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// Activities are the activities of all queues, ready to run. Those of a queue
// that a process does not serve may be nil.
type Activities struct {
	Streams       *activities.Streams
	Notifications *activities.Notifications
	Pushes        *activities.Pushes
	Archives      *activities.Archives
	Media         *activities.Media
	Transactions  *activities.Transactions
	Refunds       *activities.Refunds
	StripeEvents  *activities.StripeEvents
	// Reconciliation compares the books with Stripe.
	Reconciliation *activities.Reconciliation
	Housekeeping   *activities.Housekeeping
	Views          *activities.Views
	Tiers          *activities.Tiers
	Orphans        *activities.Orphans
}

// Queues lists the queues that a worker can serve.
var Queues = []string{
	workflows.QueueStream, workflows.QueueNotify, workflows.QueueArchive, workflows.QueueTranscode, workflows.QueuePayment, workflows.QueuePush,
}

// stopTimeout is how long a worker that is told to stop lets its activities
// finish before it cancels them. Zero, the SDK's default, would lose them.
const stopTimeout = 20 * time.Second

// notifyRangesAtOnce and notifyBeginsAtOnce leave some of a worker's ten connections to
// what callers wait for: fan-outs would take all of them otherwise, and starts would
// wait. The former are large ranges, the latter first steps, which the worker that runs
// the workflow takes. There is no limit a second: a step is anything from a line of
// progress to 5,000 followers, so that one which spares the database large ranges holds up
// small audiences. An operator sets one where a database needs it.
const (
	notifyRangesAtOnce = 4
	notifyBeginsAtOnce = 3
)

// pushesPerSecond bounds how many deliveries to browsers begin in a second, over all
// workers together, and pushesAtOnce how many a process has under way: each has up to
// 25 requests open. What is sent in a second is the sender's own limit.
const (
	pushesPerSecond = 50
	pushesAtOnce    = 8
)

// pushHeartbeats is the time between two heartbeats that reach Temporal: what browsers
// were told since is told again when the worker is killed.
const pushHeartbeats = time.Second

// Limits are what is configured of the queues.
type Limits struct {
	// PaymentsPerSecond is how many activities of payments begin in a second, over all
	// workers together: about what Stripe may be called, so that few of them have to
	// wait for their turn there. Zero is no limit.
	PaymentsPerSecond int
}

// New makes a worker for one queue. fatal is told when it ends by itself.
func New(c client.Client, queue string, a Activities, limits Limits, fatal func(error)) (worker.Worker, error) {
	// Two pollers, the SDK's default, take a burst of starts one after the other, and
	// those who wait go away unanswered.
	pollers := worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{})
	options := worker.Options{WorkerStopTimeout: stopTimeout, OnFatalError: fatal, WorkflowTaskPollerBehavior: pollers, ActivityTaskPollerBehavior: pollers}
	switch queue {
	case workflows.QueueNotify:
		options.MaxConcurrentActivityExecutionSize = notifyRangesAtOnce
		options.MaxConcurrentLocalActivityExecutionSize = notifyBeginsAtOnce
	case workflows.QueuePayment:
		options.TaskQueueActivitiesPerSecond = float64(limits.PaymentsPerSecond)
	case workflows.QueuePush:
		options.TaskQueueActivitiesPerSecond = pushesPerSecond
		options.MaxConcurrentActivityExecutionSize = pushesAtOnce
		options.MaxHeartbeatThrottleInterval = pushHeartbeats
	case workflows.QueueTranscode:
		// FFmpeg uses two cores well; more encoders at once only slow each other.
		options.MaxConcurrentActivityExecutionSize = max(1, runtime.NumCPU()/2)
		options.DisableWorkflowWorker = true
	}
	w := worker.New(c, queue, options)
	switch queue {
	case workflows.QueueStream:
		w.RegisterWorkflow(workflows.Stream)
		w.RegisterActivity(a.Streams)
		w.RegisterWorkflow(workflows.Housekeeping)
		w.RegisterActivity(a.Housekeeping)
	case workflows.QueueNotify:
		w.RegisterWorkflow(workflows.NotifyFollowers)
		w.RegisterActivity(a.Notifications)
	case workflows.QueuePush:
		w.RegisterWorkflow(workflows.PushToBrowsers)
		w.RegisterActivity(a.Pushes)
	case workflows.QueueArchive:
		w.RegisterWorkflow(workflows.Archive)
		w.RegisterWorkflow(workflows.DeleteArchive)
		w.RegisterActivity(a.Archives)
		w.RegisterWorkflow(workflows.FlushViews)
		w.RegisterActivity(a.Views)
		w.RegisterWorkflow(workflows.MoveArchives)
		w.RegisterWorkflow(workflows.RestoreArchive)
		w.RegisterActivity(a.Tiers)
		w.RegisterWorkflow(workflows.FindOrphans)
		w.RegisterActivity(a.Orphans)
	case workflows.QueueTranscode:
		w.RegisterActivity(a.Media)
	case workflows.QueuePayment:
		w.RegisterWorkflow(workflows.Payment)
		w.RegisterWorkflow(workflows.Hold)
		w.RegisterWorkflow(workflows.Refund)
		w.RegisterActivity(a.Transactions)
		w.RegisterWorkflow(workflows.StripeEvent)
		w.RegisterActivity(a.Refunds)
		w.RegisterActivity(a.StripeEvents)
		w.RegisterWorkflow(workflows.ReconcilePayments)
		w.RegisterActivity(a.Reconciliation)
	default:
		return nil, fmt.Errorf("there is no queue %q; there are %v", queue, Queues)
	}
	return w, nil
}

// Known says whether there is such a queue.
func Known(queue string) bool { return slices.Contains(Queues, queue) }
