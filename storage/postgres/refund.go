package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Refunds keeps what goes back of payments and books it in the ledger. Whoever
// changes a refund holds the lock of its payment, so that what has been promised of a
// payment is never more than it.
type Refunds struct{ db *DB }

// NewRefunds keeps refunds in db.
func NewRefunds(db *DB) *Refunds { return &Refunds{db: db} }

const refundColumns = `id, transaction_id, amount, fee_amount, reason, status, requested_by, coalesce(stripe_refund_id, '') AS stripe_refund_id,
	failure, created_at, settled_at`

const (
	refundByIDSQL = `-- name: refunds.by_id
SELECT ` + refundColumns + ` FROM refunds WHERE id = $1`

	// By Stripe's id, or by ours as long as Stripe has none of it: a second one for the
	// same promise is another refund.
	refundAtStripeSQL = `-- name: refunds.at_stripe
SELECT ` + refundColumns + ` FROM refunds WHERE stripe_refund_id = $2
UNION ALL
SELECT ` + refundColumns + ` FROM refunds WHERE id = $1 AND stripe_refund_id IS NULL
LIMIT 1`

	withdrawRefundSQL = `-- name: refunds.withdraw
DELETE FROM refunds WHERE id = $1 AND status = 'queued' AND stripe_refund_id IS NULL`

	refundsPromisedSQL = `-- name: refunds.promised
SELECT coalesce(sum(amount), 0)::bigint FROM refunds WHERE transaction_id = $1 AND status <> 'failed'`

	createRefundSQL = `-- name: refunds.create
INSERT INTO refunds (id, transaction_id, amount, reason, requested_by, stripe_refund_id) VALUES ($1, $2, $3, $4, $5, nullif($6, ''))
RETURNING ` + refundColumns

	setRefundSQL = `-- name: refunds.set
UPDATE refunds SET status = $2, stripe_refund_id = coalesce(nullif($3, ''), stripe_refund_id), fee_amount = $4, failure = $5, settled_at = $6
WHERE id = $1 RETURNING ` + refundColumns

	lockIntentSQL = `-- name: transactions.lock_intent
SELECT ` + transactionColumns + ` FROM transactions WHERE payment_intent_id = $1 FOR NO KEY UPDATE`

	setRefundedSQL = `-- name: transactions.set_refunded
UPDATE transactions SET refunded_amount = $2, fee_refunded = $3, status = CASE WHEN $2 = amount THEN 'refunded' ELSE 'succeeded' END WHERE id = $1`
)

type refundRow struct {
	ID             uuid.UUID
	TransactionID  uuid.UUID
	Amount         int64
	FeeAmount      int64
	Reason         string
	Status         livestream.RefundStatus
	RequestedBy    *uuid.UUID
	StripeRefundID string
	Failure        *livestream.Failure
	CreatedAt      time.Time
	SettledAt      *time.Time
}

func (r refundRow) domain() livestream.Refund { return livestream.Refund(r) }

// ByID gives a refund. CodeRefundNotFound.
func (s *Refunds) ByID(ctx context.Context, id uuid.UUID) (livestream.Refund, error) {
	row, err := one[refundRow](ctx, s.db.primary, refundByIDSQL, id)
	return row.domain(), failOr(ctx, "read refund", err, refundNotFound())
}

// Create promises a refund. Creating it again changes nothing.
// CodeTransactionNotFound, CodeRefundExceedsCharge, CodeAlreadyRefunded.
func (s *Refunds) Create(ctx context.Context, r livestream.NewRefund) (livestream.Refund, error) {
	var row refundRow
	err := s.db.inTx(ctx, func(tx querier) error {
		payment, err := one[transactionRow](ctx, tx, lockTransactionSQL, r.TransactionID)
		if err != nil {
			return err
		}
		row, err = one[refundRow](ctx, tx, refundByIDSQL, r.ID)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		promised, err := scalar[int64](ctx, tx, refundsPromisedSQL, payment.ID)
		if err != nil {
			return err
		}
		left := payment.Amount - promised
		if payment.SettledAt == nil {
			return livestream.Errorf(livestream.CodeRefundExceedsCharge, "nothing has been paid that could be given back")
		}
		if left <= 0 {
			return livestream.Errorf(livestream.CodeAlreadyRefunded, "all of this payment has been given back, or is about to be")
		}
		if r.Amount == 0 {
			r.Amount = left
		}
		if r.Amount > left {
			return livestream.Errorf(livestream.CodeRefundExceedsCharge, "of this payment %d are left to give back", left)
		}
		row, err = one[refundRow](ctx, tx, createRefundSQL, r.ID, r.TransactionID, r.Amount, r.Reason, r.RequestedBy, "")
		return err
	})
	return row.domain(), failOr(ctx, "create refund", err, transactionNotFound())
}

