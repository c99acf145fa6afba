package workflows_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// till is a payment provider and the books, as one test needs them.
type till struct {
	charge  func(attempt int, key string) (livestream.PaymentIntent, error)
	now     livestream.PaymentIntent // what Stripe says when it is asked
	found   *livestream.PaymentIntent
	row     livestream.Transaction  // what is there before
	refuse  error                   // why the row cannot be written
	cancel  func(attempt int) error // what a cancel is answered; nil is yes
	keys    []string
	cancels []string
	settled int
	failed  []livestream.Failure
	ended   livestream.TransactionStatus
}

func (s *till) Charge(_ context.Context, c livestream.Charge) (livestream.PaymentIntent, error) {
	s.keys = append(s.keys, c.Key)
	return s.charge(len(s.keys), c.Key)
}
func (s *till) PaymentIntent(context.Context, string) (livestream.PaymentIntent, error) {
	return s.now, nil
}
func (s *till) FindCharge(context.Context, uuid.UUID) (*livestream.PaymentIntent, error) {
	return s.found, nil
}
func (s *till) Cancel(_ context.Context, _, key string) (livestream.PaymentIntent, error) {
	s.cancels = append(s.cancels, key)
	if s.cancel != nil {
		if err := s.cancel(len(s.cancels)); err != nil {
			return livestream.PaymentIntent{}, err
		}
	}
	return livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentCanceled}, nil
}

// refuseCancel is Stripe's answer while money is on its way, or there.
func refuseCancel(int) error {
	return livestream.Errorf("payment_intent_unexpected_state", "You cannot cancel this PaymentIntent.")
}
func (s *till) Create(_ context.Context, t livestream.NewTransaction) (livestream.Transaction, error) {
	row := s.row
	row.ID = t.ID
	if row.CreatedAt.IsZero() {
		row.CreatedAt = time.Now()
	}
	return row, s.refuse
}
func (s *till) SetIntent(context.Context, uuid.UUID, livestream.PaymentIntent, livestream.TransactionStatus) error {
	return nil
}
func (s *till) Settle(context.Context, uuid.UUID, time.Time) (livestream.Transaction, error) {
	s.settled++
	return livestream.Transaction{}, nil
}
func (s *till) Fail(_ context.Context, _ uuid.UUID, status livestream.TransactionStatus, f livestream.Failure, _ time.Time) (livestream.Transaction, error) {
	s.ended = status
	s.failed = append(s.failed, f)
	return livestream.Transaction{}, nil
}

func paymentEnvironment(t *testing.T, s *till) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterActivity(&activities.Transactions{Store: s, Stripe: s, Chat: noChat{}, Push: &audience{}, Now: time.Now})
	return env
}

func tip(t *testing.T, method string) workflows.PaymentInput {
	return workflows.PaymentInput{Transaction: livestream.NewTransaction{
		ID: newID(t), WorkflowID: "payment/x/y", Kind: livestream.KindTip, Amount: 500, Currency: "usd", PaymentMethod: method,
	}}
}

func TestPaymentSettlesWhenStripeSaysSo(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, charge: func(int, string) (livestream.PaymentIntent, error) { return succeeded, nil }}
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
	s := &till{now: succeeded, charge: func(int, string) (livestream.PaymentIntent, error) { return succeeded, nil }}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
}

func TestPaymentThatIsDeclinedFailsWithTheReason(t *testing.T) {
	declined := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresPaymentMethod,
		Failure: &livestream.Failure{Code: "insufficient_funds", Message: "Your card has insufficient funds."}}
	s := &till{charge: func(int, string) (livestream.PaymentIntent, error) { return declined, nil }}
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
			s := &till{charge: func(int, string) (livestream.PaymentIntent, error) { return declined, nil }}
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
	s := &till{now: onItsWay, charge: func(int, string) (livestream.PaymentIntent, error) { return onItsWay, nil }}
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
	s := &till{now: waiting, charge: func(int, string) (livestream.PaymentIntent, error) { return waiting, nil }}
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
	s.charge = func(int, string) (livestream.PaymentIntent, error) {
		return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("connection refused"))
	}
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

