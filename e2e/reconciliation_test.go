package e2e

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// Reconciliation leaves the last hour alone, so that its steps run here by themselves,
// on the real books and with all that can be lost.
func TestReconciliationFindsWhatDiffers(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	ada, bob := s.register("ada"), s.register("bob")
	right, refunded := bob.mustTip(ada, "pm_card_visa"), bob.mustTip(ada, "pm_card_visa")
	gone, overdue := bob.mustTip(ada, "pm_card_visa"), bob.mustTip(ada, "pm_card_visa")

	// A worker is gone for good, with all that Stripe tells.
	s.stripe.SetFaults(stripesim.Faults{WebhooksLost: 1})
	disputed := bob.mustTip(ada, "pm_card_createDispute") // the payment was looked at, of the dispute nobody knows
	require.Len(t, s.stripe.Disputes(), 1)
	dispute := s.stripe.Disputes()[0]
	require.Equal(t, disputed.IntentID, dispute.PaymentIntent)
	lost, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id})
	require.NoError(t, err)
	require.NoError(t, s.temporal.TerminateWorkflow(s.ctx, lost.WorkflowID, "", "lost"))
	provider, err := stripe.New(stripe.Config{SecretKey: "sk_test_x", BaseURL: s.env.StripeAPIBase})
	require.NoError(t, err)
	stray, err := provider.CreateIntent(s.ctx, livestream.Charge{Key: "stray", TransactionID: uuid.MustParse(right.ID), WorkflowID: right.WorkflowID, Amount: 500, Currency: "usd"})
	require.NoError(t, err)
	unknown, err := provider.CreateIntent(s.ctx, livestream.Charge{Key: "unknown", TransactionID: uuid.New(), Amount: 700, Currency: "usd"})
	require.NoError(t, err)
	_, err = provider.Confirm(s.ctx, unknown.ID, "pm_card_visa", "confirm unknown")
	require.NoError(t, err)
	back, err := provider.Refund(s.ctx, livestream.RefundRequest{Key: "dashboard", PaymentIntentID: refunded.IntentID, Amount: 200})
	require.NoError(t, err)
	exec := func(sql string, args ...any) {
		_, err := s.db.Exec(s.ctx, sql, args...)
		require.NoError(t, err)
	}
	exec("UPDATE transactions SET payment_intent_id = 'pi_that_nobody_knows' WHERE id = $1", gone.ID)
	exec("UPDATE transactions SET available_at = now() - interval '2 hours' WHERE id = $1", overdue.ID)

	db, err := postgres.Open(s.ctx, postgres.Config{URL: s.env.DatabaseURL})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	differences, err := telemetry.NewDifferences(prometheus.NewRegistry())
	require.NoError(t, err)
	books := postgres.NewReconciliation(db)
	steps := &activities.Reconciliation{
		Books: books, Findings: books, Stripe: provider, Payments: postgres.NewTransactions(db), Refunds: postgres.NewRefunds(db),
		Disputes: postgres.NewDisputes(db), Counter: differences, Now: func() time.Time { return time.Now().UTC() }, Hold: time.Hour,
	}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(steps)
	window := livestream.Window{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Minute)}
	run := func(step any, args ...any) (found activities.Compared) {
		t.Helper()
		value, err := env.ExecuteActivity(step, args...)
		require.NoError(t, err)
		require.NoError(t, value.Get(&found))
		return found
	}
	reconcile := func() (found, healed int) {
		for _, got := range []activities.Compared{
			run(steps.CompareIntents, window, ""), run(steps.CompareRefunds, window, ""), run(steps.CompareDisputes, window, ""), run(steps.CompareBooks, window),
		} {
			require.Empty(t, got.Next)
			found, healed = found+got.Found, healed+got.Healed
		}
		return found, healed
	}

	reconcile()
	listed := map[string]string{}
	rows, err := s.db.Query(s.ctx, "SELECT object_id, kind || CASE WHEN healed_at IS NULL THEN '' ELSE ', healed' END FROM payment_differences")
	require.NoError(t, err)
	for rows.Next() {
		var object, kind string
		require.NoError(t, rows.Scan(&object, &kind))
		listed[object] = kind
	}
	require.NoError(t, rows.Err())
	require.Equal(t, map[string]string{
		lost.IntentID:          "settlement_missing, healed",
		stray.ID:               "intent_open, healed",
		unknown.ID:             "charge_unknown",
		back.ID:                "refund_missing, healed",
		gone.IntentID:          "charge_unknown",
		"pi_that_nobody_knows": "charge_missing",
		overdue.ID:             "release_missing, healed",
		dispute.ID:             "dispute_missing, healed",
	}, listed)
	require.Equal(t, "succeeded", bob.transaction(lost.ID).Status)
	require.EqualValues(t, 200, bob.transaction(refunded.ID).Refunded)
	require.EqualValues(t, 5*450-180, ada.balance(), "five tips, less what went back; the bank holds a sixth")

	// What was healed is healed once; what needs a person is found again.
	exec("UPDATE ledger_balances SET amount = amount + 1 WHERE account_id = (SELECT id FROM ledger_accounts WHERE owner = $1 AND kind = 'creator_pending')", ada.id)
	found, healed := reconcile()
	require.Equal(t, 3, found, "two charges that nobody knows, and a balance")
	require.Zero(t, healed)
	require.EqualValues(t, 1, s.number("SELECT count(*) FROM payment_differences WHERE kind = 'balance_differs'"))
}
