package stripe_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// confirmed is a payment that was created and confirmed with a payment method.
func confirmed(tb testing.TB, client *stripe.Client, method string) (livestream.Charge, livestream.PaymentIntent) {
	tb.Helper()
	charge := newCharge()
	open, err := client.CreateIntent(tb.Context(), charge)
	require.NoError(tb, err)
	intent, err := client.Confirm(tb.Context(), open.ID, method, charge.WorkflowID+"/confirm/0")
	require.NoError(tb, err)
	require.Equal(tb, livestream.IntentSucceeded, intent.Status)
	return charge, intent
}

func refundOf(charge livestream.Charge, intent string, amount int64) livestream.RefundRequest {
	id := uuid.New()
	return livestream.RefundRequest{
		Key: "refund/" + id.String() + "/0", RefundID: id, TransactionID: charge.TransactionID, WorkflowID: "refund/" + id.String(),
		PaymentIntentID: intent, Amount: amount, Reason: "the stream broke off",
	}
}

func TestRefund(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	client := connect(t, address)
	charge, intent := confirmed(t, client, "pm_card_visa")
	request := refundOf(charge, intent.ID, 200)
	made, err := client.Refund(t.Context(), request)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	require.Equal(t, livestream.StripeRefund{
		ID: made.ID, Status: livestream.StripeRefundSucceeded, Amount: 200, Currency: "usd", PaymentIntentID: intent.ID,
		RefundID: request.RefundID, TransactionID: charge.TransactionID, WorkflowID: request.WorkflowID, CreatedAt: made.CreatedAt,
	}, made)
	again, err := client.Refund(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, made, again, "the same key gives money back once")
	read, err := client.RefundByID(t.Context(), made.ID)
	require.NoError(t, err)
	require.Equal(t, made, read)
	require.Equal(t, "the stream broke off", simulator.Refunds()[0].Metadata["reason"])

	rest, err := client.Refund(t.Context(), refundOf(charge, intent.ID, 300))
	require.NoError(t, err)
	_, err = client.Refund(t.Context(), refundOf(charge, intent.ID, 1))
	require.Equal(t, livestream.Code("charge_already_refunded"), livestream.CodeOf(err))
	all, err := client.RefundsOf(t.Context(), intent.ID)
	require.NoError(t, err)
	require.Equal(t, []livestream.StripeRefund{rest, made}, all)
	_, err = client.RefundByID(t.Context(), "re_none")
	require.Equal(t, livestream.Code("resource_missing"), livestream.CodeOf(err))
}

func TestRefundThatTheBankSendsBack(t *testing.T) {
	t.Parallel()
	_, address := simulate(t)
	client := connect(t, address)
	charge, intent := confirmed(t, client, "pm_card_refundFail")
	made, err := client.Refund(t.Context(), refundOf(charge, intent.ID, 200))
	require.NoError(t, err)
	require.Equal(t, livestream.StripeRefundSucceeded, made.Status)
	require.Eventually(t, func() bool {
		made, err = client.RefundByID(t.Context(), made.ID)
		return err == nil && made.Status == livestream.StripeRefundFailed
	}, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, "expired_or_canceled_card", made.Failure.Code)
}

func TestDispute(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	client := connect(t, address)
	charge, intent := confirmed(t, client, "pm_card_createDispute")
	dispute, err := client.Dispute(t.Context(), simulator.Disputes()[0].ID)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), dispute.CreatedAt, time.Minute)
	require.Equal(t, livestream.StripeDispute{
		ID: dispute.ID, Status: livestream.DisputeNeedsResponse, Amount: 500, Currency: "usd", Reason: "fraudulent",
		PaymentIntentID: intent.ID, CreatedAt: dispute.CreatedAt,
	}, dispute)
	require.True(t, dispute.Status.Open())
	_, err = client.Refund(t.Context(), refundOf(charge, intent.ID, 1))
	require.Equal(t, livestream.Code("charge_disputed"), livestream.CodeOf(err))
	_, err = client.Dispute(t.Context(), "dp_none")
	require.Equal(t, livestream.Code("resource_missing"), livestream.CodeOf(err))
}

