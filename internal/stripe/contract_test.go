package stripe_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
)

// The same calls against Stripe's own mock, which checks each request against the
// description of the API, and against our simulator, which behaves: neither may
// refuse what the other one takes.
func TestContract(t *testing.T) {
	t.Parallel()
	t.Run("stripe-mock", func(t *testing.T) {
		t.Parallel()
		everyCall(t, connect(t, testenv.Load(t).StripeMock), func(string) string { return "dp_1" })
	})
	t.Run("simulator", func(t *testing.T) {
		t.Parallel()
		simulator, address := simulate(t)
		everyCall(t, connect(t, address), func(intent string) string {
			response, err := http.Post(address+"/_sim/payment_intents/"+intent+"/dispute", "application/json", strings.NewReader("{}"))
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusOK, response.StatusCode)
			return simulator.Disputes()[0].ID
		})
	})
}

// everyCall makes every call that there is. The mock answers with examples, so that
// of the answers only their shape is looked at.
func everyCall(t *testing.T, client *stripe.Client, dispute func(intent string) string) {
	ctx, charge := t.Context(), newCharge()
	intent, err := client.CreateIntent(ctx, charge)
	require.NoError(t, err)
	requireIntent(t, intent)
	again, err := client.PaymentIntent(ctx, intent.ID)
	require.NoError(t, err)
	require.Equal(t, intent.ID, again.ID)
	confirmed, err := client.Confirm(ctx, intent.ID, "pm_card_visa", charge.WorkflowID+"/confirm/0")
	require.NoError(t, err)
	requireIntent(t, confirmed)

	refund, err := client.Refund(ctx, refundOf(charge, intent.ID, 100))
	require.NoError(t, err)
	requireRefund(t, refund)
	refund, err = client.RefundByID(ctx, refund.ID)
	require.NoError(t, err)
	requireRefund(t, refund)
	refunds, err := client.RefundsOf(ctx, intent.ID)
	require.NoError(t, err)
	requireRefund(t, refunds[0])

	disputed, err := client.Dispute(ctx, dispute(intent.ID))
	require.NoError(t, err)
	requireDispute(t, disputed)

	other, err := client.CreateIntent(ctx, newCharge())
	require.NoError(t, err)
	canceled, err := client.Cancel(ctx, other.ID, "cancel/0")
	require.NoError(t, err)
	require.Equal(t, other.ID, canceled.ID)

	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	intents, _, err := client.ListIntents(ctx, from, to, "")
	require.NoError(t, err)
	requireIntent(t, intents[0])
	_, _, err = client.ListIntents(ctx, from, to, intents[0].ID)
	require.NoError(t, err)
	refunds, _, err = client.ListRefunds(ctx, from, to, "")
	require.NoError(t, err)
	requireRefund(t, refunds[0])
	disputes, _, err := client.ListDisputes(ctx, from, to, "")
	require.NoError(t, err)
	requireDispute(t, disputes[0])
}

func requireIntent(tb testing.TB, intent livestream.PaymentIntent) {
	tb.Helper()
	require.True(tb, strings.HasPrefix(intent.ID, "pi_"))
	require.True(tb, strings.HasPrefix(intent.ClientSecret, "pi_"))
	require.NotEmpty(tb, intent.Status)
	require.Positive(tb, intent.Amount)
	require.Equal(tb, "usd", intent.Currency)
	require.False(tb, intent.CreatedAt.IsZero())
}

func requireRefund(tb testing.TB, refund livestream.StripeRefund) {
	tb.Helper()
	require.True(tb, strings.HasPrefix(refund.ID, "re_"))
	require.Equal(tb, livestream.StripeRefundSucceeded, refund.Status)
	require.Positive(tb, refund.Amount)
	require.Equal(tb, "usd", refund.Currency)
}

func requireDispute(tb testing.TB, dispute livestream.StripeDispute) {
	tb.Helper()
	require.NotEmpty(tb, dispute.ID)
	require.NotEmpty(tb, dispute.Status)
	require.Positive(tb, dispute.Amount)
	require.NotEmpty(tb, dispute.Reason)
}

// The mock can say no, and what it checks against is of the version that we speak.
func TestContractIsChecked(t *testing.T) {
	t.Parallel()
	mock := testenv.Load(t).StripeMock
	status, _ := ask(t, http.MethodPost, mock+"/v1/refunds", "2023-10-16", url.Values{"payment_intent": {"pi_1"}})
	require.Equal(t, 200, status)
	status, _ = ask(t, http.MethodPost, mock+"/v1/refunds", "2023-10-16", url.Values{"payment_intent": {"pi_1"}, "amuont": {"5"}})
	require.Equal(t, 400, status)
	status, _ = ask(t, http.MethodPost, mock+"/v1/refunds", "2019-01-01", url.Values{"payment_intent": {"pi_1"}})
	require.Equal(t, 400, status)
}

// What the simulator answers has no field that Stripe's objects do not have.
func TestSimulatorInventsNothing(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	client, mock := connect(t, address), testenv.Load(t).StripeMock
	charge, intent := confirmed(t, client, "pm_card_visa")
	_, err := client.Refund(t.Context(), refundOf(charge, intent.ID, 100))
	require.NoError(t, err)
	confirmed(t, client, "pm_card_createDispute")
	for name, path := range map[string]string{
		"payment_intent": "/v1/payment_intents/" + intent.ID,
		"charge":         "/v1/charges/" + simulator.Charges()[0].ID,
		"refund":         "/v1/refunds/" + simulator.Refunds()[0].ID,
		"dispute":        "/v1/disputes/" + simulator.Disputes()[0].ID,
		"list":           "/v1/refunds",
	} {
		status, ours := ask(t, http.MethodGet, address+path, "2023-10-16", nil)
		require.Equal(t, 200, status)
		status, theirs := ask(t, http.MethodGet, mock+path, "2023-10-16", nil)
		require.Equal(t, 200, status)
		require.Equal(t, name, ours["object"])
		require.Equal(t, theirs["object"], ours["object"])
		for field := range ours {
			require.Contains(t, theirs, field, name)
		}
	}
}

// ask is a request as some other client makes it.
func ask(tb testing.TB, method, address, version string, form url.Values) (int, map[string]any) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), method, address, strings.NewReader(form.Encode()))
	require.NoError(tb, err)
	request.Header.Set("Authorization", "Bearer sk_test_x")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Stripe-Version", version)
	response, err := http.DefaultClient.Do(request)
	require.NoError(tb, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(tb, err)
	var out map[string]any
	require.NoError(tb, json.Unmarshal(body, &out), string(body))
	return response.StatusCode, out
}
