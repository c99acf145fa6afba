package postgres

import (
	"context"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Reconciliation reads what is compared with Stripe, and keeps what differs.
type Reconciliation struct{ db *DB }

// NewReconciliation compares db.
func NewReconciliation(db *DB) *Reconciliation { return &Reconciliation{db: db} }

const (
	transactionsByIntentsSQL = `-- name: transactions.by_intents
SELECT ` + transactionColumns + ` FROM transactions WHERE payment_intent_id = ANY ($1)`

	markComparedSQL = `-- name: transactions.mark_compared
UPDATE transactions SET compared_at = $2 WHERE payment_intent_id = ANY ($1) AND settled_at IS NOT NULL`

	uncomparedSQL = `-- name: transactions.uncompared
SELECT ` + transactionColumns + ` FROM transactions
WHERE settled_at >= $1 AND settled_at < $2 AND payment_intent_id IS NOT NULL AND (compared_at IS NULL OR compared_at < $1)
	AND (settled_at, id) > ($3, $4)
ORDER BY settled_at, id LIMIT $5`

	overdueSQL = `-- name: transactions.overdue
SELECT ` + transactionColumns + ` FROM transactions
WHERE available_at < $1 AND released_at IS NULL AND (available_at, id) > ($2, $3)
ORDER BY available_at, id LIMIT $4`

	refundsWaitingSQL = `-- name: refunds.waiting
SELECT ` + refundColumns + ` FROM refunds
WHERE status = 'queued' AND created_at < $1 AND (created_at, id) > ($2, $3)
ORDER BY created_at, id LIMIT $4`

	disputesOpenSQL = `-- name: disputes.open
SELECT ` + disputeColumns + ` FROM disputes
WHERE closed_at IS NULL AND status <> 'warning_closed' AND created_at < $1 AND (created_at, transaction_id) > ($2, $3)
ORDER BY created_at, transaction_id LIMIT $4`

	refundsAtStripeSQL = `-- name: refunds.by_stripe_ids
SELECT ` + refundColumns + ` FROM refunds WHERE stripe_refund_id = ANY ($1)`

	disputesByIDsSQL = `-- name: disputes.by_ids
SELECT ` + disputeColumns + ` FROM disputes WHERE id = ANY ($1)`

	// Of the accounts that something was posted to since.
	wrongBalancesSQL = `-- name: ledger.wrong_balances
SELECT b.account_id, b.amount, s.sum
FROM (
	SELECT DISTINCT e.account_id FROM ledger_transactions p JOIN ledger_entries e ON e.ledger_transaction_id = p.id WHERE p.posted_at >= $1
) touched
JOIN ledger_balances b ON b.account_id = touched.account_id
CROSS JOIN LATERAL (SELECT sum(e.amount)::bigint AS sum FROM ledger_entries e WHERE e.account_id = b.account_id) s
WHERE b.amount <> s.sum`

	reportDifferenceSQL = `-- name: payment_differences.report
INSERT INTO payment_differences AS d (kind, object_id, transaction_id, detail, healed_at) VALUES ($1, $2, $3, $4, CASE WHEN $5 THEN now() END)
ON CONFLICT (kind, object_id) DO UPDATE SET detail = $4, seen_at = now(), healed_at = CASE WHEN $5 THEN coalesce(d.healed_at, now()) END`
)

// ByIntents gives the payments of PaymentIntents, those that there are.
func (s *Reconciliation) ByIntents(ctx context.Context, intentIDs []string) ([]livestream.Transaction, error) {
	rows, err := many[transactionRow](ctx, s.db.primary, transactionsByIntentsSQL, intentIDs)
	return all(rows, transactionRow.domain), fail(ctx, "read transactions", err)
}

// MarkCompared notes that payments were compared with what Stripe has.
func (s *Reconciliation) MarkCompared(ctx context.Context, intentIDs []string, now time.Time) error {
	_, err := s.db.primary.Exec(ctx, markComparedSQL, intentIDs, now)
	return fail(ctx, "mark compared", err)
}

// Refunds gives the refunds of Stripe's ids, those that there are.
func (s *Reconciliation) Refunds(ctx context.Context, stripeIDs []string) ([]livestream.Refund, error) {
	rows, err := many[refundRow](ctx, s.db.primary, refundsAtStripeSQL, stripeIDs)
	return all(rows, refundRow.domain), fail(ctx, "read refunds", err)
}

// Disputes gives the disputes of Stripe's ids, those that there are.
func (s *Reconciliation) Disputes(ctx context.Context, ids []string) ([]livestream.Dispute, error) {
	rows, err := many[disputeRow](ctx, s.db.primary, disputesByIDsSQL, ids)
	return all(rows, disputeRow.domain), fail(ctx, "read disputes", err)
}

// Uncompared lists payments that were settled within a window and that Stripe's lists
// did not have, oldest first.
func (s *Reconciliation) Uncompared(ctx context.Context, window livestream.Window, page livestream.Page) (livestream.List[livestream.Transaction], error) {
	return oldest(ctx, s.db, page, uncomparedSQL, []any{window.From, window.To}, transactionRow.domain, func(r transactionRow) livestream.Cursor {
		return livestream.Cursor{Time: *r.SettledAt, ID: r.ID}
	})
}

// Overdue lists payments that should have been released before a time, oldest first.
func (s *Reconciliation) Overdue(ctx context.Context, before time.Time, page livestream.Page) (livestream.List[livestream.Transaction], error) {
	return oldest(ctx, s.db, page, overdueSQL, []any{before}, transactionRow.domain, func(r transactionRow) livestream.Cursor {
		return livestream.Cursor{Time: *r.AvailableAt, ID: r.ID}
	})
}

// RefundsWaiting lists refunds that were promised before a time, and that Stripe has
// not taken, oldest first.
func (s *Reconciliation) RefundsWaiting(ctx context.Context, before time.Time, page livestream.Page) (livestream.List[livestream.Refund], error) {
	return oldest(ctx, s.db, page, refundsWaitingSQL, []any{before}, refundRow.domain, func(r refundRow) livestream.Cursor {
		return livestream.Cursor{Time: r.CreatedAt, ID: r.ID}
	})
}

// DisputesOpen lists disputes that we heard of before a time, and not of their end,
// oldest first.
func (s *Reconciliation) DisputesOpen(ctx context.Context, before time.Time, page livestream.Page) (livestream.List[livestream.Dispute], error) {
	return oldest(ctx, s.db, page, disputesOpenSQL, []any{before}, disputeRow.domain, func(r disputeRow) livestream.Cursor {
		return livestream.Cursor{Time: r.CreatedAt, ID: r.TransactionID}
	})
}

// oldest gives a page of a list that is sorted by a time and an id, oldest first.
func oldest[R, T any](ctx context.Context, db *DB, page livestream.Page, query string, args []any, domain func(R) T, cursor func(R) livestream.Cursor) (livestream.List[T], error) {
	limit := limitOf(page)
	at, id := afterTime(page)
	rows, err := many[R](ctx, db.primary, query, append(args, at, id, limit+1)...)
	if err != nil {
		return livestream.List[T]{}, fail(ctx, "read the books", err)
	}
	return listOf(rows, limit, domain, cursor), nil
}

// WrongBalances gives the balances that are not the sum of their entries, of the
// accounts that something was posted to since a time. It reads their whole histories.
func (s *Reconciliation) WrongBalances(ctx context.Context, since time.Time) ([]livestream.WrongBalance, error) {
	balances, err := many[livestream.WrongBalance](ctx, s.db.primary, wrongBalancesSQL, since)
	return balances, fail(ctx, "read balances", err)
}

// Report keeps a difference: one that is found again is the same one.
func (s *Reconciliation) Report(ctx context.Context, d livestream.Difference) error {
	_, err := s.db.primary.Exec(ctx, reportDifferenceSQL, d.Kind, d.ObjectID, d.TransactionID, d.Detail, d.Healed)
	return fail(ctx, "report difference", err)
}