// A lost dispute whose money Stripe gives back is as good as a won one.
func TestDisputeThatIsReversed(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	client := connect(t, address)
	confirmed(t, client, "pm_card_createDispute")
	id := simulator.Disputes()[0].ID
	status := func(path string) livestream.StripeDisputeStatus {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+path, http.NoBody)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer sk_test_x")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode)
		dispute, err := client.Dispute(t.Context(), id)
		require.NoError(t, err)
		return dispute.Status
	}
	require.Equal(t, livestream.DisputeLost, status("/v1/disputes/"+id+"/close"))
	require.Equal(t, livestream.DisputeWon, status("/_sim/disputes/"+id+"/reinstate"))
}

// A payment is confirmed once, whatever the keys are, and an answer that was lost
// is given again under its own.
func TestConfirm(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	client := connect(t, address)
	charge := newCharge()
	open, err := client.CreateIntent(t.Context(), charge)
	require.NoError(t, err)
	require.Equal(t, livestream.IntentRequiresPaymentMethod, open.Status)
	require.Equal(t, charge.TransactionID, open.TransactionID)
	require.Equal(t, charge.WorkflowID, open.WorkflowID)
	require.WithinDuration(t, time.Now(), open.CreatedAt, time.Minute)

	declined, err := client.Confirm(t.Context(), open.ID, "pm_card_chargeDeclinedInsufficientFunds", "confirm/0")
	require.NoError(t, err)
	require.Equal(t, livestream.IntentRequiresPaymentMethod, declined.Status)
	require.Equal(t, "insufficient_funds", declined.Failure.Code)
	require.Empty(t, simulator.Charges())

	simulator.SetFaults(stripesim.Faults{CutAfter: 1})
	_, err = client.Confirm(t.Context(), open.ID, "pm_card_visa", "confirm/1")
	require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
	simulator.SetFaults(stripesim.Faults{})
	paid, err := client.Confirm(t.Context(), open.ID, "pm_card_visa", "confirm/1")
	require.NoError(t, err)
	require.Equal(t, livestream.IntentSucceeded, paid.Status)
	_, err = client.Confirm(t.Context(), open.ID, "pm_card_visa", "confirm/2")
	require.Equal(t, livestream.Code("payment_intent_unexpected_state"), livestream.CodeOf(err))
	require.Len(t, simulator.Charges(), 1)
	_, err = client.Confirm(t.Context(), "pi_none", "pm_card_visa", "confirm/3")
	require.Equal(t, livestream.Code("resource_missing"), livestream.CodeOf(err))
}

// Lists give every object of their time once, in pages.
func TestLists(t *testing.T) {
	t.Parallel()
	_, address := simulate(t)
	client := connect(t, address)
	var want []livestream.PaymentIntent
	for range 101 {
		charge := newCharge()
		intent, err := client.CreateIntent(t.Context(), charge)
		require.NoError(t, err)
		want = append([]livestream.PaymentIntent{intent}, want...)
	}
	charge, paid := confirmed(t, client, "pm_card_visa")
	refund, err := client.Refund(t.Context(), refundOf(charge, paid.ID, 1))
	require.NoError(t, err)
	_, disputed := confirmed(t, client, "pm_card_createDispute")
	want = append([]livestream.PaymentIntent{disputed, paid}, want...)

	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	first, next, err := client.ListIntents(t.Context(), from, to, "")
	require.NoError(t, err)
	require.Len(t, first, 100)
	second, end, err := client.ListIntents(t.Context(), from, to, next)
	require.NoError(t, err)
	require.Empty(t, end)
	require.Equal(t, want, append(first, second...))

	refunds, end, err := client.ListRefunds(t.Context(), from, to, "")
	require.NoError(t, err)
	require.Empty(t, end)
	require.Equal(t, []livestream.StripeRefund{refund}, refunds)
	disputes, end, err := client.ListDisputes(t.Context(), from, to, "")
	require.NoError(t, err)
	require.Empty(t, end)
	require.Len(t, disputes, 1)
	require.Equal(t, disputed.ID, disputes[0].PaymentIntentID)

	none, _, err := client.ListIntents(t.Context(), from, from.Add(time.Minute), "")
	require.NoError(t, err)
	require.Empty(t, none, "none was made then")
}
