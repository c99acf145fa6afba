package workflows_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// till is a payment provider and the books, as one test needs them.
type till struct {
	make     func(attempt int, key string) error // nil makes it at once
	confirm  func(attempt int, key string) (livestream.PaymentIntent, error)
	now      livestream.PaymentIntent // what Stripe says when it is asked
	row      livestream.Transaction   // what is there before
	winner   string                   // the PaymentIntent that the row has already
	refuse   error                    // why the row cannot be written
	cancel   func(attempt int) error  // what a cancel is answered; nil is yes
	made     []string                 // keys
	keys     []string                 // of confirmations
	cancels  []string
	canceled []string // PaymentIntents
	settled  int
	paid     func() // is called when it is
	released int
	early    int // releases that come before the worker's clock has it
	failed   []livestream.Failure
	ended    livestream.TransactionStatus
	away     time.Duration // how long Stripe is left alone
}

func (s *till) Away(context.Context) time.Duration { return s.away }

func (s *till) CreateIntent(_ context.Context, c livestream.Charge) (livestream.PaymentIntent, error) {
	s.made = append(s.made, c.Key)
	if s.make != nil {
		if err := s.make(len(s.made), c.Key); err != nil {
			return livestream.PaymentIntent{}, err
		}
	}
	return livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod}, nil
}
func (s *till) Confirm(_ context.Context, _, _, key string) (livestream.PaymentIntent, error) {
	s.keys = append(s.keys, key)
	return s.confirm(len(s.keys), key)
}
func (s *till) PaymentIntent(context.Context, string) (livestream.PaymentIntent, error) {
	return s.now, nil
}
func (s *till) Cancel(_ context.Context, id, key string) (livestream.PaymentIntent, error) {
	s.cancels, s.canceled = append(s.cancels, key), append(s.canceled, id)
	if s.cancel != nil {
		if err := s.cancel(len(s.cancels)); err != nil {
			return livestream.PaymentIntent{}, err
		}
	}
	return livestream.PaymentIntent{ID: id, Status: livestream.IntentCanceled}, nil
}

// refuseCancel is Stripe's answer while money is on its way, or there.
func refuseCancel(int) error {
	return livestream.Errorf("payment_intent_unexpected_state", "You cannot cancel this PaymentIntent.")
}
func (s *till) Create(_ context.Context, t livestream.NewTransaction, _ livestream.TipLimits) (livestream.Transaction, error) {
	row := s.row
	row.ID = t.ID
	return row, s.refuse
}
func (s *till) OpenIntent(_ context.Context, _ uuid.UUID, i livestream.PaymentIntent, _ livestream.TransactionStatus) (livestream.Transaction, error) {
	row := livestream.Transaction{PaymentIntentID: i.ID}
	switch {
	case s.ended != "":
		row = livestream.Transaction{Status: s.ended}
	case s.winner != "":
		row.PaymentIntentID = s.winner
	}
	s.row.PaymentIntentID = row.PaymentIntentID
	return row, nil
}
func (s *till) SetIntent(context.Context, uuid.UUID, livestream.PaymentIntent, livestream.TransactionStatus) error {
	return nil
}
func (s *till) Settle(context.Context, uuid.UUID, time.Time, time.Duration) (livestream.Transaction, error) {
	s.settled++
	if s.paid != nil {
		s.paid()
	}
	at := time.Now().Add(7 * 24 * time.Hour)
	return livestream.Transaction{Status: livestream.TransactionSucceeded, SettledAt: &at, AvailableAt: &at}, nil
}
func (s *till) Release(context.Context, uuid.UUID, time.Time) (livestream.Transaction, error) {
	s.released++
	if s.released <= s.early {
		return livestream.Transaction{}, nil
	}
	at := time.Now()
	return livestream.Transaction{ReleasedAt: &at}, nil
}
func (s *till) Fail(_ context.Context, _ uuid.UUID, status livestream.TransactionStatus, f livestream.Failure, _ time.Time) (livestream.Transaction, error) {
	s.ended = status
	s.failed = append(s.failed, f)
	return livestream.Transaction{Status: status, PaymentIntentID: s.row.PaymentIntentID}, nil
}

// away is a Stripe that cannot be reached.
func away(int, string) error {
	return livestream.Unavailable("payments", errors.New("connection refused"))
}

// says is what Stripe answers to each confirmation.
func says(intent livestream.PaymentIntent) func(int, string) (livestream.PaymentIntent, error) {
	return func(int, string) (livestream.PaymentIntent, error) { return intent, nil }
}