func TestPaymentIsQueuedWhileStripeIsDownAndKeepsItsKey(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, charge: func(attempt int, _ string) (livestream.PaymentIntent, error) {
		if attempt <= 8 {
			return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("connection refused"))
		}
		return succeeded, nil
	}}
	env := paymentEnvironment(t, s)
	var submit updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", &submit) }, 0)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, submit.err)
	require.Equal(t, 1, s.settled)
	for _, key := range s.keys {
		require.Equal(t, s.keys[0], key, "one key, so that Stripe charges once")
	}
	require.Len(t, s.keys, 9)
}

func TestPaymentWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, found: &succeeded, charge: func(int, string) (livestream.PaymentIntent, error) {
		return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("cut"))
	}}
	env := paymentEnvironment(t, s)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Len(t, s.keys, 3, "the quick attempts alone; then it was looked up")
}

func TestPaymentThatNobodyConfirmsIsCanceledAfterADay(t *testing.T) {
	waiting := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentRequiresAction}
	s := &till{now: waiting, charge: func(int, string) (livestream.PaymentIntent, error) { return waiting, nil }}
	env := paymentEnvironment(t, s)
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Payment, tip(t, ""))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
	require.InDelta(t, 24*time.Hour, env.Now().Sub(begin), float64(time.Minute))
}

func TestPaymentRetryByAnOperatorTakesANewKey(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, charge: func(_ int, key string) (livestream.PaymentIntent, error) {
		if key == "payment/x/y/charge/0" {
			return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("a stored 500"))
		}
		return succeeded, nil
	}}
	env := paymentEnvironment(t, s)
	retry := func() { env.SignalWorkflow(workflows.SignalRetry, nil) }
	env.RegisterDelayedCallback(func() {
		require.Len(t, s.keys, 3)
		retry()
	}, 5*time.Second)
	env.RegisterDelayedCallback(func() {
		require.Greater(t, len(s.keys), 3, "it was tried at once")
		require.Equal(t, "payment/x/y/charge/0", s.keys[len(s.keys)-1], "so soon, Stripe might not find what the last attempt made")
	}, 6*time.Second)
	env.RegisterDelayedCallback(retry, time.Hour+55*time.Minute)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Equal(t, "payment/x/y/charge/1", s.keys[len(s.keys)-1])
}

// The lag counts from an attempt's end: what it made may be that young.
func TestPaymentRetriedSoonerThanStripeFindsItKeepsItsKey(t *testing.T) {
	const takes = 14 * time.Second
	for name, pause := range map[string]time.Duration{"after a minute": 61 * time.Second, "just before the lag is over": 2*time.Minute - time.Second} {
		t.Run(name, func(t *testing.T) {
			s := &till{charge: func(int, string) (livestream.PaymentIntent, error) {
				return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("cut"))
			}}
			env := paymentEnvironment(t, s)
			var keys []string
			var steps *activities.Transactions
			env.OnActivity(steps.Reconcile, mock.Anything, mock.Anything, mock.Anything).After(takes).Return(
				func(_ context.Context, _ livestream.NewTransaction, key string) (activities.IntentState, error) {
					if keys = append(keys, key); len(keys) == 5 { // the pause after it is 160 s
						env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalRetry, nil) }, pause)
						env.RegisterDelayedCallback(func() {
							require.Len(t, keys, 6, "it was tried at once")
							env.CancelWorkflow()
						}, pause+takes+time.Second)
					}
					return activities.IntentState{}, errors.New("cut")
				})

			env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

			require.NoError(t, env.GetWorkflowError())
			require.Len(t, keys, 6)
			require.Equal(t, []string{"payment/x/y/charge/0"}, slices.Compact(keys))
		})
	}
}

// Stripe repeats an error under its key for a day. The payment goes on sooner, and
// later than Stripe's search lags at worst.
func TestPaymentWhoseKeyFailedTakesAnotherByItself(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded}
	env := paymentEnvironment(t, s)
	begin := env.Now()
	var before, at time.Duration
	s.charge = func(_ int, key string) (livestream.PaymentIntent, error) {
		if key == "payment/x/y/charge/0" {
			before = env.Now().Sub(begin)
			return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("a stored 500"))
		}
		at = env.Now().Sub(begin)
		return succeeded, nil
	}

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Equal(t, "payment/x/y/charge/1", s.keys[len(s.keys)-1])
	require.Greater(t, at-before, time.Hour, "an attempt is found by then")
	require.Less(t, at, 4*time.Hour)
}

