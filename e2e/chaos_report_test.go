package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// undecidedSQL is what is still under way.
const undecidedSQL = `
SELECT workflow_id FROM transactions WHERE status IN ('queued', 'requires_action', 'processing')
UNION ALL SELECT 'refund/' || id FROM refunds WHERE status IN ('queued', 'pending')`

// undecided are the workflows of payments and refunds that are under way.
func (c *chaos) undecided() []string {
	rows, err := c.db.Query(c.ctx, undecidedSQL)
	require.NoError(c, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(c, err)
	return ids
}

// operatorAfter is how long payments may take to settle by themselves, once all is
// well again. Then an operator tells those that wait for their next attempt to make
// it: their pauses are as long as outages are.
const operatorAfter = 5 * time.Second

// settle waits until all is decided and all that was to be given back was asked for.
func (c *chaos) settle() {
	c.Helper()
	began := time.Now()
	c.until("all payments and refunds are decided", func() bool {
		ids := c.undecided()
		if time.Since(began) > operatorAfter {
			for _, id := range ids {
				_ = c.temporal.SignalWorkflow(c.ctx, id, "", workflows.SignalRetry, nil) // it may have closed
			}
		}
		return len(ids) == 0 && c.number("SELECT count(*) FROM ("+refundableSQL+") left_over") == 0 && c.complained()
	})
}

// complained says whether all payers who go to their bank were there, and it has
// decided.
func (c *chaos) complained() bool {
	disputed := map[string]bool{}
	for _, dispute := range c.stripe.Disputes() {
		disputed[dispute.PaymentIntent] = true
		if dispute.Status == "needs_response" || dispute.Status == "lost" && changesItsMind(dispute) && len(dispute.BalanceTransactions) < 2 {
			return false
		}
	}
	rows, err := c.db.Query(c.ctx, complainedOfSQL)
	require.NoError(c, err)
	intents, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(c, err)
	return !slices.ContainsFunc(intents, func(intent string) bool { return !disputed[intent] })
}

// reconcile compares the books with Stripe as each day does, and gives how many of each
// kind of difference there were. Some of Stripe's events were lost, and with them what
// nobody asks for again: what became of a dispute.
func (c *chaos) reconcile(since time.Time) map[string]int {
	c.Helper()
	c.reconciler()(livestream.Window{From: since.Add(-time.Minute), To: time.Now().Add(time.Minute)})
	return c.counts("SELECT kind || CASE WHEN healed_at IS NULL THEN '' ELSE ', healed' END, count(*) FROM payment_differences GROUP BY 1")
}

// money is amounts by currency, in minor units.
type money map[string]int64

type chaosResult struct {
	At              time.Time      `json:"at"`
	Payments        int            `json:"payments"`
	StormSeconds    float64        `json:"storm_seconds"`
	Seconds         float64        `json:"seconds"`
	Kills           map[string]int `json:"kills"`
	Faults          map[string]int `json:"faults"`
	StripeCalls     int            `json:"stripe_calls"`
	Answers         map[string]int `json:"answers"`
	WaitingAtTheEnd int            `json:"waiting_when_the_storm_ended"`
	Statuses        map[string]int `json:"statuses"`
	Refunds         map[string]int `json:"refunds"`
	ChargedStripe   money          `json:"charged_stripe"`
	ChargedLedger   money          `json:"charged_ledger"`
	RefundedStripe  money          `json:"refunded_stripe"`
	RefundedLedger  money          `json:"refunded_ledger"`
	Disputes        map[string]int `json:"disputes"`
	LostStripe      money          `json:"lost_in_disputes_stripe"`
	LostLedger      money          `json:"lost_in_disputes_ledger"`
	Reconciled      map[string]int `json:"reconciled"`
	Twice           int            `json:"charged_twice"`
	Lost            int            `json:"lost"`
	Stuck           int            `json:"stuck"`
	Differences     []string       `json:"differences"`
}

// report compares the books with Stripe's, prints the table, and fails when they
// differ.
func (c *chaos) report(storm, all time.Duration, waiting []string, reconciled map[string]int) {
	c.Helper()
	r := chaosResult{
		At: time.Now().UTC(), Payments: *payments, StormSeconds: storm.Seconds(), Seconds: all.Seconds(), Kills: c.kills, Faults: c.stripe.Struck(),
		StripeCalls: c.stripe.Requests(), Answers: c.answered, WaitingAtTheEnd: len(waiting),
		Statuses:      c.counts("SELECT status, count(*) FROM transactions GROUP BY 1"),
		Refunds:       c.counts("SELECT status, count(*) FROM refunds GROUP BY 1"),
		Disputes:      c.counts("SELECT status, count(*) FROM disputes GROUP BY 1"),
		ChargedStripe: money{}, ChargedLedger: c.ledger("card", -1, "settlement"),
		RefundedStripe: money{}, RefundedLedger: c.ledger("refunds", 1, "refund", "refund_reversal"),
		LostStripe: money{}, LostLedger: c.ledger("card", 1, "dispute_lost", "dispute_won"),
		Reconciled: reconciled, Stuck: len(c.undecided()),
	}
	c.compare(&r)
	r.print(c)
	if root, err := devstack.FindRoot(); err == nil && *payments > 1000 {
		content, err := json.MarshalIndent(r, "", "  ")
		require.NoError(c, err)
		require.NoError(c, os.MkdirAll(filepath.Join(root, "bench", "results"), 0o755))
		require.NoError(c, os.WriteFile(filepath.Join(root, "bench", "results", "chaos-payments.json"), append(content, '\n'), 0o644))
	}
	require.Empty(c, c.logged(c.api, func(line string) bool {
		return strings.Contains(line, `"request failed"`) && !strings.Contains(line, `"error":"unavailable:`)
	}), "what is away is unavailable")
	require.Empty(c, c.logged(c.worker, func(line string) bool { return strings.Contains(line, "panic") }))
	require.Empty(c, r.Differences)
	require.Equal(c, r.ChargedStripe, r.ChargedLedger)
	require.Equal(c, r.RefundedStripe, r.RefundedLedger)
	require.Equal(c, r.LostStripe, r.LostLedger)
	require.Zero(c, c.number("SELECT coalesce(sum(e.amount), 0)::bigint FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id WHERE a.kind = 'disputes'"))
	for kind := range r.Reconciled {
		require.Contains(c, []string{"dispute_missing, healed", "refund_missing, healed", "intent_open, healed"}, kind, "nothing else is left to reconciliation")
	}
	require.Zero(c, r.Twice+r.Lost+r.Stuck)
	require.Len(c, c.accepted, *payments, "each client was answered")
	require.Zero(c, c.number("SELECT coalesce(sum(amount), 0)::bigint FROM ledger_entries"), "the ledger is balanced")
}

// transactionRow is what the books say of a payment.
type transactionRow struct {
	ID, Status, Currency           string
	Amount, Card, Refunded, Refund int64
}

// compare looks at each payment by itself.
func (c *chaos) compare(r *chaosResult) {
	c.Helper()
	lost := map[string]int64{}
	for _, dispute := range c.stripe.Disputes() {
		if dispute.Status == "lost" && len(dispute.BalanceTransactions) == 1 {
			lost[dispute.PaymentIntent] += dispute.Amount
			r.LostStripe[dispute.Currency] += dispute.Amount
		}
	}
	rows, err := c.db.Query(c.ctx, `
		SELECT t.id::text, t.status, t.currency, t.amount,
			coalesce(-sum(e.amount) FILTER (WHERE a.kind = 'card'), 0)::bigint AS card,
			t.refunded_amount AS refunded, coalesce(sum(e.amount) FILTER (WHERE a.kind = 'refunds'), 0)::bigint AS refund
		FROM transactions t LEFT JOIN ledger_transactions l ON l.transaction_id = t.id
		LEFT JOIN ledger_entries e ON e.ledger_transaction_id = l.id LEFT JOIN ledger_accounts a ON a.id = e.account_id
		GROUP BY t.id`)
	require.NoError(c, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[transactionRow])
	require.NoError(c, err)
	books := map[string]transactionRow{}
	for _, row := range list {
		books[row.ID] = row
	}
	differ := func(format string, args ...any) { r.Differences = append(r.Differences, fmt.Sprintf(format, args...)) }
	for id := range c.accepted {
		if _, known := books[id]; !known {
			r.Lost++
			differ("%s was accepted, and is gone", id)
		}
	}
	for id := range books {
		if !c.accepted[id] {
			differ("%s is there, and nobody was told", id)
		}
	}
	charged := map[string]int64{}
	for _, charge := range c.stripe.Charges() {
		id := charge.Metadata["transaction_id"]
		if _, again := charged[id]; again {
			r.Twice++
			differ("%s was charged twice", id)
		}
		charged[id] += charge.Amount
		r.ChargedStripe[charge.Currency] += charge.Amount
		if row := books[id]; row.Currency != charge.Currency || row.Card != charge.Amount-lost[charge.PaymentIntent] || row.Amount != charge.Amount {
			r.Lost++
			differ("%s: Stripe took %d %s and has given %d of it to the bank, the ledger has %+v", id, charge.Amount, charge.Currency, lost[charge.PaymentIntent], row)
		}
	}
	refunded := map[string]int64{}
	for _, refund := range c.stripe.Refunds() {
		if refund.Status != "failed" {
			refunded[refund.Metadata["transaction_id"]] += refund.Amount
			r.RefundedStripe[refund.Currency] += refund.Amount
		}
	}
	for id, row := range books {
		paid := row.Status == "succeeded" || row.Status == "refunded"
		if paid != (charged[id] > 0) {
			differ("%s is %s, and Stripe took %d", id, row.Status, charged[id])
		}
		if row.Refunded != refunded[id] || row.Refund != refunded[id] {
			differ("%s: Stripe gave %d back, the books say %+v", id, refunded[id], row)
		}
	}
}

// logged are lines of a role's log.
func (c *chaos) logged(role *devstack.Role, such func(line string) bool) (lines []string) {
	content, err := os.ReadFile(role.Log())
	require.NoError(c, err)
	for line := range strings.Lines(string(content)) {
		if such(line) {
			lines = append(lines, line[:min(len(line), lineTail)])
		}
	}
	return lines
}

func (c *chaos) counts(query string) map[string]int {
	c.Helper()
	rows, err := c.db.Query(c.ctx, query)
	require.NoError(c, err)
	counts, name, n := map[string]int{}, "", 0
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error { counts[name] = n; return nil })
	require.NoError(c, err)
	return counts
}