func paymentEnvironment(t *testing.T, s *till) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterWorkflow(workflows.Hold)
	env.RegisterActivity(&activities.Transactions{Store: s, Stripe: s, Chat: noChat{}, Push: &audience{}, Browsers: &audience{}, Now: time.Now})
	return env
}

func tip(t *testing.T, method string) workflows.PaymentInput {
	return workflows.PaymentInput{Transaction: livestream.NewTransaction{
		ID: newID(t), WorkflowID: "payment/x/y", Kind: livestream.KindTip, Amount: 500, Currency: "usd", PaymentMethod: method,
	}}
}

func paymentState(t *testing.T, env *testsuite.TestWorkflowEnvironment) (state workflows.PaymentState) {
	t.Helper()
	value, err := env.QueryWorkflow(workflows.QueryPayment)
	require.NoError(t, err)
	require.NoError(t, value.Get(&state))
	return state
}

func TestPaymentSettlesWhenStripeSaysSo(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, confirm: says(succeeded)}
	env := paymentEnvironment(t, s)
	var submit updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", &submit) }, 0)
	env.RegisterDelayedCallback(func() {
		require.Zero(t, s.settled, "the answer to the charge alone books nothing")
		env.SignalWorkflow(workflows.SignalStripeEvent, workflows.StripeEventSignal{EventID: "evt_1"})
	}, time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.True(t, submit.done)
	require.NoError(t, submit.err)
	require.Equal(t, 1, s.settled)
}

func TestPaymentSettlesWithoutTheWebhook(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, confirm: says(succeeded)}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
}

func TestPaymentThatIsDeclinedFailsWithTheReason(t *testing.T) {
	declined := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod,
		Failure: &livestream.Failure{Code: "insufficient_funds", Message: "Your card has insufficient funds."}}
	s := &till{confirm: says(declined)}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_chargeDeclinedInsufficientFunds"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionFailed, s.ended)
	require.Equal(t, "insufficient_funds", s.failed[0].Code)
	require.Len(t, s.keys, 1, "a decline is not tried again")
	require.Len(t, s.cancels, 1, "the payer has its client secret, and could pay what nobody would book")
}

func TestPaymentThatIsPaidAfterADeclineIsBooked(t *testing.T) {
	declined := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod,
		Failure: &livestream.Failure{Code: "insufficient_funds", Message: "Your card has insufficient funds."}}
	for name, c := range map[string]struct {
		then    livestream.PaymentIntentStatus // of the other card
		settled int
		ended   livestream.TransactionStatus
		failure string
	}{
		"at once":                      {livestream.IntentSucceeded, 1, "", ""},
		"with a card that is declined": {livestream.IntentRequiresPaymentMethod, 0, livestream.TransactionFailed, "expired_card"},
		"never":                        {livestream.IntentRequiresAction, 0, livestream.TransactionCanceled, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &till{confirm: says(declined)}
			s.cancel = func(attempt int) error {
				if attempt > 1 {
					return nil
				}
				s.now = livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentProcessing} // with another card
				return refuseCancel(attempt)
			}
			env := paymentEnvironment(t, s)
			env.RegisterDelayedCallback(func() {
				require.Empty(t, s.failed, "it is not decided")
				s.now.Status = c.then
				if c.then == livestream.IntentRequiresPaymentMethod {
					s.now.Failure = &livestream.Failure{Code: "expired_card", Message: "Your card has expired."}
				}
			}, time.Minute)

			env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_chargeDeclinedInsufficientFunds"))

			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, c.settled, s.settled)
			require.Equal(t, c.ended, s.ended)
			if c.failure != "" {
				require.Equal(t, c.failure, s.failed[0].Code)
			}
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(s.cancels))), len(s.cancels), "Stripe would repeat its refusal")
		})
	}
}

// Stripe took no cancel while the money was on its way; then it did not arrive.
func TestPaymentThatComesBackAfterItsTimeIsCanceled(t *testing.T) {
	onItsWay := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentProcessing}
	s := &till{now: onItsWay, confirm: says(onItsWay)}
	s.cancel = func(attempt int) error {
		if attempt == 1 {
			return refuseCancel(attempt) // the payer was about to try again
		}
		return nil
	}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(func() { s.now.Status = livestream.IntentRequiresPaymentMethod }, 72*time.Hour)
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Payment, tip(t, ""))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
	require.Equal(t, "expired", s.failed[0].Code)
	require.Less(t, env.Now().Sub(begin), 75*time.Hour)
}

