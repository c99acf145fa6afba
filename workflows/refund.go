package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// Names of the handlers of a Refund workflow; SignalStripeEvent and SignalRetry work
// here too.
const (
	UpdateSubmitRefund = "submit"
	QueryRefund        = "state"
)

// RefundInput starts a Refund workflow. An operator may start one too.
type RefundInput struct {
	Refund livestream.NewRefund `json:"refund"`
}

// RefundState is what a Refund workflow knows.
type RefundState struct {
	Insistence
	Status   livestream.RefundStatus `json:"status"`
	Amount   int64                   `json:"amount"` // minor units
	Currency string                  `json:"currency,omitempty"`
	StripeID string                  `json:"stripe_id,omitempty"`
	Failure  *livestream.Failure     `json:"failure,omitempty"`
}

var refundSteps *activities.Refunds

// Refund gives money of a payment back: it is promised, asked of Stripe, and booked
// when Stripe says so.
func Refund(ctx workflow.Context, in RefundInput) error {
	r := &refund{in: in.Refund}
	if err := r.setup(ctx); err != nil {
		return err
	}
	return r.run(ctx)
}

type refund struct {
	RefundState
	in livestream.NewRefund

	row      *activities.RefundRow // once it is promised
	rejected error                 // why it is not
	events   workflow.ReceiveChannel
}

func (r *refund) setup(ctx workflow.Context) error {
	r.Status, r.Amount = livestream.RefundQueued, r.in.Amount
	r.events = workflow.GetSignalChannel(ctx, SignalStripeEvent)
	if err := workflow.SetQueryHandler(ctx, QueryRefund, func() (RefundState, error) { return r.RefundState, nil }); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, UpdateSubmitRefund, r.submitted, workflow.UpdateHandlerOptions{
		UnfinishedPolicy: workflow.HandlerUnfinishedPolicyAbandon, // the workflow failed, and may be started again
	})
}

// A refund that is promised is not given up: whoever was told of it counts on it.
func (r *refund) run(ctx workflow.Context) error {
	steady, _ := workflow.NewDisconnectedContext(ctx)
	r.status(ctx, livestream.RefundQueued)
	if err := r.create(ctx); err != nil {
		return err
	}
	if r.row != nil {
		if err := r.giveBack(steady); err != nil {
			return err
		}
	}
	received(steady, SignalStripeEvent) // what Stripe says after that goes its own way
	return workflow.Await(steady, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// create promises the refund. A refusal is an answer; after anything else the promise,
// whose commit nobody may have heard of, is taken back, and the workflow fails, so that
// the refund may be asked for again.
func (r *refund) create(ctx workflow.Context) error {
	if late(ctx) {
		r.rejected = temporal.NewApplicationError("the refund came too late", string(livestream.CodeUnavailable))
		return r.rejected
	}
	var row activities.RefundRow
	err := workflow.ExecuteLocalActivity(record(ctx, "promise the refund"), refundSteps.CreateRefund, r.in).Get(ctx, &row)
	if err != nil {
		r.rejected, r.LastError = err, reason(err)
		r.status(ctx, livestream.RefundFailed)
		if final(err) {
			return nil
		}
		return withdrawRefund(ctx, r.in, err)
	}
	r.row, r.Amount, r.Currency, r.StripeID = &row, row.Amount, row.Currency, row.StripeID
	return nil
}

// withdrawRefund takes back a promise that did not come about for this reason.
func withdrawRefund(ctx workflow.Context, refund livestream.NewRefund, cause error) error {
	steady, _ := workflow.NewDisconnectedContext(ctx)
	if err := workflow.ExecuteActivity(write(steady, "take back what was promised"), refundSteps.WithdrawRefund, refund.TransactionID, refund.ID).Get(steady, nil); err != nil {
		return fmt.Errorf("take back what was promised: %w", err)
	}
	return cause
}

func (r *refund) submitted(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return r.row != nil || final(r.rejected) }); err != nil {
		return err
	}
	return r.rejected
}

func (r *refund) giveBack(ctx workflow.Context) error {
	if r.row.Status == livestream.RefundFailed || r.row.Status == livestream.RefundSucceeded { // this is a reset, of what is over
		r.Failure = r.row.Failure
		r.status(ctx, r.row.Status)
		return nil
	}
	if r.StripeID == "" {
		err := r.insist(ctx, "give it back", r.show, func(ctx workflow.Context) error {
			return workflow.ExecuteActivity(ctx, refundSteps.SendRefund, r.request()).Get(ctx, &r.StripeID)
		})
		if err != nil {
			return r.refused(ctx, err)
		}
		r.status(ctx, livestream.RefundPending)
	}
	return r.awaitOutcome(ctx)
}

func (r *refund) request() livestream.RefundRequest {
	id := RefundID(r.in.ID)
	return livestream.RefundRequest{
		Key: fmt.Sprintf("%s/%d", id, r.Generation), RefundID: r.in.ID, TransactionID: r.in.TransactionID, WorkflowID: id,
		PaymentIntentID: r.row.IntentID, Amount: r.row.Amount, Reason: r.in.Reason,
	}
}

// awaitOutcome follows the refund until Stripe has decided. Its events say when to
// look; a timer looks now and then, should they never come.
func (r *refund) awaitOutcome(ctx workflow.Context) error {
	for poll := pollFirst; ; poll = min(2*poll, pollMax) {
		_, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
			Timeout:      poll,
			TimerOptions: workflow.TimerOptions{Summary: "look at Stripe, should its event be lost"},
		}, func() bool { return r.events.Len() > 0 })
		if err != nil {
			return err
		}
		received(ctx, SignalStripeEvent)
		var row activities.RefundRow
		if err := workflow.ExecuteActivity(write(ctx, "look at the refund, and book it"), refundSteps.LookAtRefund, r.StripeID).Get(ctx, &row); err != nil {
			return fmt.Errorf("look at the refund: %w", err)
		}
		if row.Status == livestream.RefundSucceeded || row.Status == livestream.RefundFailed {
			if r.Failure = row.Failure; r.Failure != nil {
				r.LastError = r.Failure.Code + ": " + r.Failure.Message
			}
			r.status(ctx, row.Status)
			return nil
		}
	}
}

func (r *refund) refused(ctx workflow.Context, cause error) error {
	failure := refusal(cause)
	r.Failure, r.LastError = &failure, failure.Code+": "+failure.Message
	if err := workflow.ExecuteActivity(write(ctx, "write the refund's end"), refundSteps.FailRefund, r.in.ID, failure).Get(ctx, nil); err != nil {
		return fmt.Errorf("write the refund's end: %w", err)
	}
	r.status(ctx, livestream.RefundFailed)
	return nil
}

func (r *refund) status(ctx workflow.Context, to livestream.RefundStatus) {
	r.Status = to
	r.show(ctx)
}

// show tells operators where the refund is.
func (r *refund) show(ctx workflow.Context) {
	upsert(ctx, append(r.attributes(), AttrPaymentStatus.ValueSet(string(r.Status)))...)
	r.describe(ctx)
}

func (r *refund) describe(ctx workflow.Context) {
	details := fmt.Sprintf("**%s**: %s of transaction `%s`", r.Status, livestream.FormatMoney(r.Amount, r.Currency), r.in.TransactionID)
	if r.StripeID != "" {
		details += fmt.Sprintf("\n\n`%s` at Stripe", r.StripeID)
	}
	workflow.SetCurrentDetails(ctx, details+r.details())
}
