package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.uber.org/zap"

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
	bob.mustTip(ada, "pm_card_createDispute")
	older := s.stripe.Disputes()[0]
	s.until("the dispute is known", func() bool { return s.number("SELECT count(*) FROM disputes WHERE held_at IS NOT NULL") == 1 })

	// A worker is gone for good, with all that Stripe tells.
	s.stripe.SetFaults(stripesim.Faults{WebhooksLost: 1})
	disputed := bob.mustTip(ada, "pm_card_createDispute") // the payment was looked at, of the dispute nobody knows
	require.Len(t, s.stripe.Disputes(), 2)
	dispute := s.stripe.Disputes()[1]
	require.Equal(t, disputed.IntentID, dispute.PaymentIntent)
	terminated := func() transactionView {
		tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id})
		require.NoError(t, err)
		require.NoError(t, s.temporal.TerminateWorkflow(s.ctx, tip.WorkflowID, "", "lost"))
		return tip
	}
	lost, spoilt := terminated(), terminated()
	require.Equal(t, http.StatusOK, s.askStripe(s.ctx, "/v1/disputes/"+older.ID+"/close", nil))
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

	exec("CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'this cannot be booked'; END $$")
	exec("CREATE TRIGGER spoil BEFORE INSERT ON ledger_transactions FOR EACH ROW WHEN (NEW.transaction_id = '" + spoilt.ID + "') EXECUTE FUNCTION spoil()")
	promised := uuid.New()
	exec("INSERT INTO refunds (id, transaction_id, amount, reason) VALUES ($1, $2, 100, 'nobody goes on with it')", promised, right.ID)

	reconcile := s.reconciler()
	soon := time.Now().Add(time.Minute)
	found, healed := reconcile(livestream.Window{From: soon, To: soon}) // which Stripe has nothing of
	require.Equal(t, 3, found, "an older dispute, what is overdue, and what was promised")
	require.Equal(t, 2, healed)
	day := livestream.Window{From: soon.Add(-time.Hour), To: soon}
	reconcile(day)
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
		older.ID:               "dispute_missing, healed",
		spoilt.IntentID:        "not_compared",
		promised.String():      "refund_waiting",
	}, listed)
	require.Equal(t, "succeeded", bob.transaction(lost.ID).Status)
	require.EqualValues(t, 200, bob.transaction(refunded.ID).Refunded)
	require.EqualValues(t, 5*450-180, ada.balance(), "five tips, less what went back; the bank holds a sixth, and has given back a seventh")

	// What was healed is healed once; what needs a person is found again.
	exec("UPDATE ledger_balances SET amount = amount + 1 WHERE account_id = (SELECT id FROM ledger_accounts WHERE owner = $1 AND kind = 'creator_pending')", ada.id)
	exec("DROP TRIGGER spoil ON ledger_transactions")
	found, healed = reconcile(day)
	require.Equal(t, 5, found, "two charges that nobody knows, a balance, what is promised still, and what can be booked now")
	require.Equal(t, 1, healed)
	require.Equal(t, "succeeded", bob.transaction(spoilt.ID).Status)
	require.EqualValues(t, 1, s.number("SELECT count(*) FROM payment_differences WHERE kind = 'balance_differs'"))
}

// reconciler runs the steps of a reconciliation, page by page, on the stack's books and
// its Stripe.
func (s *stack) reconciler() func(window livestream.Window) (found, healed int) {
	s.Helper()
	db, err := postgres.Open(s.ctx, postgres.Config{URL: s.env.DatabaseURL})
	require.NoError(s, err)
	s.Cleanup(db.Close)
	provider, err := stripe.New(stripe.Config{SecretKey: "sk_test_x", BaseURL: s.env.StripeAPIBase})
	require.NoError(s, err)
	differences, err := telemetry.NewDifferences(prometheus.NewRegistry())
	require.NoError(s, err)
	books := postgres.NewReconciliation(db)
	steps := &activities.Reconciliation{
		Books: books, Findings: books, Stripe: provider, Payments: postgres.NewTransactions(db), Refunds: postgres.NewRefunds(db),
		Disputes: postgres.NewDisputes(db), Counter: differences, Now: func() time.Time { return time.Now().UTC() }, Hold: time.Hour,
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(telemetry.NewTemporalLogger(zap.NewNop()))
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(steps)
	return func(window livestream.Window) (found, healed int) {
		s.Helper()
		for _, step := range []any{
			steps.CompareIntents, steps.CompareRefunds, steps.CompareDisputes, steps.CompareOpenDisputes,
			steps.CompareBooks, steps.CompareHolds, steps.ReportRefunds, steps.CompareBalances,
		} {
			for page, more := "", true; more; more = page != "" {
				value, err := env.ExecuteActivity(step, window, page)
				require.NoError(s, err)
				var compared activities.Compared
				require.NoError(s, value.Get(&compared))
				page, found, healed = compared.Next, found+compared.Found, healed+compared.Healed
			}
		}
		return found, healed
	}
}