// ledger is what postings of some kinds moved to the accounts of a kind, by currency.
func (c *chaos) ledger(account string, sign int64, postings ...string) money {
	c.Helper()
	rows, err := c.db.Query(c.ctx, `
		SELECT e.currency, sum(e.amount)::bigint
		FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id JOIN ledger_transactions p ON p.id = e.ledger_transaction_id
		WHERE a.kind = $1 AND p.kind = ANY ($2) GROUP BY 1`, account, postings)
	require.NoError(c, err)
	amounts, currency, amount := money{}, "", int64(0)
	_, err = pgx.ForEachRow(rows, []any{&currency, &amount}, func() error { amounts[currency] = sign * amount; return nil })
	require.NoError(c, err)
	maps.DeleteFunc(amounts, func(_ string, n int64) bool { return n == 0 })
	return amounts
}

func (r *chaosResult) print(c *chaos) {
	var b strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&b, "%-34s %v\n", name, value) }
	fmt.Fprintf(&b, "\n%d payments in %.0f s of chaos, settled after %.0f s\n", r.Payments, r.StormSeconds, r.Seconds)
	line("killed", listed(r.Kills))
	line("faults", listed(r.Faults))
	line("calls of Stripe", r.StripeCalls)
	line("answers to clients", listed(r.Answers))
	line("under way when the chaos ended", r.WaitingAtTheEnd)
	line("payments", listed(r.Statuses))
	line("refunds", listed(r.Refunds))
	line("charged, by Stripe", listed(r.ChargedStripe))
	line("charged, by the ledger", listed(r.ChargedLedger))
	line("given back, by Stripe", listed(r.RefundedStripe))
	line("given back, by the ledger", listed(r.RefundedLedger))
	line("disputes", listed(r.Disputes))
	line("lost to payers, by Stripe", listed(r.LostStripe))
	line("lost to payers, by the ledger", listed(r.LostLedger))
	line("found by reconciliation", listed(r.Reconciled))
	line("charged twice", r.Twice)
	line("lost", r.Lost)
	line("stuck", r.Stuck)
	for _, difference := range r.Differences[:min(len(r.Differences), 20)] {
		line("difference", difference)
	}
	c.Log(b.String())
}

// listed is counts in a line, by name.
func listed[N int | int64](counts map[string]N) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
