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
RETURNING ` + transactionColumns

	// One payer's tips are begun one after the other, so that their limits hold.
	lockPayerSQL = `-- name: transactions.lock_payer
SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE`

	bannedByCreatorSQL = `-- name: transactions.banned
SELECT EXISTS (SELECT FROM chat_bans b JOIN streams s ON s.id = b.stream_id
	WHERE b.user_id = $1 AND s.user_id = $2 AND (b.banned_until IS NULL OR b.banned_until > now()))`

	tippedSQL = `-- name: transactions.tipped
SELECT count(*) FILTER (WHERE t.recent) AS hourly_count, count(*) AS daily_count,
	coalesce(sum(t.amount) FILTER (WHERE t.counts AND t.recent), 0)::bigint AS hourly_amount, coalesce(sum(t.amount) FILTER (WHERE t.counts), 0)::bigint AS daily_amount
FROM (
	SELECT amount, created_at > now() - interval '1 hour' AS recent, currency = $2 AND status NOT IN ('failed', 'canceled') AS counts
	FROM transactions WHERE sender_id = $1 AND created_at > now() - interval '1 day'
) t`

	transactionByIDSQL = `-- name: transactions.by_id
SELECT ` + transactionColumns + ` FROM transactions WHERE id = $1`

	transactionByIntentSQL = `-- name: transactions.by_intent
SELECT ` + transactionColumns + ` FROM transactions WHERE payment_intent_id = $1`

	lockTransactionSQL = `-- name: transactions.lock
SELECT ` + transactionColumns + ` FROM transactions WHERE id = $1 FOR NO KEY UPDATE`

	// Each side has an index of its own; nobody is both sides of a payment.
	listTransactionsSQL = `-- name: transactions.list
(SELECT ` + transactionColumns + ` FROM transactions WHERE sender_id = $1 AND ` + transactionPage + `)
UNION ALL
(SELECT ` + transactionColumns + ` FROM transactions WHERE recipient_id = $1 AND ` + transactionPage + `)
ORDER BY created_at DESC, id DESC LIMIT $5`

	openIntentSQL = `-- name: transactions.open_intent
UPDATE transactions SET payment_intent_id = $2, client_secret = $3, status = $4
WHERE id = $1 AND payment_intent_id IS NULL AND status = 'queued' RETURNING ` + transactionColumns

	setIntentSQL = `-- name: transactions.set_intent
WITH t AS (
	UPDATE transactions SET client_secret = $3, status = $4
	WHERE id = $1 AND payment_intent_id = $2 AND status IN ('queued', 'requires_action', 'processing')
)
SELECT EXISTS (SELECT FROM transactions WHERE id = $1)`

	settleTransactionSQL = `-- name: transactions.settle
UPDATE transactions SET status = 'succeeded', fee_amount = $2, settled_at = $3, available_at = $4, failure = NULL, failed_at = NULL
WHERE id = $1 RETURNING ` + transactionColumns

	releaseTransactionSQL = `-- name: transactions.release
