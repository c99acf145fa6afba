package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Transactions keeps payments and books them in the ledger. All of it is read
// from the primary.
type Transactions struct{ db *DB }

// NewTransactions keeps payments in db.
func NewTransactions(db *DB) *Transactions { return &Transactions{db: db} }

const (
	transactionColumns = `id, status, kind, amount, currency, sender_id, recipient_id, stream_id, message, failure, fee_amount, fee_refunded,
	refunded_amount, coalesce(payment_intent_id, '') AS payment_intent_id, client_secret, workflow_id, created_at, settled_at, available_at, released_at`
	transactionPage = `($2::text IS NULL OR status = $2) AND (created_at, id) < ($3, $4) ORDER BY created_at DESC, id DESC LIMIT $5`
)

const (
	createTransactionSQL = `-- name: transactions.create
INSERT INTO transactions (id, kind, amount, currency, sender_id, recipient_id, stream_id, message, workflow_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO NOTHING RETURNING ` + transactionColumns

	transactionByIDSQL = `-- name: transactions.by_id
SELECT ` + transactionColumns + ` FROM transactions WHERE id = $1`

	lockTransactionSQL = `-- name: transactions.lock
SELECT ` + transactionColumns + ` FROM transactions WHERE id = $1 FOR NO KEY UPDATE`

	// Each side has an index of its own; nobody is both sides of a payment.
	listTransactionsSQL = `-- name: transactions.list
(SELECT ` + transactionColumns + ` FROM transactions WHERE sender_id = $1 AND ` + transactionPage + `)
UNION ALL
(SELECT ` + transactionColumns + ` FROM transactions WHERE recipient_id = $1 AND ` + transactionPage + `)
ORDER BY created_at DESC, id DESC LIMIT $5`

	setIntentSQL = `-- name: transactions.set_intent
WITH t AS (
	UPDATE transactions SET payment_intent_id = $2, client_secret = $3, status = $4
	WHERE id = $1 AND status IN ('queued', 'requires_action', 'processing')
)
SELECT EXISTS (SELECT FROM transactions WHERE id = $1)`

	settleTransactionSQL = `-- name: transactions.settle
UPDATE transactions SET status = 'succeeded', fee_amount = $2, settled_at = $3, available_at = $4, failure = NULL, failed_at = NULL
WHERE id = $1 RETURNING ` + transactionColumns

	failTransactionSQL = `-- name: transactions.fail
UPDATE transactions SET status = $2, failure = $3, failed_at = $4
WHERE id = $1 AND status IN ('queued', 'requires_action', 'processing') RETURNING ` + transactionColumns
)

type transactionRow struct {
	ID              uuid.UUID
	Status          livestream.TransactionStatus
	Kind            livestream.TransactionKind
	Amount          int64
	Currency        string
	SenderID        uuid.UUID
	RecipientID     uuid.UUID
	StreamID        *uuid.UUID
	Message         string
	Failure         *livestream.Failure
	FeeAmount       int64
	FeeRefunded     int64
	RefundedAmount  int64
	PaymentIntentID string
	ClientSecret    string
	WorkflowID      string
	CreatedAt       time.Time
	SettledAt       *time.Time
	AvailableAt     *time.Time
	ReleasedAt      *time.Time
}

func (r transactionRow) domain() livestream.Transaction { return livestream.Transaction(r) }

// Create writes a payment, queued. Creating it again changes nothing.
// CodeUserNotFound, CodeStreamNotFound, CodeCannotTipSelf.
func (s *Transactions) Create(ctx context.Context, t livestream.NewTransaction) (livestream.Transaction, error) {
	row, err := one[transactionRow](ctx, s.db.primary, createTransactionSQL, t.ID, t.Kind, t.Amount, t.Currency, t.SenderID, t.RecipientID,
		t.StreamID, t.Message, t.WorkflowID)
	if errors.Is(err, pgx.ErrNoRows) {
		row, err = one[transactionRow](ctx, s.db.primary, transactionByIDSQL, t.ID)
	}
	return row.domain(), fail(ctx, "create transaction", err)
}

