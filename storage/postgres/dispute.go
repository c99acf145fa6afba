package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Disputes keeps which payments are disputed and books them in the ledger.
type Disputes struct{ db *DB }

// NewDisputes keeps disputes in db.
func NewDisputes(db *DB) *Disputes { return &Disputes{db: db} }

const disputeColumns = `id, transaction_id, amount, fee_amount, reason, status, created_at, held_at, closed_at`

const (
	disputeByIDSQL = `-- name: disputes.by_id
SELECT ` + disputeColumns + ` FROM disputes WHERE id = $1`

	setDisputeSQL = `-- name: disputes.set
INSERT INTO disputes AS d (id, transaction_id, amount, fee_amount, reason, status, held_at, closed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE SET fee_amount = $4, reason = $5, status = $6, held_at = $7, closed_at = $8
RETURNING ` + disputeColumns

	setFeeRefundedSQL = `-- name: transactions.set_fee_refunded
UPDATE transactions SET fee_refunded = $2 WHERE id = $1`
)

type disputeRow struct {
	ID            string
	TransactionID uuid.UUID
	Amount        int64
	FeeAmount     int64
	Reason        string
	Status        livestream.StripeDisputeStatus
	CreatedAt     time.Time
	HeldAt        *time.Time
	ClosedAt      *time.Time
}

func (r disputeRow) domain() livestream.Dispute { return livestream.Dispute(r) }

// Book takes on what Stripe says of a dispute, and moves the money once: from the
// creator while the bank decides, and then back to them or to the payer. What is
// closed stays so, unless the bank changes its mind about one that was lost. What is
// disputed was paid: its payment is settled first, with that hold.
// CodeTransactionNotFound when the payment is not ours.
func (s *Disputes) Book(ctx context.Context, d livestream.StripeDispute, now time.Time, hold time.Duration) (livestream.Dispute, error) {
	var row disputeRow
	err := s.db.inTx(ctx, func(tx querier) error {
		payment, err := settledIntent(ctx, tx, d.PaymentIntentID, d.Currency, now, hold)
		if err != nil {
			return err
		}
		row, err = one[disputeRow](ctx, tx, disputeByIDSQL, d.ID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if row.ClosedAt != nil && (row.Status != livestream.DisputeLost || d.Status != livestream.DisputeWon) {
			return nil
		}
		row, err = bookDispute(ctx, tx, payment, row, d, now)
		return err
	})
	return row.domain(), failOr(ctx, "book dispute", err, transactionNotFound())
}

func bookDispute(ctx context.Context, tx querier, payment transactionRow, row disputeRow, d livestream.StripeDispute, now time.Time) (disputeRow, error) {
	lost := row.Status == livestream.DisputeLost
	row.ID, row.TransactionID, row.Amount, row.Reason, row.Status = d.ID, payment.ID, d.Amount, d.Reason, d.Status
	closed := d.Status == livestream.DisputeWon || d.Status == livestream.DisputeLost
	var postings []posting
	if (closed || d.Status.Open()) && row.HeldAt == nil {
		row.HeldAt = &now
		row.FeeAmount = min(livestream.FeeShare(payment.FeeAmount, d.Amount, payment.Amount), payment.FeeAmount-payment.FeeRefunded)
		payment.FeeRefunded += row.FeeAmount
		postings = append(postings, disputed(payment, row, now))
	}
	if closed {
		row.ClosedAt = &now
		if d.Status == livestream.DisputeWon {
			payment.FeeRefunded -= row.FeeAmount
			postings = append(postings, disputeWon(payment, row, lost, now))
		} else {
			postings = append(postings, disputeLost(payment, row, now))
		}
	}
	row, err := one[disputeRow](ctx, tx, setDisputeSQL, row.ID, row.TransactionID, row.Amount, row.FeeAmount, row.Reason, row.Status, row.HeldAt, row.ClosedAt)
	if err != nil || len(postings) == 0 {
		return row, err
	}
	if _, err := tx.Exec(ctx, setFeeRefundedSQL, payment.ID, payment.FeeRefunded); err != nil {
		return row, err
	}
	for _, p := range postings {
		if err := post(ctx, tx, p); err != nil {
			return row, err
		}
	}
	return row, nil
}