// What the old key made all the same is found before another is used.
func TestPaymentThatWasMadeUnderAKeyThatFailedIsFound(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, charge: func(int, string) (livestream.PaymentIntent, error) {
		return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("a stored 500"))
	}}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(func() { s.found = &succeeded }, 100*time.Minute) // the last attempt before was at 85

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Equal(t, "payment/x/y/charge/0", s.keys[len(s.keys)-1])
}

func TestPaymentThatStripeDoesNotUnderstandWaitsForAPerson(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{now: succeeded, charge: func(attempt int, _ string) (livestream.PaymentIntent, error) {
		if attempt <= 6 {
			return livestream.PaymentIntent{}, livestream.Errorf("invalid_request_error", "Received unknown parameter")
		}
		return succeeded, nil
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
		charge: func(int, string) (livestream.PaymentIntent, error) { return onItsWay, nil },
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
	s := &till{now: waiting, charge: func(int, string) (livestream.PaymentIntent, error) { return waiting, nil }}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)

	env.ExecuteWorkflow(workflows.Payment, tip(t, ""))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
}

func TestPaymentCanceledByAnOperatorIsBookedWhenItWasCharged(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	s := &till{
		now: succeeded, found: nil, cancel: refuseCancel,
		charge: func(int, string) (livestream.PaymentIntent, error) {
			return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("cut"))
		},
	}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(func() {
		s.found = &succeeded // the answer was lost, and Stripe's search has it now
		env.CancelWorkflow()
	}, 5*time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.settled)
	require.Empty(t, s.failed)
}

func TestPaymentCanceledByAnOperatorBeforeAChargeIsCanceled(t *testing.T) {
	s := &till{charge: func(int, string) (livestream.PaymentIntent, error) {
		return livestream.PaymentIntent{}, livestream.Unavailable("payments", errors.New("connection refused"))
	}}
	env := paymentEnvironment(t, s)
	env.RegisterDelayedCallback(env.CancelWorkflow, 5*time.Second)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.TransactionCanceled, s.ended)
	require.Zero(t, s.settled)
}

func TestPaymentThatIsResetIsNotChargedAgain(t *testing.T) {
	succeeded := livestream.PaymentIntent{ID: "pi_1", Status: livestream.IntentSucceeded}
	for name, c := range map[string]struct {
		row     livestream.Transaction
		found   *livestream.PaymentIntent
		settled int
	}{
		"after it was paid":    {row: livestream.Transaction{Status: livestream.TransactionSucceeded, PaymentIntentID: "pi_1"}},
		"after it was charged": {row: livestream.Transaction{Status: livestream.TransactionProcessing, PaymentIntentID: "pi_1"}, settled: 1},
		"after its answer was lost": {
			row: livestream.Transaction{Status: livestream.TransactionQueued, CreatedAt: time.Now().Add(-48 * time.Hour)}, found: &succeeded, settled: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &till{now: succeeded, row: c.row, found: c.found}
			env := paymentEnvironment(t, s)

			env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

			require.NoError(t, env.GetWorkflowError())
			require.Empty(t, s.keys, "Stripe may have forgotten the key")
			require.Equal(t, c.settled, s.settled)
		})
	}
}

func TestPaymentThatCannotBeWrittenMayBeSubmittedAgain(t *testing.T) {
	s := &till{refuse: livestream.Unavailable("the database", errors.New("connection refused"))}
	env := paymentEnvironment(t, s)
	var submit updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitPayment, "submit", &submit) }, 0)

	env.ExecuteWorkflow(workflows.Payment, tip(t, "pm_card_visa"))

	require.Error(t, env.GetWorkflowError(), "a workflow that failed may be started again under its id")
	require.False(t, submit.done, "an answer would be given again to the same request")
	require.Empty(t, s.keys)
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
	require.Empty(t, s.keys)
}
