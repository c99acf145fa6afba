package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// counter is where refunds are made and booked, as one test needs it.
type counter struct {
	row    livestream.Refund // what is there before
	refuse error             // why it cannot be promised
	send   func(attempt int, key string) (livestream.StripeRefund, error)
	made   []livestream.StripeRefund // that Stripe lists
	now    livestream.StripeRefund   // what Stripe says when it is asked
	keys   []string
	booked []livestream.StripeRefundStatus
	failed []livestream.Failure
	taken  []uuid.UUID // promises that were taken back
}

func (c *counter) Create(_ context.Context, r livestream.NewRefund) (livestream.Refund, error) {
	row := c.row
	row.ID, row.Amount = r.ID, 200
	if row.Status == "" {
		row.Status = livestream.RefundQueued
	}
	return row, c.refuse
}
func (c *counter) Any(context.Context, uuid.UUID) (livestream.Transaction, error) {
	return livestream.Transaction{PaymentIntentID: "pi_1", Currency: "usd", Amount: 500}, nil
}
func (c *counter) Book(_ context.Context, r livestream.StripeRefund, _ time.Time, _ time.Duration) (livestream.Refund, error) {
	c.booked = append(c.booked, r.Status)
	row := livestream.Refund{Status: livestream.RefundPending, StripeRefundID: r.ID, Failure: r.Failure}
	switch r.Status {
	case livestream.StripeRefundSucceeded:
		row.Status = livestream.RefundSucceeded
	case livestream.StripeRefundFailed:
		row.Status = livestream.RefundFailed
	}
	return row, nil
}
func (c *counter) Fail(_ context.Context, _ uuid.UUID, f livestream.Failure) (livestream.Refund, error) {
	c.failed = append(c.failed, f)
	return livestream.Refund{}, nil
}
func (c *counter) Withdraw(_ context.Context, _, id uuid.UUID) error {
	c.taken = append(c.taken, id)
	return nil
}
func (c *counter) Refund(_ context.Context, r livestream.RefundRequest) (livestream.StripeRefund, error) {
	c.keys = append(c.keys, r.Key)
	return c.send(len(c.keys), r.Key)
}
func (c *counter) RefundByID(context.Context, string) (livestream.StripeRefund, error) {
	return c.now, nil
}
func (c *counter) RefundsOf(context.Context, string) ([]livestream.StripeRefund, error) {
	return c.made, nil
}

func refundEnvironment(t *testing.T, c *counter) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterActivity(&activities.Refunds{Store: c, Payments: c, Stripe: c, Now: time.Now})
	return env
}

func giveBack(t *testing.T) (workflows.RefundInput, string) {
	id := newID(t)
	return workflows.RefundInput{Refund: livestream.NewRefund{ID: id, TransactionID: newID(t), Amount: 200}}, workflows.RefundID(id)
}

func succeededRefund(int, string) (livestream.StripeRefund, error) {
	return livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundSucceeded}, nil
}

func TestRefundIsBookedWhenStripeSaysSo(t *testing.T) {
	c := &counter{send: succeededRefund, now: livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundPending}}
	env := refundEnvironment(t, c)
	var submit updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitRefund, "submit", &submit) }, 0)
	env.RegisterDelayedCallback(func() {
		require.True(t, submit.done, "who asked does not wait for Stripe")
		require.Empty(t, c.booked, "the answer alone books nothing")
		env.SignalWorkflow(workflows.SignalStripeEvent, workflows.StripeEventSignal{EventID: "evt_1"})
	}, time.Second)
	env.RegisterDelayedCallback(func() { c.now.Status = livestream.StripeRefundSucceeded }, 72*time.Hour) // and its event is lost

	in, id := giveBack(t)
	env.ExecuteWorkflow(workflows.Refund, in)

	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, submit.err)
	require.Equal(t, livestream.StripeRefundPending, c.booked[0])
	require.Equal(t, livestream.StripeRefundSucceeded, c.booked[len(c.booked)-1])
	require.Equal(t, []string{id + "/0"}, c.keys)
}

func TestRefundWhoseAnswersAreLostKeepsItsKey(t *testing.T) {
	c := &counter{now: livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundSucceeded}}
	c.send = func(attempt int, key string) (livestream.StripeRefund, error) {
		if attempt < 9 {
			return livestream.StripeRefund{}, livestream.Unavailable("payments", errors.New("cut"))
		}
		return succeededRefund(attempt, key)
	}
	env := refundEnvironment(t, c)

	in, id := giveBack(t)
	env.ExecuteWorkflow(workflows.Refund, in)

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, c.keys, 9)
	for _, key := range c.keys {
		require.Equal(t, id+"/0", key, "another key would give the money back twice")
	}
	require.Len(t, c.booked, 1)
}

