package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func TestStripeEvent(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	event := livestream.StripeEvent{
		ID: "evt_1", Type: "payment_intent.succeeded", CreatedAt: now(), PaymentIntentID: "pi_1", WorkflowID: "payment/1",
		Payload: []byte("{\"odd\":  \"bytes\", \"nul\": \"\\u0000\"}\n"),
	}
	for range 2 {
		delivered, err := s.StripeEvents.Save(ctx, event)
		require.NoError(t, err)
		require.False(t, delivered, "who saved it may have died before they delivered it")
	}
	for range 2 {
		require.NoError(t, s.StripeEvents.MarkDelivered(ctx, event.ID))
		delivered, err := s.StripeEvents.Save(ctx, event)
		require.NoError(t, err)
		require.True(t, delivered)
	}
	require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM stripe_events WHERE payload = $1", event.Payload), "byte for byte, once")
	require.NoError(t, s.StripeEvents.MarkDelivered(ctx, "evt_unknown"))
}

// What nobody waits for, and what is booked already, is kept and no more.
func TestStripeEventThatChangesNothingIsDelivered(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	paid := s.MustPay(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	for id, c := range map[string]struct {
		event     livestream.StripeEvent
		delivered bool
	}{
		"evt_unknown": {livestream.StripeEvent{Type: "customer.created", Object: "customer"}, true},
		"evt_charge":  {livestream.StripeEvent{Type: "charge.succeeded", Object: "charge", PaymentIntentID: "pi_x", WorkflowID: "payment/1"}, true},
		"evt_booked":  {livestream.StripeEvent{Type: "payment_intent.succeeded", Object: "payment_intent", PaymentIntentID: paid.PaymentIntentID, WorkflowID: paid.WorkflowID}, true},
		"evt_paid":    {livestream.StripeEvent{Type: "payment_intent.succeeded", Object: "payment_intent", PaymentIntentID: "pi_x"}, false},
		"evt_open":    {livestream.StripeEvent{Type: "payment_intent.created", Object: "payment_intent", PaymentIntentID: paid.PaymentIntentID, WorkflowID: paid.WorkflowID}, false},
		"evt_refund":  {livestream.StripeEvent{Type: "charge.refunded", Object: "charge", PaymentIntentID: paid.PaymentIntentID}, false},
		"evt_dispute": {livestream.StripeEvent{Type: "charge.dispute.closed", Object: "dispute", PaymentIntentID: paid.PaymentIntentID}, false},
	} {
		c.event.ID, c.event.CreatedAt, c.event.Payload = id, now(), []byte("{}")
		for range 2 {
			delivered, err := s.StripeEvents.Save(ctx, c.event)
			require.NoError(t, err)
			require.Equal(t, c.delivered, delivered, id)
		}
	}
	require.EqualValues(t, 7, s.Number(t, "SELECT count(*) FROM stripe_events"))
}

func TestStripeEventAtOnceIsSavedOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	event := livestream.StripeEvent{ID: "evt_1", Type: "payment_intent.succeeded", CreatedAt: now(), Payload: []byte("{}")}
	for _, err := range race(20, func(int) error { _, err := s.StripeEvents.Save(ctx, event); return err }) {
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM stripe_events"))
}

func TestDeleteOldStripeEvents(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	for i := range 4 {
		event := livestream.StripeEvent{ID: fmt.Sprint("evt_", i), Type: "payment_intent.succeeded", CreatedAt: now(), Payload: []byte("{}")}
		_, err := s.StripeEvents.Save(ctx, event)
		require.NoError(t, err)
		s.MustExec(t, "UPDATE stripe_events SET received_at = now() - $1 * interval '1 day' WHERE id = $2", 10*i, event.ID)
		if i != 2 {
			require.NoError(t, s.StripeEvents.MarkDelivered(ctx, event.ID))
		}
	}
	for _, deleted := range []int64{1, 1, 0} {
		n, err := s.StripeEvents.DeleteOld(ctx, now().Add(-5*24*time.Hour), 1)
		require.NoError(t, err)
		require.Equal(t, deleted, n)
	}
	require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM stripe_events WHERE id = 'evt_0'"), "it is not old")
	require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM stripe_events WHERE id = 'evt_2'"), "its payment has not heard of it")
}
