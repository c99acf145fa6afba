package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// A payment's PaymentIntent is followed here until Stripe has decided.

// look asks Stripe, or has it do something, for as long as it takes.
func (p *payment) look(ctx workflow.Context, summary string, step any, args ...any) error {
	var intent activities.IntentState
	if err := workflow.ExecuteActivity(write(ctx, summary), step, args...).Get(ctx, &intent); err != nil {
		return fmt.Errorf("%s: %w", summary, err)
	}
	p.told = true
	p.follow(ctx, intent)
	return nil
}

// follow takes on what Stripe said.
func (p *payment) follow(ctx workflow.Context, intent activities.IntentState) {
	p.Intent = &intent
	if shown := intent.Shown(); shown != p.Status {
		p.status(ctx, shown)
	} else {
		p.describe(ctx)
	}
}

// awaitOutcome follows the PaymentIntent until it is decided. Stripe's events say
// when to look; a timer looks now and then, should they never come. What was declined,
// and what its payer did not confirm within the window, is canceled; where Stripe
// refuses, the payer was faster.
func (p *payment) awaitOutcome(ctx workflow.Context, window time.Duration) error {
	deadline := workflow.Now(ctx).Add(window)
	poll := pollFirst
	for {
		left := deadline.Sub(workflow.Now(ctx))
		if p.waiting() && (left <= 0 || p.decline() != nil) {
			if err := p.cancelIntent(ctx); err != nil {
				return err
			}
		}
		if p.decided() {
			return nil
		}
		wait := poll
		if left > 0 {
			wait = min(poll, left)
		}
		told, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
			Timeout:      wait,
			TimerOptions: workflow.TimerOptions{Summary: "look at Stripe, should its event be lost"},
		}, func() bool { return p.events.Len() > 0 })
		if err != nil {
			return err
		}
		if told {
			received(ctx, SignalStripeEvent)
		} else {
			poll = min(2*poll, pollMax)
		}
		if err := p.look(ctx, "look at the payment", paymentSteps.Look, p.in.ID, p.Intent.ID); err != nil {
			return err
		}
	}
}

// decided says whether Stripe will not change its mind. Money is booked on
// Stripe's own word, an event or what it says when it is asked again, never on
// the answer to the charge alone.
func (p *payment) decided() bool {
	switch p.Intent.Status {
	case livestream.IntentSucceeded:
		return p.told
	case livestream.IntentCanceled:
		return true
	}
	return false
}

// waiting says whether it is the payer's turn, so that Stripe takes a cancel.
func (p *payment) waiting() bool {
	return p.Intent.Shown() == livestream.TransactionRequiresAction
}

// decline is why Stripe took no money, when that is the end of it: a payer who
// confirms by themself may try another card.
func (p *payment) decline() *livestream.Failure {
	if p.Intent.Status == livestream.IntentRequiresPaymentMethod && p.in.PaymentMethod != "" {
		return p.Intent.Failure
	}
	return nil
}

// cancelIntent closes the PaymentIntent: as long as it is open, the payer, who has
// its client secret, could pay what we have given up. Each time it has a key of its
// own, because Stripe would repeat what it answered when things stood otherwise.
func (p *payment) cancelIntent(ctx workflow.Context) error {
	p.declined = p.decline()
	p.Cancels++
	key := fmt.Sprintf("%s/%d", p.key("cancel"), p.Cancels)
	return p.look(ctx, "give up the payment", paymentSteps.Cancel, p.in.ID, p.Intent.ID, key)
}