func TestPaymentWhoseCancelStripeFailsIsCanceledUnderAnotherKey(t *testing.T) {
	waiting := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresAction}
	s := &till{now: waiting, confirm: says(waiting)}
	s.cancel = func(int) error {
		if n := len(s.cancels); s.cancels[n-1] == s.cancels[0] {
			return livestream.Unavailable("payments", errors.New("a stored 500"))
		}
		return nil
	}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)

	env.ExecuteWorkflow(workflows.Payment, tip(t, ""))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
	require.Len(t, s.cancels, 2)
}

// The contract's answer is 202 within 6 s, however late a worker comes.
func TestPaymentThatBeginsLateIsQueuedInTime(t *testing.T) {
	s := &till{}
	env := paymentEnvironment(t, s)
	begin := env.Now()
	s.make = away
	var answered time.Duration
	submit := &updateResult{told: func() { answered = env.Now().Sub(begin) }}
	env.RegisterWorkflow(paidLate)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", submit) }, 4500*time.Millisecond)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour)

	env.ExecuteWorkflow(paidLate, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.True(t, submit.done)
	require.NoError(t, submit.err)
	require.LessOrEqual(t, answered, workflows.SubmitWindow)
}

// paidLate is a payment whose worker was busy for a while.
func paidLate(ctx workflow.Context, in workflows.PaymentInput) error {
	if err := workflow.Sleep(ctx, 4500*time.Millisecond); err != nil {
		return err
	}
	return workflows.Payment(ctx, in)
}

func TestPaymentIsQueuedWhileStripeIsDownAndKeepsItsKeys(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod}}
	s.make = func(attempt int, key string) error {
		if attempt <= 8 {
			return away(attempt, key)
		}
		return nil
	}
	s.confirm = func(attempt int, key string) (livestream.PaymentIntent, error) {
		if attempt <= 6 {
			return livestream.PaymentIntent{}, away(attempt, key)
		}
		s.now = succeeded
		return succeeded, nil
	}
	env := paymentEnvironment(t, s)
	var submit updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", &submit) }, 0)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, submit.err)
	require.Equal(t, 1, s.settled)
	require.Len(t, s.made, 9)
	require.Equal(t, []string{"payment/x/y/create/0"}, slices.Compact(s.made), "what was asked may be worked on: one key, one effect")
	require.Len(t, s.keys, 7)
	require.Equal(t, []string{"payment/x/y/confirm/0"}, slices.Compact(s.keys))
}

// The breaker is open, and says for how long.
func TestPaymentIsQueuedAtOnceWhenItWouldHaveToWait(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, confirm: says(succeeded)}
	s.make = func(attempt int, _ string) error {
		if attempt > 1 {
			return nil
		}
		open := livestream.Unavailable("payments", errors.New("circuit breaker is open"))
		open.RetryAfter = 40 * time.Second
		return open
	}
	env := paymentEnvironment(t, s)
	begin := env.Now()
	var answered, settled time.Duration
	s.paid = func() { settled = env.Now().Sub(begin) }
	submit := &updateResult{told: func() { answered = env.Now().Sub(begin) }}
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", submit) }, 0)
	env.RegisterDelayedCallback(func() { require.Len(t, s.made, 1) }, 39*time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, submit.err)
	require.Less(t, answered, time.Second)
	require.Equal(t, 1, s.settled)
	require.Less(t, settled, 2*time.Minute)
}

// The breaker is known to be open when the row is written: nothing is asked of Stripe
// before that time, and the payer is answered at once.
func TestPaymentIsQueuedAtOnceWhileStripeIsLeftAlone(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, confirm: says(succeeded), away: 40 * time.Second}
	env := paymentEnvironment(t, s)
	begin := env.Now()
	var answered time.Duration
	submit := &updateResult{told: func() { answered = env.Now().Sub(begin) }}
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", submit) }, 0)
	env.RegisterDelayedCallback(func() {
		require.Empty(t, s.made)
		state := paymentState(t, env)
		require.Equal(t, livestream.TransactionQueued, state.Status)
		require.Contains(t, state.LastError, "the payment provider is not available")
		require.WithinDuration(t, begin.Add(40*time.Second), *state.NextTry, time.Second)
	}, 39*time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, submit.err)
	require.Less(t, answered, time.Second)
	require.Equal(t, []string{"payment/x/y/create/0"}, s.made)
	require.Len(t, s.keys, 1)
	require.Equal(t, 1, s.settled)
}

func TestPaymentWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, confirm: func(int, string) (livestream.PaymentIntent, error) {
		return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("cut"))
	}}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Len(t, s.keys, 3, "the quick attempts alone; then it was looked up")
}