UPDATE transactions SET released_at = $2 WHERE id = $1 RETURNING ` + transactionColumns

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
// CodeUserNotFound, CodeStreamNotFound, CodeCannotTipSelf, CodeBlocked, CodeBanned,
// CodeTipLimitReached.
func (s *Transactions) Create(ctx context.Context, t livestream.NewTransaction, limits livestream.TipLimits) (livestream.Transaction, error) {
	var row transactionRow
	err := s.db.inTx(ctx, func(tx querier) error {
		if _, err := scalar[uuid.UUID](ctx, tx, lockPayerSQL, t.SenderID); err != nil {
			return err
		}
		var err error
		if row, err = one[transactionRow](ctx, tx, transactionByIDSQL, t.ID); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err := mayTip(ctx, tx, t, limits); err != nil {
			return err
		}
		row, err = one[transactionRow](ctx, tx, createTransactionSQL, t.ID, t.Kind, t.Amount, t.Currency, t.SenderID, t.RecipientID,
			t.StreamID, t.Message, t.WorkflowID)
		return err
	})
	return row.domain(), failOr(ctx, "create transaction", err, userNotFound())
}

// mayTip checks what a payer is allowed, whose row is locked.
func mayTip(ctx context.Context, tx querier, t livestream.NewTransaction, limits livestream.TipLimits) error {
	if err := refuseBlocked(ctx, tx, t.SenderID, t.RecipientID); err != nil {
		return err
	}
	banned, err := scalar[bool](ctx, tx, bannedByCreatorSQL, t.SenderID, t.RecipientID)
	if err != nil {
		return err
	}
	if banned {
		return livestream.Errorf(livestream.CodeBanned, "who is banned from a creator's chat cannot tip them")
	}
	if limits == (livestream.TipLimits{}) {
		return nil
	}
	tipped, err := one[livestream.TipLimits](ctx, tx, tippedSQL, t.SenderID, t.Currency)
	if err != nil {
		return err
	}
	for _, l := range []struct {
		window        string
		used, allowed int64
	}{
		{"an hour", tipped.HourlyCount + 1, limits.HourlyCount},
		{"a day", tipped.DailyCount + 1, limits.DailyCount},
		{"an hour", tipped.HourlyAmount + t.Amount, limits.HourlyAmount},
		{"a day", tipped.DailyAmount + t.Amount, limits.DailyAmount},
	} {
		if l.allowed > 0 && l.used > l.allowed {
			return livestream.Errorf(livestream.CodeTipLimitReached, "this is more than you can tip within %s", l.window)
		}
	}
	return nil
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

// ByIntent gives the payment of a PaymentIntent. CodeTransactionNotFound.
func (s *Transactions) ByIntent(ctx context.Context, intentID string) (livestream.Transaction, error) {
	row, err := one[transactionRow](ctx, s.db.primary, transactionByIntentSQL, intentID)
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

// OpenIntent makes a PaymentIntent the one of its payment, unless that has one, or is
// decided, and gives the payment as it is then. CodeTransactionNotFound.
func (s *Transactions) OpenIntent(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, status livestream.TransactionStatus) (livestream.Transaction, error) {
	row, err := one[transactionRow](ctx, s.db.primary, openIntentSQL, id, intent.ID, intent.ClientSecret, status)
	if errors.Is(err, pgx.ErrNoRows) {
		row, err = one[transactionRow](ctx, s.db.primary, transactionByIDSQL, id)
	}
	return row.domain(), failOr(ctx, "open payment intent", err, transactionNotFound())
}

// SetIntent keeps what Stripe said of a payment's PaymentIntent. One that is decided
// stays as it is, which is no error. CodeTransactionNotFound.
func (s *Transactions) SetIntent(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, status livestream.TransactionStatus) error {
	there, err := scalar[bool](ctx, s.db.primary, setIntentSQL, id, intent.ID, intent.ClientSecret, status)
	if err == nil && !there {
		return transactionNotFound()
	}
	return fail(ctx, "set payment intent", err)
}

// Settle books a paid tip: its row, the ledger and the recipient's notification,
// all or nothing. Its creator's part stays pending for the hold. Settling it again
// changes nothing. What is paid is booked, even if it was thought to have failed.
// CodeTransactionNotFound.
func (s *Transactions) Settle(ctx context.Context, id uuid.UUID, now time.Time, hold time.Duration) (livestream.Transaction, error) {
	var row transactionRow
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		row, err = one[transactionRow](ctx, tx, lockTransactionSQL, id)
		if err == nil {
			row, err = settle(ctx, tx, row, now, hold)
		}
		return err
	})
	return row.domain(), failOr(ctx, "settle transaction", err, transactionNotFound())
}

// settle books a payment whose row is locked.
func settle(ctx context.Context, tx querier, row transactionRow, now time.Time, hold time.Duration) (transactionRow, error) {
	if row.SettledAt != nil {
		return row, nil
	}
	fee := livestream.PlatformFee(row.Amount)
	row, err := one[transactionRow](ctx, tx, settleTransactionSQL, row.ID, fee, now, now.Add(hold))
	if err != nil {
		return row, err
	}
	if err := post(ctx, tx, settlement(row, now)); err != nil {
		return row, err
	}
	_, err = notify(ctx, tx, livestream.NewNotification{
		UserID: row.RecipientID, Key: livestream.TipReceivedKey(row.ID), Type: livestream.NotifyTipReceived, From: row.SenderID, At: now,
		Data: map[string]any{
			"transaction_id": row.ID, "user_id": row.SenderID, "amount": row.Amount, "currency": row.Currency, "message": row.Message,
		},
	})
	return row, err
}

// Release makes what is left of a payment its creator's to use, once. Before its time
// it does nothing. CodeTransactionNotFound.
func (s *Transactions) Release(ctx context.Context, id uuid.UUID, now time.Time) (livestream.Transaction, error) {
	var row transactionRow
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		row, err = one[transactionRow](ctx, tx, lockTransactionSQL, id)
		if err != nil || row.ReleasedAt != nil || row.AvailableAt == nil || row.AvailableAt.After(now) {
			return err
		}
		left, err := scalar[int64](ctx, tx, pendingSQL, id)
		if err != nil {
			return err
		}
		if left != 0 {
			if err := post(ctx, tx, release(row, left, now)); err != nil {
				return err
			}
		}
		row, err = one[transactionRow](ctx, tx, releaseTransactionSQL, id, now)
		return err
	})
	return row.domain(), failOr(ctx, "release transaction", err, transactionNotFound())
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
