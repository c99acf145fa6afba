package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Transactions are the payments and the ledger that they are booked in.
type Transactions struct{ db *DB }

// NewTransactions are the payments of a database.
func NewTransactions(db *DB) *Transactions { return &Transactions{db} }

const transactionColumns = `id, status, kind, amount, currency, sender_id, recipient_id, stream_id, message, failure, fee_amount,
	refunded_amount, coalesce(payment_intent_id, ''), coalesce(client_secret, ''), workflow_id, created_at, settled_at`

func scanTransaction(row pgx.CollectableRow) (livestream.Transaction, error) {
	var t livestream.Transaction
	err := row.Scan(&t.ID, &t.Status, &t.Kind, &t.Amount, &t.Currency, &t.SenderID, &t.RecipientID, &t.StreamID, &t.Message, &t.Failure, &t.FeeAmount,
		&t.RefundedAmount, &t.PaymentIntentID, &t.ClientSecret, &t.WorkflowID, &t.CreatedAt, &t.SettledAt)
	return t, err
}

const createTransaction = `-- name: transaction.create
INSERT INTO transactions (id, status, kind, amount, currency, sender_id, recipient_id, stream_id, message, workflow_id)
VALUES ($1, 'queued', $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`

// Create writes a payment, queued. Creating it again changes nothing.
//
// Errors: user_not_found, stream_not_found, cannot_tip_self.
func (s *Transactions) Create(ctx context.Context, t livestream.NewTransaction) (livestream.Transaction, error) {
	_, err := s.db.primary.Exec(ctx, createTransaction, t.ID, t.Kind, t.Amount, t.Currency, t.SenderID, t.RecipientID, t.StreamID, t.Message, t.WorkflowID)
	if err != nil {
		return livestream.Transaction{}, edge("create transaction", err)
	}
	return s.ByID(ctx, t.ID, t.SenderID)
}

const transactionByID = `-- name: transaction.by_id
SELECT ` + transactionColumns + ` FROM transactions WHERE id = $1 AND (sender_id = $2 OR recipient_id = $2)`

// ByID finds a payment for its sender or its recipient.
//
// Errors: transaction_not_found, for others too.
func (s *Transactions) ByID(ctx context.Context, id, userID uuid.UUID) (livestream.Transaction, error) {
	t, err := one(ctx, s.db.primary, scanTransaction, transactionByID, id, userID)
	return t, edge("transaction by id", orNotFound(err, errTransactionNotFound))
}

// Each side of a payment has its index; a member's list merges the two.
const listTransactions = `-- name: transaction.list
SELECT * FROM (
    (SELECT ` + transactionColumns + ` FROM transactions
     WHERE sender_id = $1 AND ($2::text IS NULL OR status = $2) AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
     ORDER BY created_at DESC, id DESC LIMIT $5)
    UNION ALL
    (SELECT ` + transactionColumns + ` FROM transactions
     WHERE recipient_id = $1 AND ($2::text IS NULL OR status = $2) AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
     ORDER BY created_at DESC, id DESC LIMIT $5)
) AS both_sides ORDER BY created_at DESC, id DESC LIMIT $5`

// List reads a member's payments, sent and received, the newest first.
func (s *Transactions) List(ctx context.Context, filter livestream.TransactionFilter, page livestream.Page) (livestream.List[livestream.Transaction], error) {
	at, id := afterTime(page)
	rows, err := all(ctx, s.db.primary, scanTransaction, listTransactions, filter.UserID, filter.Status, at, id, fetchLimit(page))
	return listOf(rows, page, func(t livestream.Transaction) livestream.Cursor {
		return livestream.Cursor{Time: t.CreatedAt, ID: t.ID}
	}), edge("list transactions", err)
}

const setIntent = `-- name: transaction.set_intent
UPDATE transactions SET payment_intent_id = $2, client_secret = $3, status = $4
WHERE id = $1 AND status IN ('queued', 'requires_action', 'processing')`

// SetIntent keeps what Stripe said of a payment; one that is decided stays so.
func (s *Transactions) SetIntent(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, status livestream.TransactionStatus) error {
	_, err := s.db.primary.Exec(ctx, setIntent, id, intent.ID, intent.ClientSecret, status)
	return edge("set intent", err)
}

const lockTransaction = `-- name: transaction.lock
SELECT ` + transactionColumns + ` FROM transactions WHERE id = $1 FOR UPDATE`

const settleTransaction = `-- name: transaction.settle
UPDATE transactions SET status = 'succeeded', fee_amount = $2, settled_at = $3, failure = NULL WHERE id = $1 RETURNING ` + transactionColumns

// Settle books a paid tip: its row, the ledger and the recipient's notification,
// all or nothing. Settling it again changes nothing.
//
// Errors: transaction_not_found.
func (s *Transactions) Settle(ctx context.Context, id uuid.UUID, now time.Time) (livestream.Transaction, error) {
	var settled livestream.Transaction
	err := s.db.inTx(ctx, func(tx pgx.Tx) (err error) {
		settled, err = one(ctx, tx, scanTransaction, lockTransaction, id)
		if err != nil || settled.SettledAt != nil {
			return orNotFound(err, errTransactionNotFound)
		}
		fee := livestream.PlatformFee(settled.Amount)
		if settled, err = one(ctx, tx, scanTransaction, settleTransaction, id, fee, now); err != nil {
			return err
		}
		err = post(ctx, tx, id, "settle", settled.Currency, now, []entry{
			{account: "card", userID: &settled.SenderID, amount: -settled.Amount},
			{account: "platform_fee", amount: fee},
			{account: "creator_pending", userID: &settled.RecipientID, amount: settled.Amount - fee},
		})
		if err != nil {
			return err
		}
		_, err = notifyOne(ctx, tx, livestream.NewNotification{
			UserID: settled.RecipientID, Key: livestream.TipReceivedKey(id), Type: livestream.NotifyTipReceived,
			Data: map[string]any{
				"transaction_id": id, "user_id": settled.SenderID, "amount": settled.Amount,
				"currency": settled.Currency, "message": settled.Message,
			},
		})
		return err
	})
	return settled, edge("settle transaction", err)
}

const failTransaction = `-- name: transaction.fail
UPDATE transactions SET status = $2, failure = $3, settled_at = $4
WHERE id = $1 AND status IN ('queued', 'requires_action', 'processing')`

const transactionAny = `-- name: transaction.any
SELECT ` + transactionColumns + ` FROM transactions WHERE id = $1`

// Fail writes a payment's end and why; one that is decided stays so.
//
// Errors: transaction_not_found.
func (s *Transactions) Fail(ctx context.Context, id uuid.UUID, status livestream.TransactionStatus, failure livestream.Failure, now time.Time) (livestream.Transaction, error) {
	if _, err := s.db.primary.Exec(ctx, failTransaction, id, status, failure, now); err != nil {
		return livestream.Transaction{}, edge("fail transaction", err)
	}
	t, err := one(ctx, s.db.primary, scanTransaction, transactionAny, id)
	return t, edge("failed transaction", orNotFound(err, errTransactionNotFound))
}