// Stripe repeats an error of its own under its key for a day.
func TestPaymentThatStripeFailedTakesAnotherKey(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	stored := livestream.Unavailable("payments", livestream.ErrStripeFailed)
	for name, done := range map[string]bool{"that had taken the money": true, "that had not": false} {
		t.Run(name, func(t *testing.T) {
			s := &till{now: livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod}}
			s.make = func(_ int, key string) error {
				if key == "payment/x/y/create/0" {
					return stored
				}
				return nil
			}
			s.confirm = func(_ int, key string) (livestream.PaymentIntent, error) {
				if done {
					s.now = succeeded
				}
				if key == "payment/x/y/confirm/1" {
					return livestream.PaymentIntent{}, stored
				}
				s.now = succeeded
				return succeeded, nil
			}
			env := paymentEnvironment(t, s)
			begin := env.Now()
			s.paid = func() { require.Less(t, env.Now().Sub(begin), time.Minute) }

			env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, 1, s.settled)
			require.Equal(t, []string{"payment/x/y/create/0", "payment/x/y/create/1"}, s.made, "one that takes no money costs nobody anything")
			want := []string{"payment/x/y/confirm/1"}
			if !done {
				want = append(want, "payment/x/y/confirm/2")
			}
			require.Equal(t, want, s.keys, "it was looked at first")
		})
	}
}

func TestPaymentThatIsDeclinedWithoutAnAnswerIsNotTriedAgain(t *testing.T) {
	s := &till{now: livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod,
		Failure: &livestream.Failure{Code: "insufficient_funds", Message: "Your card has insufficient funds."}}}
	s.confirm = func(int, string) (livestream.PaymentIntent, error) {
		return livestream.PaymentIntent{}, livestream.Unavailable("payments", livestream.ErrStripeFailed)
	}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionFailed, s.ended)
	require.Equal(t, "insufficient_funds", s.failed[0].Code)
	require.Len(t, s.keys, 1)
}

func TestPaymentThatStripeRefusesIsClosedAtStripe(t *testing.T) {
	refused := livestream.Errorf("resource_missing", "No such PaymentMethod.")
	t.Run("when it is confirmed", func(t *testing.T) {
		s := &till{confirm: func(int, string) (livestream.PaymentIntent, error) { return livestream.PaymentIntent{}, refused }}
		env := paymentEnvironment(t, s)
		env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_unknown"))
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, livestream.TransactionFailed, s.ended)
		require.Equal(t, []livestream.Failure{{Code: "resource_missing", Message: "No such PaymentMethod."}}, s.failed)
		require.Equal(t, []string{"pi_1"}, s.canceled, "the payer has its client secret")
		require.Len(t, s.keys, 1)
	})
	t.Run("when it is made", func(t *testing.T) {
		s := &till{make: func(int, string) error {
			return livestream.Errorf("amount_too_small", "Amount must be at least 50 cents.")
		}}
		env := paymentEnvironment(t, s)
		env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, "amount_too_small", s.failed[0].Code)
		require.Empty(t, s.canceled)
		require.Len(t, s.made, 1)
	})
}

func TestPaymentIntentThatIsOneTooManyIsCanceled(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_0", Status: livestream.IntentSucceeded}
	s := &till{now: livestream.PaymentIntent{ID: "pi_0", Status: livestream.IntentRequiresPaymentMethod}, winner: "pi_0"}
	s.confirm = func(int, string) (livestream.PaymentIntent, error) {
		s.now = succeeded
		return succeeded, nil
	}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{"pi_1"}, s.canceled)
	require.Equal(t, 1, s.settled)
}

func TestPaymentThatNobodyConfirmsIsCanceledAfterADay(t *testing.T) {
	waiting := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresAction}
	s := &till{now: waiting, confirm: says(waiting)}
	env := paymentEnvironment(t, s)
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Payment, tip(t, ""))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
	require.InDelta(t, 24*time.Hour, env.Now().Sub(begin), float64(time.Minute))
}

func TestPaymentIsRetriedAtOnceByAnOperator(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, confirm: says(succeeded), make: away}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(func() {
		state := paymentState(t, env)
		require.Contains(t, state.LastError, "connection refused")
		require.NotNil(t, state.NextTry)
	}, 40*time.Minute)
	env.RegisterDelayedCallback(func() {
		s.make = nil
		env.SignalWorkflow(workflows.SignalRetry, nil)
	}, 80*time.Minute) // the next attempt by itself would be at 85
	env.RegisterDelayedCallback(func() { require.Equal(t, 1, s.settled) }, 81*time.Minute)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
}

