package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// In the order of their keys, so that postings that open the same accounts do
	// not wait for one another in a circle.
	openAccountsSQL = `-- name: ledger.open_accounts
INSERT INTO ledger_accounts (kind, user_id, currency)
SELECT kind, nullif(owner, '00000000-0000-0000-0000-000000000000'), $3 FROM unnest($1::text[], $2::uuid[]) AS e (kind, owner)
ORDER BY owner, kind
ON CONFLICT (owner, kind, currency) DO NOTHING`

	// A statement of its own: it sees the accounts that others opened while the
	// one before waited for them. An account that it missed would leave the
	// posting unbalanced, which the database refuses.
	postSQL = `-- name: ledger.post
WITH posting AS (
	INSERT INTO ledger_transactions (transaction_id, kind, reference, posted_at) VALUES ($1, $2, $8, $3)
	ON CONFLICT (transaction_id, kind, reference) DO NOTHING RETURNING id
)
INSERT INTO ledger_entries (ledger_transaction_id, account_id, amount, currency)
SELECT p.id, a.id, e.amount, a.currency
FROM posting p CROSS JOIN unnest($5::text[], $6::uuid[], $7::bigint[]) AS e (kind, owner, amount)
JOIN ledger_accounts a ON a.owner = e.owner AND a.kind = e.kind AND a.currency = $4
WHERE e.amount <> 0`

	pendingSQL = `-- name: ledger.pending
SELECT coalesce(sum(e.amount), 0)::bigint
FROM ledger_transactions p JOIN ledger_entries e ON e.ledger_transaction_id = p.id JOIN ledger_accounts a ON a.id = e.account_id
WHERE p.transaction_id = $1 AND a.kind = 'creator_pending'`

	balancesSQL = `-- name: ledger.balances
SELECT a.currency,
	coalesce(sum(b.amount) FILTER (WHERE a.kind = 'creator_available'), 0)::bigint AS available,
	coalesce(sum(b.amount) FILTER (WHERE a.kind = 'creator_pending'), 0)::bigint AS pending
FROM ledger_accounts a JOIN ledger_balances b ON b.account_id = a.id
WHERE a.owner = $1 AND a.kind IN ('creator_available', 'creator_pending')
GROUP BY a.currency ORDER BY a.currency`
)

// posting is money that moves for a payment; its entries add up to zero.
type posting struct {
	transactionID uuid.UUID
	kind          string
	reference     string // the refund or dispute, where a payment may have several
	currency      string
	at            time.Time
	entries       []entry
}

// entry is what an account gets or, below zero, gives, in minor units.
type entry struct {
	kind   string
	owner  uuid.UUID // uuid.Nil for the platform
	amount int64
}

// settlement moves a paid tip from its sender's card to the creator, less the fee.
func settlement(t transactionRow, at time.Time) posting {
	return posting{transactionID: t.ID, kind: "settlement", currency: t.Currency, at: at, entries: []entry{
		{kind: "card", owner: t.SenderID, amount: -t.Amount},
		{kind: "platform_fee", owner: uuid.Nil, amount: t.FeeAmount},
		{kind: "creator_pending", owner: t.RecipientID, amount: t.Amount - t.FeeAmount},
	}}
}

// release moves what is left of a payment from what its creator waits for to what
// they may use.
func release(t transactionRow, left int64, at time.Time) posting {
	return posting{transactionID: t.ID, kind: "release", currency: t.Currency, at: at, entries: []entry{
		{kind: "creator_pending", owner: t.RecipientID, amount: -left},
		{kind: "creator_available", owner: t.RecipientID, amount: left},
	}}
}

// refunding moves what a refund gives back: the creator's part from where it is,
// and the platform's from its fee. turned is the same the other way round, for money
// that the payer's bank sent back.
func refunding(t transactionRow, r refundRow, turned bool, at time.Time) posting {
	kind, sign := "refund", int64(1)
	if turned {
		kind, sign = "refund_reversal", -1
	}
	return posting{transactionID: t.ID, kind: kind, reference: r.ID.String(), currency: t.Currency, at: at, entries: []entry{
		{kind: t.purse(), owner: t.RecipientID, amount: -sign * (r.Amount - r.FeeAmount)},
		{kind: "platform_fee", owner: uuid.Nil, amount: -sign * r.FeeAmount},
		{kind: "refunds", owner: uuid.Nil, amount: sign * r.Amount},
	}}
}

// disputed takes what a payer's bank holds from the creator and from the fee.
func disputed(t transactionRow, d disputeRow, at time.Time) posting {
	return posting{transactionID: t.ID, kind: "dispute", reference: d.ID, currency: t.Currency, at: at, entries: []entry{
		{kind: t.purse(), owner: t.RecipientID, amount: -(d.Amount - d.FeeAmount)},
		{kind: "platform_fee", owner: uuid.Nil, amount: -d.FeeAmount},
		{kind: "disputes", owner: uuid.Nil, amount: d.Amount},
	}}
}

// disputeWon gives it back to them: from the payer where the dispute was lost at
// first. disputeLost gives it to the payer.
func disputeWon(t transactionRow, d disputeRow, lost bool, at time.Time) posting {
	from := entry{kind: "disputes", owner: uuid.Nil, amount: -d.Amount}
	if lost {
		from = entry{kind: "card", owner: t.SenderID, amount: -d.Amount}
	}
	return posting{transactionID: t.ID, kind: "dispute_won", reference: d.ID, currency: t.Currency, at: at, entries: []entry{
		{kind: t.purse(), owner: t.RecipientID, amount: d.Amount - d.FeeAmount},
		{kind: "platform_fee", owner: uuid.Nil, amount: d.FeeAmount},
		from,
	}}
}

func disputeLost(t transactionRow, d disputeRow, at time.Time) posting {
	return posting{transactionID: t.ID, kind: "dispute_lost", reference: d.ID, currency: t.Currency, at: at, entries: []entry{
		{kind: "card", owner: t.SenderID, amount: d.Amount},
		{kind: "disputes", owner: uuid.Nil, amount: -d.Amount},
	}}
}

// purse is the account that a payment's money is in, for its creator.
func (r transactionRow) purse() string {
	if r.ReleasedAt != nil {
		return "creator_available"
	}
	return "creator_pending"
}

// post books a posting, once a payment, kind and reference.
func post(ctx context.Context, tx querier, p posting) error {
	kinds, owners, amounts := make([]string, len(p.entries)), make([]uuid.UUID, len(p.entries)), make([]int64, len(p.entries))
	for i, e := range p.entries {
		kinds[i], owners[i], amounts[i] = e.kind, e.owner, e.amount
	}
	if _, err := tx.Exec(ctx, openAccountsSQL, kinds, owners, p.currency); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, postSQL, p.transactionID, p.kind, p.at, p.currency, kinds, owners, amounts, p.reference)
	return err
}

// Balances gives what a creator has, by currency; none before the first tip.
func (s *Transactions) Balances(ctx context.Context, userID uuid.UUID) ([]livestream.Balance, error) {
	balances, err := many[livestream.Balance](ctx, s.db.primary, balancesSQL, userID)
	return balances, fail(ctx, "read balances", err)
}