func TestRefundThatStripeFailedTakesAnotherKeyAfterALook(t *testing.T) {
	stored := func(int, string) (livestream.StripeRefund, error) {
		return livestream.StripeRefund{}, livestream.Unavailable("payments", livestream.ErrStripeFailed)
	}
	t.Run("and had not made it", func(t *testing.T) {
		c := &counter{now: livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundSucceeded}}
		in, id := giveBack(t)
		c.send = func(attempt int, key string) (livestream.StripeRefund, error) {
			if key == id+"/0" {
				return stored(attempt, key)
			}
			return succeededRefund(attempt, key)
		}
		env := refundEnvironment(t, c)
		env.ExecuteWorkflow(workflows.Refund, in)
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, []string{id + "/0", id + "/1"}, c.keys)
		require.Len(t, c.booked, 1)
	})
	t.Run("and had made it", func(t *testing.T) {
		c := &counter{now: livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundSucceeded}}
		in, id := giveBack(t)
		c.send = func(attempt int, key string) (livestream.StripeRefund, error) {
			c.made = []livestream.StripeRefund{{ID: "re_0", RefundID: newID(t)}, {ID: "re_1", RefundID: in.Refund.ID}}
			return stored(attempt, key)
		}
		env := refundEnvironment(t, c)
		env.ExecuteWorkflow(workflows.Refund, in)
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, []string{id + "/0"}, c.keys)
		require.Len(t, c.booked, 1)
	})
}

func TestRefundThatIsRefused(t *testing.T) {
	t.Run("by Stripe", func(t *testing.T) {
		c := &counter{send: func(int, string) (livestream.StripeRefund, error) {
			return livestream.StripeRefund{}, livestream.Errorf("charge_disputed", "The charge has been charged back.")
		}}
		env := refundEnvironment(t, c)
		in, _ := giveBack(t)
		env.ExecuteWorkflow(workflows.Refund, in)
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, []livestream.Failure{{Code: "charge_disputed", Message: "The charge has been charged back."}}, c.failed)
	})
	t.Run("because somebody was faster at Stripe's dashboard", func(t *testing.T) {
		c := &counter{made: []livestream.StripeRefund{{ID: "re_0", Status: livestream.StripeRefundSucceeded, Amount: 400}}}
		env := refundEnvironment(t, c)
		in, _ := giveBack(t)
		env.ExecuteWorkflow(workflows.Refund, in)
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, "refund_exceeds_charge", c.failed[0].Code)
		require.Empty(t, c.keys)
	})
	t.Run("by ourselves", func(t *testing.T) {
		c := &counter{refuse: livestream.Errorf(livestream.CodeAlreadyRefunded, "nothing is left")}
		env := refundEnvironment(t, c)
		var submit updateResult
		env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitRefund, "submit", &submit) }, 0)
		in, _ := giveBack(t)
		env.ExecuteWorkflow(workflows.Refund, in)
		require.NoError(t, env.GetWorkflowError(), "a refusal is an answer")
		require.ErrorContains(t, submit.err, "nothing is left")
		require.Empty(t, c.keys)
		require.Empty(t, c.taken)
	})
	t.Run("because the database is away", func(t *testing.T) {
		c := &counter{refuse: livestream.Unavailable("the database", errors.New("connection refused"))}
		env := refundEnvironment(t, c)
		var submit updateResult
		env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateSubmitRefund, "submit", &submit) }, 0)
		in, _ := giveBack(t)
		env.ExecuteWorkflow(workflows.Refund, in)
		require.Error(t, env.GetWorkflowError(), "so that the same request may start it again")
		require.Empty(t, c.keys)
		require.Equal(t, []uuid.UUID{in.Refund.ID}, c.taken, "it may have been promised all the same")
	})
}

func TestRefundThatIsResetIsNotMadeAgain(t *testing.T) {
	for name, c := range map[string]*counter{
		"after it was booked": {row: livestream.Refund{Status: livestream.RefundSucceeded, StripeRefundID: "re_1"}},
		"after Stripe had it": {row: livestream.Refund{Status: livestream.RefundPending, StripeRefundID: "re_1"},
			now: livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundSucceeded}},
	} {
		t.Run(name, func(t *testing.T) {
			env := refundEnvironment(t, c)
			in, _ := giveBack(t)
			env.ExecuteWorkflow(workflows.Refund, in)
			require.NoError(t, env.GetWorkflowError())
			require.Empty(t, c.keys)
		})
	}
}

func TestRefundGoesOnWhenItIsCanceled(t *testing.T) {
	c := &counter{now: livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundSucceeded}}
	c.send = func(attempt int, key string) (livestream.StripeRefund, error) {
		if attempt < 5 {
			return livestream.StripeRefund{}, livestream.Unavailable("payments", errors.New("cut"))
		}
		return succeededRefund(attempt, key)
	}
	env := refundEnvironment(t, c)
	env.RegisterDelayedCallback(env.CancelWorkflow, 5*time.Second)
	in, _ := giveBack(t)
	env.ExecuteWorkflow(workflows.Refund, in)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []livestream.StripeRefundStatus{livestream.StripeRefundSucceeded}, c.booked, "who was told of it counts on it")
}