func TestPaymentThatStripeDoesNotUnderstandWaitsForAPerson(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, confirm: says(succeeded), make: func(attempt int, _ string) error {
		if attempt <= 6 {
			return livestream.Errorf("invalid_request_error", "Received unknown parameter")
		}
		return nil
	}}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, s.failed, "the payer could change nothing")
	require.Equal(t, 1, s.settled)
}

func TestPaymentOnItsWayForMoreThanADayIsNotGivenUp(t *testing.T) {
	onItsWay := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentProcessing}
	s := &till{
		now: onItsWay, cancel: refuseCancel,
		confirm: says(onItsWay),
	}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(func() { s.now.Status = livestream.IntentSucceeded }, 72*time.Hour)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_sepa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Empty(t, s.failed)
}

func TestPaymentCanceledByAnOperatorIsCanceledAtStripe(t *testing.T) {
	waiting := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresAction}
	s := &till{now: waiting, confirm: says(waiting)}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)

	env.ExecuteWorkflow(workflows.Payment, tip(t, ""))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
}

func TestPaymentCanceledByAnOperatorIsBookedWhenItWasCharged(t *testing.T) {
	s := &till{now: livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod}, cancel: refuseCancel}
	s.confirm = func(int, string) (livestream.PaymentIntent, error) {
		return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("cut"))
	}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(func() {
		s.now.Status = livestream.IntentSucceeded // the answer was lost
		env.CancelWorkflow()
	}, 5*time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Empty(t, s.failed)
}

func TestPaymentCanceledByAnOperatorBeforeStripeHasItIsCanceled(t *testing.T) {
	s := &till{make: away}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(env.CancelWorkflow, 5*time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
	require.Zero(t, s.settled)
	require.Empty(t, s.canceled)
}

// An attempt whose answer nobody waited for had made a PaymentIntent.
func TestPaymentCanceledByAnOperatorClosesWhatTheRowKnows(t *testing.T) {
	s := &till{now: livestream.PaymentIntent{ID: "pi_late", Status: livestream.IntentRequiresPaymentMethod}, make: away}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(func() {
		s.row.PaymentIntentID = "pi_late"
		env.CancelWorkflow()
	}, 5*time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
	require.Equal(t, []string{"pi_late"}, s.canceled)
}

func TestPaymentThatIsResetIsNotChargedAgain(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	soon := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		row     livestream.Transaction
		settled int
	}{
		"after it was paid":         {row: livestream.Transaction{Status: livestream.TransactionSucceeded, PaymentIntentID: "pi_1", AvailableAt: &soon}},
		"after it was confirmed":    {row: livestream.Transaction{Status: livestream.TransactionProcessing, PaymentIntentID: "pi_1"}, settled: 1},
		"after its answer was lost": {row: livestream.Transaction{Status: livestream.TransactionQueued, PaymentIntentID: "pi_1"}, settled: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := &till{now: succeeded, row: c.row}
			env := paymentEnvironment(t, s)

			env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

			require.NoError(t, env.GetWorkflowError())
			require.Empty(t, s.made)
			require.Empty(t, s.keys)
			require.Equal(t, c.settled, s.settled)
		})
	}
	t.Run("before it was confirmed", func(t *testing.T) {
		s := &till{now: livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod}, row: livestream.Transaction{PaymentIntentID: "pi_1"}}
		s.confirm = func(int, string) (livestream.PaymentIntent, error) {
			s.now = succeeded
			return succeeded, nil
		}
		env := paymentEnvironment(t, s)

		env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

		require.NoError(t, env.GetWorkflowError())
		require.Empty(t, s.made)
		require.Len(t, s.keys, 1)
		require.Equal(t, 1, s.settled)
	})
}

func TestPaymentThatCannotBeWrittenMayBeSubmittedAgain(t *testing.T) {
	s := &till{refuse: livestream.Unavailable("the database", errors.New("connection refused"))}
	env := paymentEnvironment(t, s)
	var submit updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", &submit) }, 0)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.Error(t, env.GetWorkflowError(), "a workflow that failed may be started again under its id")
	require.False(t, submit.done, "an answer would be given again to the same request")
	require.Empty(t, s.made)
	require.Equal(t, livestream.TransactionCanceled, s.ended, "should its row be there")
}

func TestPaymentThatIsRefusedIsNotTriedAgain(t *testing.T) {
	s := &till{refuse: livestream.Errorf(livestream.CodeUserNotFound, "there is no such user")}
	env := paymentEnvironment(t, s)
	var submit updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", &submit) }, 0)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError(), "a refusal is an answer, not a failure of the workflow")
	require.ErrorContains(t, submit.err, "no such user")
	require.Empty(t, s.made)
}
