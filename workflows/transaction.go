package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// Names of the handlers of a Payment workflow; SignalRetry works here too.
const (
	UpdateSubmitPayment = "submit"
	SignalStripeEvent   = "stripe_event"
	QueryPayment        = "state"
)

// PaymentInput starts a Payment workflow.
type PaymentInput struct {
	Transaction livestream.NewTransaction `json:"transaction"`
}

// StripeEventSignal says that Stripe told something of the payment. What it is
// now is asked of Stripe, so that the order of events does not matter.
type StripeEventSignal struct {
	EventID string `json:"event_id"`
	Type    string `json:"type"`
}

// PaymentState is what a Payment workflow knows.
type PaymentState struct {
	Insistence
	Status  livestream.TransactionStatus `json:"status"`
	Intent  *activities.IntentState      `json:"intent,omitempty"`
	Cancels int                          `json:"cancels"` // asked of Stripe
}

var paymentSteps *activities.Transactions

// Payment is a tip from the first try to its booking: make a PaymentIntent, confirm
// it, wait for Stripe's word, settle. A PaymentIntent that is not confirmed takes no
// money, so that one too many costs nobody anything; the first one that the row knows
// is confirmed, and Stripe takes its money once, whatever the key is.
func Payment(ctx workflow.Context, in PaymentInput) error {
	p := &payment{in: in.Transaction}
	if err := p.setup(ctx); err != nil {
		return err
	}
	return p.run(ctx)
}

type payment struct {
	PaymentState
	in livestream.NewTransaction

	row      *activities.TransactionRow // once it is committed
	late     bool                       // the payer had been told that it did not work
	rejected error                      // why there is no row
	answered bool                       // Stripe has done what was asked of it at first
	told     bool                       // Stripe was asked after its answer to that
	refusal  *livestream.Failure        // of Stripe, for good
	declined *livestream.Failure        // why it is to be canceled, where Stripe declined
	events   workflow.ReceiveChannel
}

func (p *payment) setup(ctx workflow.Context) error {
	p.Status = livestream.TransactionQueued
	p.events = workflow.GetSignalChannel(ctx, SignalStripeEvent)
	if err := workflow.SetQueryHandler(ctx, QueryPayment, func() (PaymentState, error) { return p.PaymentState, nil }); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, UpdateSubmitPayment, p.submitted, workflow.UpdateHandlerOptions{
		UnfinishedPolicy: workflow.HandlerUnfinishedPolicyAbandon, // see withdraw
	})
}

func (p *payment) run(ctx workflow.Context) error {
	steady, _ := workflow.NewDisconnectedContext(ctx)
	if !p.create(ctx) {
		return p.withdraw(steady)
	}
	err := p.pay(ctx)
	if temporal.IsCanceledError(err) {
		err = p.giveUp(steady)
	}
	if err != nil {
		return err
	}
	received(steady, SignalStripeEvent) // what Stripe says after that goes its own way
	return workflow.Await(steady, func() bool { return workflow.AllHandlersFinished(ctx) })
}

func (p *payment) create(ctx workflow.Context) bool {
	p.status(ctx, livestream.TransactionQueued)
	if p.late = late(ctx); p.late {
		p.rejected = temporal.NewApplicationError("the payment came too late", string(livestream.CodeUnavailable))
		p.LastError = "not begun: no worker was there in time"
		p.status(ctx, livestream.TransactionFailed)
		return false
	}
	var row activities.TransactionRow
	err := workflow.ExecuteLocalActivity(record(ctx, "write the payment"), paymentSteps.Create, p.in).Get(ctx, &row)
	if err != nil {
		p.rejected = err
		p.LastError = reason(err)
		p.status(ctx, livestream.TransactionFailed)
		return false
	}
	p.row, p.away = &row, row.Away
	return true
}

// withdraw closes the workflow of a payment that could not be written. A refusal
// is an answer, the same for each request of that key. After anything else there
// is no answer: the workflow fails, so that the same request may start it again,
// and a row whose commit nobody heard of is cancelled; nothing has been charged
// for it.
func (p *payment) withdraw(ctx workflow.Context) error {
	if final(p.rejected) {
		return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	}
	if p.late {
		return p.rejected // nothing was written
	}
	if err := workflow.ExecuteActivity(write(ctx, "take back what was written"), paymentSteps.Withdraw, p.in.ID).Get(ctx, nil); err != nil {
		return fmt.Errorf("take back what was written: %w", err)
	}
	return p.rejected
}

// submitted answers the payer: when Stripe has answered, or after a while
// without, in which case the payment is queued and goes on.
func (p *payment) submitted(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return p.row != nil || final(p.rejected) }); err != nil {
		return err
	}
	if p.rejected != nil {
		return p.rejected
	}
	left := SubmitWindow - age(ctx)
	if left <= 0 {
		return nil
	}
	_, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout:      left,
		TimerOptions: workflow.TimerOptions{Summary: "the payer waits for Stripe until then"},
	}, func() bool { return p.answered || p.Status.Final() || p.Attempts > 0 })
	return err
}

func (p *payment) pay(ctx workflow.Context) error {
	if p.row.Status.Final() { // this is a reset, of what is over
		if p.row.AvailableAt != nil {
			hold(ctx, p.in.ID, *p.row.AvailableAt)
		}
		p.status(ctx, p.row.Status)
		return nil
	}
	if err := p.charge(ctx); err != nil {
		if temporal.IsCanceledError(err) || !final(err) {
			return err
		}
		failure := refusal(err)
		p.refusal, p.answered = &failure, true
		if p.Intent == nil {
			return p.end(ctx, livestream.TransactionFailed, failure)
		}
	}
	window := actionWindow
	if p.refusal != nil {
		window = 0
	}
	if err := p.awaitOutcome(ctx, window); err != nil {
		return err
	}
	return p.book(ctx, expired)
}

