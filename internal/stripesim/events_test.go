package stripesim_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func TestEventsTellEachChange(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"pm_card_visa":                   "payment_intent.succeeded",
		"pm_card_chargeDeclined":         "payment_intent.payment_failed",
		"pm_card_authenticationRequired": "payment_intent.requires_action",
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			in := newInbox(t)
			_, address := start(t, stripesim.Config{WebhookURL: in.URL})
			post(t, address+"/v1/payment_intents", "k", payment(method))
			eventually(t, func() bool { return len(in.of("payment_intent.created")) == 1 && len(in.of(want)) == 1 }, want)
			e := in.of(want)[0]
			require.Equal(t, "t1", e.Data.Object.Metadata["transaction_id"])
			require.Equal(t, int64(500), e.Data.Object.Amount)
			// Stripe's own library accepts the signature.
			_, err := webhook.ConstructEventWithOptions(e.body, e.signature, secret, webhook.ConstructEventOptions{IgnoreAPIVersionMismatch: true})
			require.NoError(t, err)
		})
	}
}

func TestEventIsSentAgainUntilItIsTaken(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	in.setRefuse(true)
	_, address := start(t, stripesim.Config{WebhookURL: in.URL})
	post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa"))
	eventually(t, func() bool { return in.attempts() >= 4 }, "both events are tried again")
	in.setRefuse(false)
	eventually(t, func() bool {
		return len(in.of("payment_intent.created")) == 1 && len(in.of("payment_intent.succeeded")) == 1
	}, "they arrive")
}

func TestEventsTwice(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	simulator, address := start(t, stripesim.Config{WebhookURL: in.URL})
	simulator.SetFaults(stripesim.Faults{WebhooksTwice: 1})
	post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa"))
	eventually(t, func() bool { return len(in.of("payment_intent.succeeded")) == 2 }, "it comes twice")
	both := in.of("payment_intent.succeeded")
	require.Equal(t, both[0].ID, both[1].ID, "and is the same event")
}

func TestEventsOutOfOrder(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	simulator, address := start(t, stripesim.Config{WebhookURL: in.URL})
	simulator.SetFaults(stripesim.Faults{WebhookDelayMS: 400})
	const intents = 12
	for i := range intents {
		post(t, address+"/v1/payment_intents", strings.Repeat("k", i+1), payment("pm_card_visa"))
	}
	eventually(t, func() bool {
		return len(in.of("payment_intent.created")) == intents && len(in.of("payment_intent.succeeded")) == intents
	}, "all of them arrive")
	in.mu.Lock()
	defer in.mu.Unlock()
	paid, early := map[string]bool{}, 0
	for _, e := range in.events {
		switch id := e.Data.Object.ID; e.Type {
		case "payment_intent.succeeded":
			paid[id] = true
		case "payment_intent.created":
			if paid[id] {
				early++
			}
		}
	}
	require.Positive(t, early, "some success came before its creation")
}

func TestPausedEventsComeLater(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	simulator, address := start(t, stripesim.Config{WebhookURL: in.URL})
	simulator.SetFaults(stripesim.Faults{WebhooksPaused: true})
	id := post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa")).field(t, "id")
	require.Equal(t, "succeeded", get(t, address+"/v1/payment_intents/"+id).field(t, "status"))
	require.Never(t, func() bool { return in.attempts() > 0 }, 150*time.Millisecond, 10*time.Millisecond)
	simulator.SetFaults(stripesim.Faults{})
	eventually(t, func() bool { return len(in.of("payment_intent.succeeded")) == 1 }, "it comes")
}