// ByID gives a payment to its sender or its recipient; CodeTransactionNotFound,
// for everybody else too.
func (s *Transactions) ByID(ctx context.Context, id, userID uuid.UUID) (livestream.Transaction, error) {
	transaction, err := s.Any(ctx, id)
	if err == nil && transaction.SenderID != userID && transaction.RecipientID != userID {
		return livestream.Transaction{}, transactionNotFound()
	}
	return transaction, err
}

// Any gives a payment, whoever asks. CodeTransactionNotFound.
func (s *Transactions) Any(ctx context.Context, id uuid.UUID) (livestream.Transaction, error) {
	row, err := one[transactionRow](ctx, s.db.primary, transactionByIDSQL, id)
	return row.domain(), failOr(ctx, "read transaction", err, transactionNotFound())
}

// List lists a member's payments, sent and received, newest first.
func (s *Transactions) List(ctx context.Context, filter livestream.TransactionFilter, page livestream.Page) (livestream.List[livestream.Transaction], error) {
	limit := limitOf(page)
	at, id := beforeTime(page)
	rows, err := many[transactionRow](ctx, s.db.primary, listTransactionsSQL, filter.UserID, filter.Status, at, id, limit+1)
	if err != nil {
		return livestream.List[livestream.Transaction]{}, fail(ctx, "list transactions", err)
	}
	return listOf(rows, limit, transactionRow.domain, func(r transactionRow) livestream.Cursor {
		return livestream.Cursor{Time: r.CreatedAt, ID: r.ID}
	}), nil
}

// SetIntent keeps what Stripe said of a payment. One that is decided stays as it
// is, which is no error. CodeTransactionNotFound.
func (s *Transactions) SetIntent(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, status livestream.TransactionStatus) error {
	there, err := scalar[bool](ctx, s.db.primary, setIntentSQL, id, intent.ID, intent.ClientSecret, status)
	if err == nil && !there {
		return transactionNotFound()
	}
	return fail(ctx, "set payment intent", err)
}

// Settle books a paid tip: its row, the ledger and the recipient's notification,
// all or nothing. Settling it again changes nothing. What is paid is booked, even
// if it was thought to have failed. CodeTransactionNotFound.
func (s *Transactions) Settle(ctx context.Context, id uuid.UUID, now time.Time) (livestream.Transaction, error) {
	var row transactionRow
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		row, err = one[transactionRow](ctx, tx, lockTransactionSQL, id)
		if err == nil {
			row, err = settle(ctx, tx, row, now)
		}
		return err
	})
	return row.domain(), failOr(ctx, "settle transaction", err, transactionNotFound())
}

// settle books a payment whose row is locked.
func settle(ctx context.Context, tx querier, row transactionRow, now time.Time) (transactionRow, error) {
	if row.SettledAt != nil {
		return row, nil
	}
	fee := livestream.PlatformFee(row.Amount)
	row, err := one[transactionRow](ctx, tx, settleTransactionSQL, row.ID, fee, now, now.Add(livestream.PayoutHold))
	if err != nil {
		return row, err
	}
	if err := post(ctx, tx, settlement(row, now)); err != nil {
		return row, err
	}
	_, err = notify(ctx, tx, livestream.NewNotification{
		UserID: row.RecipientID, Key: livestream.TipReceivedKey(row.ID), Type: livestream.NotifyTipReceived,
		Data: map[string]any{
			"transaction_id": row.ID, "user_id": row.SenderID, "amount": row.Amount, "currency": row.Currency, "message": row.Message,
		},
	})
	return row, err
}

// Fail ends a payment that did not work, and says why. One that is decided stays
// as it is and is given so. CodeTransactionNotFound.
func (s *Transactions) Fail(ctx context.Context, id uuid.UUID, status livestream.TransactionStatus, failure livestream.Failure, now time.Time) (livestream.Transaction, error) {
	row, err := one[transactionRow](ctx, s.db.primary, failTransactionSQL, id, status, failure, now)
	if errors.Is(err, pgx.ErrNoRows) {
		row, err = one[transactionRow](ctx, s.db.primary, transactionByIDSQL, id)
	}
	return row.domain(), failOr(ctx, "fail transaction", err, transactionNotFound())
}