// Book takes on what Stripe says of a refund, and moves the money once: what was made
// at Stripe's dashboard gets a row, what succeeded is booked, and what failed after
// that is booked back. What goes back was paid: its payment is settled first, with that
// hold. CodeTransactionNotFound when the payment is not ours.
func (s *Refunds) Book(ctx context.Context, r livestream.StripeRefund, now time.Time, hold time.Duration) (livestream.Refund, error) {
	var row refundRow
	err := s.db.inTx(ctx, func(tx querier) error {
		payment, err := settledIntent(ctx, tx, r.PaymentIntentID, r.Currency, now, hold)
		if err != nil {
			return err
		}
		row, err = one[refundRow](ctx, tx, refundAtStripeSQL, r.RefundID, r.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			row, err = one[refundRow](ctx, tx, createRefundSQL, uuid.NewSHA1(payment.ID, []byte(r.ID)), payment.ID, r.Amount, "", nil, r.ID)
		}
		if err != nil {
			return err
		}
		row, err = bookRefund(ctx, tx, payment, row, r, now)
		return err
	})
	return row.domain(), failOr(ctx, "book refund", err, transactionNotFound())
}

// settledIntent locks the payment of a PaymentIntent, and settles it: what goes back
// was paid.
func settledIntent(ctx context.Context, tx querier, intentID, currency string, now time.Time, hold time.Duration) (transactionRow, error) {
	payment, err := one[transactionRow](ctx, tx, lockIntentSQL, intentID)
	if err != nil {
		return payment, err
	}
	if currency != payment.Currency {
		return payment, fmt.Errorf("what goes back is in %s, and payment %s in %s", currency, payment.ID, payment.Currency)
	}
	return settle(ctx, tx, payment, now, hold)
}

func bookRefund(ctx context.Context, tx querier, payment transactionRow, row refundRow, r livestream.StripeRefund, now time.Time) (refundRow, error) {
	set := func(status livestream.RefundStatus, fee int64, failure *livestream.Failure, settledAt *time.Time) (refundRow, error) {
		return one[refundRow](ctx, tx, setRefundSQL, row.ID, status, r.ID, fee, failure, settledAt)
	}
	switch r.Status {
	case livestream.StripeRefundSucceeded:
		if row.SettledAt != nil { // it is booked, or was and came back
			return row, nil
		}
		refunded := payment.RefundedAmount + row.Amount
		fee := livestream.FeeShare(payment.FeeAmount, refunded, payment.Amount) - payment.FeeRefunded
		row, err := set(livestream.RefundSucceeded, min(max(fee, 0), row.Amount), nil, &now)
		if err != nil {
			return row, err
		}
		if _, err := tx.Exec(ctx, setRefundedSQL, payment.ID, refunded, payment.FeeRefunded+row.FeeAmount); err != nil {
			return row, err
		}
		return row, post(ctx, tx, refunding(payment, row, false, now))
	case livestream.StripeRefundFailed, livestream.StripeRefundCanceled:
		if row.Status == livestream.RefundFailed {
			return row, nil
		}
		failure := r.Failure
		if failure == nil {
			failure = &livestream.Failure{Code: string(r.Status), Message: "The refund was given up."}
		}
		booked := row.Status == livestream.RefundSucceeded
		row, err := set(livestream.RefundFailed, row.FeeAmount, failure, row.SettledAt)
		if err != nil || !booked {
			return row, err
		}
		if _, err := tx.Exec(ctx, setRefundedSQL, payment.ID, payment.RefundedAmount-row.Amount, payment.FeeRefunded-row.FeeAmount); err != nil {
			return row, err
		}
		return row, post(ctx, tx, refunding(payment, row, true, now))
	default:
		if row.Status != livestream.RefundQueued {
			return row, nil
		}
		return set(livestream.RefundPending, 0, nil, nil)
	}
}

// Withdraw takes back a promise that nobody was told of and Stripe knows nothing of;
// there need not be one. It waits for a promise that is being written.
func (s *Refunds) Withdraw(ctx context.Context, transactionID, id uuid.UUID) error {
	err := s.db.inTx(ctx, func(tx querier) error {
		if _, err := one[transactionRow](ctx, tx, lockTransactionSQL, transactionID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, withdrawRefundSQL, id)
		return err
	})
	return failOr(ctx, "withdraw refund", err, transactionNotFound())
}

// Fail ends a refund that Stripe refused, and says why. One that Stripe has taken
// stays as it is. CodeRefundNotFound.
func (s *Refunds) Fail(ctx context.Context, id uuid.UUID, failure livestream.Failure) (livestream.Refund, error) {
	var row refundRow
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		if row, err = one[refundRow](ctx, tx, refundByIDSQL, id); err != nil {
			return err
		}
		if _, err = one[transactionRow](ctx, tx, lockTransactionSQL, row.TransactionID); err != nil {
			return err
		}
		if row, err = one[refundRow](ctx, tx, refundByIDSQL, id); err != nil || row.Status != livestream.RefundQueued {
			return err
		}
		row, err = one[refundRow](ctx, tx, setRefundSQL, id, livestream.RefundFailed, "", 0, failure, nil)
		return err
	})
	return row.domain(), failOr(ctx, "fail refund", err, refundNotFound())
}
