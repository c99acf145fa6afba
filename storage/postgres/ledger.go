package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// entry is one line of a posting: what an account gains or, when it is negative,
// gives.
type entry struct {
	account string
	userID  *uuid.UUID // nil for the platform's own
	amount  int64      // minor units
}

const openAccount = `-- name: ledger.open_account
INSERT INTO ledger_accounts (kind, user_id, currency) VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT ledger_accounts_owner DO NOTHING`

const findAccount = `-- name: ledger.find_account
SELECT id FROM ledger_accounts WHERE kind = $1 AND user_id IS NOT DISTINCT FROM $2 AND currency = $3`

const openPosting = `-- name: ledger.open_posting
INSERT INTO ledger_postings (transaction_id, kind, posted_at) VALUES ($1, $2, $3) RETURNING id`

const addEntry = `-- name: ledger.add_entry
INSERT INTO ledger_entries (posting_id, account_id, amount, currency) VALUES ($1, $2, $3, $4)`

// post writes a balanced posting; the database refuses one that is not, and a
// second one of the same kind.
func post(ctx context.Context, tx pgx.Tx, transactionID uuid.UUID, kind, currency string, at time.Time, entries []entry) error {
	var posting int64
	if err := tx.QueryRow(ctx, openPosting, transactionID, kind, at).Scan(&posting); err != nil {
		return fmt.Errorf("open posting: %w", err)
	}
	for _, e := range entries {
		if _, err := tx.Exec(ctx, openAccount, e.account, e.userID, currency); err != nil {
			return fmt.Errorf("open account %s: %w", e.account, err)
		}
		// A statement of its own: it sees an account that somebody else opened
		// while the first one waited.
		var account int64
		if err := tx.QueryRow(ctx, findAccount, e.account, e.userID, currency).Scan(&account); err != nil {
			return fmt.Errorf("find account %s: %w", e.account, err)
		}
		if _, err := tx.Exec(ctx, addEntry, posting, account, e.amount, currency); err != nil {
			return fmt.Errorf("add entry: %w", err)
		}
	}
	return nil
}

const balances = `-- name: ledger.balances
SELECT a.currency,
       coalesce(sum(e.amount) FILTER (WHERE a.kind = 'creator_available'), 0)::bigint,
       coalesce(sum(e.amount) FILTER (WHERE a.kind = 'creator_pending'), 0)::bigint
FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
WHERE a.user_id = $1 AND a.kind IN ('creator_available', 'creator_pending')
GROUP BY a.currency ORDER BY a.currency`

// Balances sums up what a creator has, by currency.
func (s *Transactions) Balances(ctx context.Context, userID uuid.UUID) ([]livestream.Balance, error) {
	rows, err := all(ctx, s.db.primary, func(row pgx.CollectableRow) (livestream.Balance, error) {
		var b livestream.Balance
		err := row.Scan(&b.Currency, &b.Available, &b.Pending)
		return b, err
	}, balances, userID)
	return rows, edge("balances", err)
}
