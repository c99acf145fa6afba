package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// Insistence is how it goes with what Stripe has to be asked for until it answers.
type Insistence struct {
	Attempts   int        `json:"attempts"`   // slow ones
	Generation int        `json:"generation"` // of the key
	LastError  string     `json:"last_error,omitempty"`
	NextTry    *time.Time `json:"next_try,omitempty"`

	away time.Duration // how long Stripe is left alone, as far as is known at first
}

// insist asks Stripe for something: a few times quickly, then slowly and for as long
// as it takes. Only a refusal that asking again would repeat is an error, and a cancel.
//
// Stripe repeats an error of its own under its key for a day, so that one which is
// repeated raises the key's generation. Its first coming, or an answer that was lost,
// does not: the request may still be worked on, and under its key it has its effect once. show tells operators
// of what changed.
func (a *Insistence) insist(ctx workflow.Context, what string, show func(workflow.Context), ask func(ctx workflow.Context) error) error {
	err := a.leaveAlone()
	if err == nil {
		err = ask(quick(ctx, what))
	}
	for again := 1; again < quickAttempts && failedAtStripe(err); again++ {
		a.Generation++
		if err := workflow.Sleep(ctx, quickPause<<again); err != nil {
			return err
		}
		err = ask(quick(ctx, what))
	}
	for wait := slowRetryFirst; err != nil; wait = min(2*wait, slowRetryMax) {
		if temporal.IsCanceledError(err) || !mayHelp(err) {
			return err
		}
		if failedAtStripe(err) {
			a.Generation++
		}
		a.Attempts++
		if err := a.pause(ctx, what, max(wait, askedFor(err)), err, show); err != nil {
			return err
		}
		err = ask(once(ctx, fmt.Sprintf("%s, slow attempt %d", what, a.Attempts)))
	}
	if a.NextTry != nil {
		a.LastError, a.NextTry = "", nil
		show(ctx)
	}
	return nil
}

// leaveAlone is what the first attempt would be told while Stripe is left alone.
func (a *Insistence) leaveAlone() error {
	if a.away == 0 {
		return nil
	}
	options := temporal.ApplicationErrorOptions{Cause: livestream.ErrCircuitOpen, NextRetryDelay: a.away}
	a.away = 0
	return temporal.NewApplicationErrorWithOptions("the payment provider is not available at the moment", string(livestream.CodeUnavailable), options)
}

// pause waits for the next slow attempt, or for an operator who wants it now.
func (a *Insistence) pause(ctx workflow.Context, what string, wait time.Duration, cause error, show func(workflow.Context)) error {
	next := workflow.Now(ctx).Add(wait)
	a.LastError, a.NextTry = reason(cause), &next
	show(ctx)
	retry := workflow.GetSignalChannel(ctx, SignalRetry)
	_, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout:      wait,
		TimerOptions: workflow.TimerOptions{Summary: "next attempt to " + what},
	}, func() bool { return retry.Len() > 0 })
	received(ctx, SignalRetry)
	return err
}

// attributes are what operators search for: why it waits, and until when.
func (a *Insistence) attributes() []temporal.SearchAttributeUpdate {
	if a.NextTry == nil {
		return []temporal.SearchAttributeUpdate{AttrPaymentError.ValueUnset(), AttrPaymentNextTry.ValueUnset()}
	}
	return []temporal.SearchAttributeUpdate{AttrPaymentError.ValueSet(keyword(a.LastError)), AttrPaymentNextTry.ValueSet(*a.NextTry)}
}

// details are the lines that operators read of it.
func (a *Insistence) details() (lines string) {
	if a.LastError != "" {
		lines += "\n\nlast error: " + a.LastError
	}
	if a.NextTry != nil {
		lines += fmt.Sprintf("\n\nnext attempt at %s; the signal `%s` makes it now", a.NextTry.UTC().Format(time.RFC3339), SignalRetry)
	}
	return lines
}

// mayHelp says whether asking again may give another answer.
func mayHelp(err error) bool {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || !app.NonRetryable() {
		return true
	}
	return app.Type() == activities.ErrStripeFailed || app.Type() == string(livestream.CodeUnavailable)
}

// failedAtStripe says whether Stripe repeated an error of its own.
func failedAtStripe(err error) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && app.Type() == activities.ErrStripeFailed
}

// askedFor is the pause that Stripe, or its guard, asked for.
func askedFor(err error) time.Duration {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return 0
	}
	return app.NextRetryDelay()
}

// refusal is one of Stripe's in the words that its payer reads.
func refusal(err error) livestream.Failure {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return livestream.Failure{Code: string(livestream.CodeInternal), Message: "Something went wrong on our side."}
	}
	return livestream.Failure{Code: app.Type(), Message: app.Message()}
}

// reason is an error in an operator's words, without Temporal's own numbers.
func reason(err error) string {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return err.Error()
	}
	if cause := app.Unwrap(); cause != nil {
		return app.Message() + ": " + cause.Error()
	}
	return app.Message()
}

// final says whether asking again would give the same error.
func final(err error) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && app.NonRetryable()
}
