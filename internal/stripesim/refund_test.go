package stripesim_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func refund(intent, amount string) url.Values {
	form := url.Values{"payment_intent": {intent}, "metadata[refund_id]": {"r1"}}
	if amount != "" {
		form.Set("amount", amount)
	}
	return form
}

func TestRefundsAreBoundedByTheCharge(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	simulator, address := start(t, stripesim.Config{WebhookURL: in.URL})
	intent := paid(t, address, "pm_card_visa")
	part := post(t, address+"/v1/refunds", "a", refund(intent, "200"))
	require.Equal(t, 200, part.status, part.body)
	require.Equal(t, "succeeded", part.field(t, "status"))
	require.Equal(t, intent, part.field(t, "payment_intent"))
	require.Equal(t, "r1", part.field(t, "metadata.refund_id"))
	require.True(t, post(t, address+"/v1/refunds", "a", refund(intent, "200")).replayed)

	more := post(t, address+"/v1/refunds", "", refund(intent, "301"))
	require.Equal(t, 400, more.status, "more than is left")
	require.Equal(t, "amount", more.field(t, "error.param"))
	require.Equal(t, 400, post(t, address+"/v1/refunds", "", refund(intent, "0")).status)
	rest := post(t, address+"/v1/refunds", "", refund(intent, ""))
	require.Equal(t, "300", rest.field(t, "amount"), "all that is left")
	again := post(t, address+"/v1/refunds", "", refund(intent, "1"))
	require.Equal(t, "charge_already_refunded", again.field(t, "error.code"))

	charge := simulator.Charges()[0]
	require.Equal(t, int64(500), charge.AmountRefunded)
	require.True(t, charge.Refunded)
	require.Len(t, simulator.Refunds(), 2)
	require.Equal(t, "true", get(t, address+"/v1/charges/"+charge.ID).field(t, "refunded"))
	require.Equal(t, "200", get(t, address+"/v1/refunds/"+part.field(t, "id")).field(t, "amount"))
	eventually(t, func() bool { return len(in.of("charge.refunded")) == 2 && len(in.of("refund.created")) == 2 }, "both are told of")
}

func TestNothingToRefund(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	open := post(t, address+"/v1/payment_intents", "", payment("")).field(t, "id")
	require.Equal(t, 400, post(t, address+"/v1/refunds", "", refund(open, "")).status, "not paid")
	require.Equal(t, 404, post(t, address+"/v1/refunds", "", refund("pi_none", "")).status)
	require.Equal(t, 404, post(t, address+"/v1/refunds", "", nil).status)
	require.Equal(t, 404, get(t, address+"/v1/refunds/re_none").status)
	require.Empty(t, simulator.Refunds())
}

// Refunds are not always what they are at first.
func TestRefundsThatTakeTime(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]struct {
		first, last string
		refunded    int64
		event       string
	}{
		"pm_card_pendingRefund": {"pending", "succeeded", 200, "refund.updated"},
		"pm_card_refundFail":    {"succeeded", "failed", 0, "refund.failed"},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			in := newInbox(t)
			file := journal(t)
			simulator, address := start(t, stripesim.Config{WebhookURL: in.URL, Journal: file})
			made := post(t, address+"/v1/refunds", "", refund(paid(t, address, method), "200"))
			require.Equal(t, want.first, made.field(t, "status"))
			simulator.Close() // what is due comes after a restart too
			simulator, address = start(t, stripesim.Config{WebhookURL: in.URL, Journal: file})
			id := made.field(t, "id")
			eventually(t, func() bool { return get(t, address+"/v1/refunds/"+id).field(t, "status") == want.last }, want.last)
			require.Equal(t, want.refunded, simulator.Charges()[0].AmountRefunded)
			require.Equal(t, want.last == "failed", get(t, address+"/v1/refunds/"+id).field(t, "failure_reason") != "")
			eventually(t, func() bool { return len(in.of(want.event)) == 1 }, want.event)
		})
	}
}