// charge has Stripe make the payment, and take its money unless the client confirms
// it. Only a refusal that asking again would repeat is an error, and a cancel.
func (p *payment) charge(ctx workflow.Context) error {
	if p.row.IntentID != "" { // this is a reset, of what Stripe has
		if err := p.look(ctx, "look at the payment", paymentSteps.Look, p.in.ID, p.row.IntentID); err != nil {
			return err
		}
	} else if err := p.insist(ctx, "make the payment", p.show, func(ctx workflow.Context) error {
		var made activities.IntentState
		err := workflow.ExecuteActivity(ctx, paymentSteps.CreateIntent, p.in, p.key("create")).Get(ctx, &made)
		if err == nil {
			p.Intent = &made
		}
		return err
	}); err != nil {
		return err
	}
	if p.in.PaymentMethod != "" && p.Intent.Unconfirmed() {
		asked := false
		if err := p.insist(ctx, "take the money", p.show, func(ctx workflow.Context) error {
			var confirmed activities.IntentState
			confirm := activities.Confirmation{Transaction: p.in, IntentID: p.Intent.ID, Key: p.key("confirm"), Again: asked}
			asked = true
			err := workflow.ExecuteActivity(ctx, paymentSteps.Confirm, confirm).Get(ctx, &confirmed)
			if err == nil {
				p.Intent = &confirmed
			}
			return err
		}); err != nil {
			return err
		}
	}
	p.answered = true
	p.follow(ctx, *p.Intent)
	return nil
}

// key makes Stripe do a step once. It depends on nothing that a reset or a retry
// changes.
func (p *payment) key(step string) string {
	return fmt.Sprintf("%s/%s/%d", p.in.WorkflowID, step, p.Generation)
}

// Why a payment is canceled.
var (
	expired = livestream.Failure{Code: "expired", Message: "The payment was not confirmed in time."}
	givenUp = livestream.Failure{Code: "canceled", Message: "The payment was given up."}
)

// book writes down what Stripe has decided.
func (p *payment) book(ctx workflow.Context, canceled livestream.Failure) error {
	switch {
	case p.Intent.Status == livestream.IntentSucceeded:
		return p.settle(ctx)
	case p.refusal != nil:
		return p.end(ctx, livestream.TransactionFailed, *p.refusal)
	case p.declined != nil:
		return p.end(ctx, livestream.TransactionFailed, *p.declined)
	default:
		return p.end(ctx, livestream.TransactionCanceled, canceled)
	}
}

// giveUp is an operator's cancel: what has been charged is booked, what has not
// is cancelled at Stripe, so that it never is.
func (p *payment) giveUp(ctx workflow.Context) error {
	p.NextTry = nil
	if p.Intent == nil {
		if err := p.end(ctx, livestream.TransactionCanceled, givenUp); err != nil || p.row.IntentID == "" {
			return err
		}
		// An attempt that was under way had made one before that.
		if err := p.look(ctx, "look at the payment", paymentSteps.Look, p.in.ID, p.row.IntentID); err != nil {
			return err
		}
	}
	if err := p.awaitOutcome(ctx, 0); err != nil {
		return err
	}
	return p.book(ctx, givenUp)
}

func (p *payment) settle(ctx workflow.Context) error {
	if err := workflow.ExecuteActivity(write(ctx, "book the tip"), paymentSteps.Settle, p.in.ID).Get(ctx, p.row); err != nil {
		return fmt.Errorf("book the tip: %w", err)
	}
	hold(ctx, p.in.ID, *p.row.AvailableAt)
	p.status(ctx, livestream.TransactionSucceeded)
	if p.in.StreamID == nil {
		return nil
	}
	if err := workflow.ExecuteActivity(write(ctx, "show the tip in the chat"), paymentSteps.Announce, p.in).Get(ctx, nil); err != nil {
		return fmt.Errorf("show the tip in the chat: %w", err)
	}
	return nil
}

func (p *payment) end(ctx workflow.Context, status livestream.TransactionStatus, failure livestream.Failure) error {
	p.LastError = failure.Code + ": " + failure.Message
	end := activities.TransactionFailure{ID: p.in.ID, Status: status, Failure: failure}
	if err := workflow.ExecuteActivity(write(ctx, "write the payment's end"), paymentSteps.Fail, end).Get(ctx, p.row); err != nil {
		return fmt.Errorf("write the payment's end: %w", err)
	}
	p.status(ctx, status)
	return nil
}

func (p *payment) status(ctx workflow.Context, to livestream.TransactionStatus) {
	p.Status = to
	p.show(ctx)
}

// show tells operators where the payment is.
func (p *payment) show(ctx workflow.Context) {
	upsert(ctx, append(p.attributes(), AttrPaymentStatus.ValueSet(string(p.Status)))...)
	p.describe(ctx)
}

func (p *payment) describe(ctx workflow.Context) {
	details := fmt.Sprintf("**%s**: %s", p.Status, livestream.FormatMoney(p.in.Amount, p.in.Currency))
	if p.Intent != nil {
		details += fmt.Sprintf("\n\n`%s` is %s", p.Intent.ID, p.Intent.Status)
	}
	workflow.SetCurrentDetails(ctx, details+p.details())
}
