package e2e

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// An operator resets a payment wherever it is: its payer is charged once.
func TestPaymentResetInItsMiddle(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	ada, bob := s.register("ada"), s.register("bob")
	reset := func(tip transactionView) {
		s.reset(tip.WorkflowID)
		s.stripe.SetFaults(stripesim.Faults{})
		bob.paid(tip.ID, "succeeded")
		s.completed(tip.WorkflowID)
		require.Len(t, s.charges(tip), 1)
		require.EqualValues(t, 1, s.number("SELECT count(*) FROM ledger_transactions WHERE transaction_id = $1", tip.ID))
	}
	s.stripe.SetFaults(stripesim.Faults{WebhooksPaused: true})
	charged, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id})
	require.NoError(t, err)
	require.Equal(t, "processing", charged.Status)
	reset(charged)

	s.stripe.SetFaults(stripesim.Faults{CutAfter: 1}) // Stripe does what it is asked, and nobody hears of it
	queued := s.queued(ada, bob)
	reset(queued)

	waiting, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id, "payment_method": "pm_card_authenticationRequired"})
	require.NoError(t, err)
	require.Equal(t, "requires_action", waiting.Status)
	s.reset(waiting.WorkflowID)
	s.authenticate(waiting, true)
	reset(waiting)
	require.EqualValues(t, 3*450, ada.balance())
}

func TestSameKeyThroughSeveralProcessesIsOneCharge(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	second := s.role("api-2", free(t), "api")
	require.NoError(t, second.Launch(s.ctx))
	t.Cleanup(second.Kill)
	ada, bob, eve := s.register("ada"), s.register("bob"), s.register("eve")
	there := bob
	there.Client = bob.At("http://" + second.Address)
	key, in := uuid.NewString(), map[string]any{"recipient_id": ada.id}

	var wait sync.WaitGroup
	answers, failed := make([]transactionView, 50), make([]error, 50)
	for i := range answers {
		wait.Go(func() { answers[i], failed[i] = []member{bob, there}[i%2].tip(key, in) })
	}
	wait.Wait()
	for i, answer := range answers {
		require.NoError(t, failed[i])
		require.Equal(t, answers[0].ID, answer.ID)
	}
	bob.paid(answers[0].ID, "succeeded")
	require.Len(t, s.stripe.Charges(), 1)
	_, err := there.tip(key, map[string]any{"recipient_id": ada.id, "amount": 501})
	s.refused(err, http.StatusUnprocessableEntity, "idempotency_key_reused")
	others, err := eve.tip(key, in)
	require.NoError(t, err)
	require.NotEqual(t, answers[0].ID, others.ID)
	eve.paid(others.ID, "succeeded")
	require.Len(t, s.stripe.Charges(), 2)
}
