package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

func TestHoldReleasesWhenItsTimeHasCome(t *testing.T) {
	s := &till{}
	env := paymentEnvironment(t, s)
	until := env.Now().Add(7 * 24 * time.Hour)
	env.RegisterDelayedCallback(func() { require.Zero(t, s.released) }, 7*24*time.Hour-time.Minute)

	env.ExecuteWorkflow(workflows.Hold, workflows.HoldInput{TransactionID: newID(t), AvailableAt: until})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.released)
	require.WithinDuration(t, until, env.Now(), time.Minute)
}

// A worker's clock may be behind that of Temporal, whose timer fires.
func TestHoldIsReleasedByAWorkerWhoseClockIsSlow(t *testing.T) {
	s := &till{early: 3}
	env := paymentEnvironment(t, s)
	env.ExecuteWorkflow(workflows.Hold, workflows.HoldInput{TransactionID: newID(t), AvailableAt: env.Now().Add(time.Hour)})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 4, s.released)
}

func TestHoldWhoseTimeIsOverReleasesAtOnce(t *testing.T) {
	s := &till{}
	env := paymentEnvironment(t, s)
	env.ExecuteWorkflow(workflows.Hold, workflows.HoldInput{TransactionID: newID(t), AvailableAt: env.Now().Add(-time.Hour)})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.released)
}

func TestOperatorGivesAPaymentBackWhileItIsHeld(t *testing.T) {
	s := &till{}
	env := paymentEnvironment(t, s)
	c := &counter{send: succeededRefund, now: livestream.StripeRefund{ID: "re_1", Status: livestream.StripeRefundSucceeded}}
	env.RegisterActivity(&activities.Refunds{Store: c, Payments: c, Stripe: c, Now: time.Now})
	env.RegisterWorkflow(workflows.Refund)
	in := workflows.HoldInput{TransactionID: newID(t), AvailableAt: env.Now().Add(24 * time.Hour)}
	var first, refused updateResult
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(workflows.UpdateRefund, "sorry", &first, workflows.RefundRequest{Amount: 200, Reason: "sorry"})
	}, time.Minute)
	env.RegisterDelayedCallback(func() {
		require.NoError(t, first.err)
		refund := first.value.(livestream.NewRefund)
		require.Equal(t, in.TransactionID, refund.TransactionID)
		require.EqualValues(t, 200, refund.Amount)
		require.Equal(t, []livestream.StripeRefundStatus{livestream.StripeRefundSucceeded}, c.booked)
		c.refuse = livestream.Errorf(livestream.CodeRefundExceedsCharge, "300 are left")
		env.UpdateWorkflow(workflows.UpdateRefund, "too much", &refused, workflows.RefundRequest{Amount: 400})
	}, time.Hour)

	env.ExecuteWorkflow(workflows.Hold, in)

	require.NoError(t, env.GetWorkflowError())
	require.ErrorContains(t, refused.err, "300 are left")
	require.Len(t, c.keys, 1)
	require.Equal(t, 1, s.released)
}
