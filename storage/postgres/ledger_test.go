package postgres_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// balance is what an account of the ledger holds; the platform's has no owner.
func balance(tb testing.TB, s *store, kind string, owner uuid.UUID, currency string) int64 {
	tb.Helper()
	return s.Number(tb, `SELECT coalesce(sum(e.amount), 0)::bigint FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
		WHERE a.kind = $1 AND a.owner = $2 AND a.currency = $3`, kind, owner, currency)
}

func TestSettlementIsBookedOnThreeAccounts(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	for _, tip := range []livestream.NewTransaction{newTip(t, sender, recipient, 999), newTip(t, sender, recipient, 50), newTip(t, recipient, sender, 200)} {
		_, err := s.Transactions.Create(ctx, tip, livestream.TipLimits{})
		require.NoError(t, err)
		_, err = s.Transactions.Settle(ctx, tip.ID, now(), hold)
		require.NoError(t, err)
	}
	require.EqualValues(t, -1049, balance(t, s, "card", sender, "eur"))
	require.EqualValues(t, 945, balance(t, s, "creator_pending", recipient, "eur"))
	require.EqualValues(t, 99+5+20, balance(t, s, "platform_fee", uuid.Nil, "eur"))
	require.EqualValues(t, -200, balance(t, s, "card", recipient, "eur"))
	require.EqualValues(t, 180, balance(t, s, "creator_pending", sender, "eur"))
	require.Zero(t, s.Number(t, "SELECT sum(amount)::bigint FROM ledger_entries"))
}

// An amount whose fee rounds to nothing has no entry for it.
func TestSettlementWithoutFee(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t).ID
	tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, recipient, 9)
	_, err := s.Transactions.Settle(ctx, tip.ID, now(), hold)
	require.NoError(t, err)
	require.EqualValues(t, 9, balance(t, s, "creator_pending", recipient, "eur"))
	require.EqualValues(t, 2, s.Number(t, "SELECT count(*) FROM ledger_entries"))
}

func TestBalances(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	for currency, amount := range map[string]int64{"usd": 1000, "eur": 500, "gbp": 300} {
		tip := newTip(t, sender, recipient, amount)
		tip.Currency = currency
		_, err := s.Transactions.Create(ctx, tip, livestream.TipLimits{})
		require.NoError(t, err)
		_, err = s.Transactions.Settle(ctx, tip.ID, now(), hold)
		require.NoError(t, err)
	}
	balances, err := s.Transactions.Balances(ctx, recipient)
	require.NoError(t, err)
	require.Equal(t, []livestream.Balance{{Currency: "eur", Pending: 450}, {Currency: "gbp", Pending: 270}, {Currency: "usd", Pending: 900}}, balances)

	balances, err = s.Transactions.Balances(ctx, sender)
	require.NoError(t, err)
	require.Empty(t, balances, "what was paid by card is no balance")
}

// Tips between the same members, in both directions and in currencies that nobody
// has used, open the same accounts at the same moment.
func TestAccountsOpenedAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	a, b := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	tips := make([]livestream.NewTransaction, 60)
	for i := range tips {
		from, to := a, b
		if i%2 == 0 {
			from, to = to, from
		}
		tips[i] = newTip(t, from, to, 100)
		tips[i].Currency = []string{"eur", "usd", "gbp"}[i%3]
		_, err := s.Transactions.Create(ctx, tips[i], livestream.TipLimits{})
		require.NoError(t, err)
	}
	for _, err := range race(len(tips), func(i int) error { _, err := s.Transactions.Settle(ctx, tips[i].ID, now(), hold); return err }) {
		require.NoError(t, err)
	}
	for _, currency := range []string{"eur", "usd", "gbp"} {
		require.EqualValues(t, 900, balance(t, s, "creator_pending", a, currency))
		require.EqualValues(t, 900, balance(t, s, "creator_pending", b, currency))
		require.EqualValues(t, 200, balance(t, s, "platform_fee", uuid.Nil, currency))
	}
	require.EqualValues(t, 3*5, s.Number(t, "SELECT count(*) FROM ledger_accounts"))
}

// The database itself keeps the books, whoever writes to them.
func TestLedgerRefuses(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	paid, unpaid := s.MustCreateTip(t, sender, recipient, 500), s.MustCreateTip(t, sender, recipient, 500)
	_, err := s.Transactions.Settle(ctx, paid.ID, now(), hold)
	require.NoError(t, err)

	const begin = `WITH p AS (INSERT INTO ledger_transactions (transaction_id, kind, posted_at) VALUES ($1, 'settlement', now()) RETURNING id)
		INSERT INTO ledger_entries (ledger_transaction_id, account_id, amount, currency) `
	for name, refused := range map[string]struct {
		constraint, sql string
		args            []any
	}{
		"entries that do not add up": {"ledger_balanced",
			begin + `SELECT p.id, a.id, 1, a.currency FROM p, ledger_accounts a`, []any{unpaid.ID}},
		"an entry more for a posting that is booked": {"ledger_balanced",
			`INSERT INTO ledger_entries (ledger_transaction_id, account_id, amount, currency)
			 SELECT ledger_transaction_id, account_id, amount, currency FROM ledger_entries LIMIT 1`, nil},
		"a posting without entries": {"ledger_balanced",
			`INSERT INTO ledger_transactions (transaction_id, kind, posted_at) VALUES ($1, 'settlement', now())`, []any{unpaid.ID}},
		"a payment booked twice": {"ledger_transactions_kind_key",
			`INSERT INTO ledger_transactions (transaction_id, kind, posted_at) VALUES ($1, 'settlement', now())`, []any{paid.ID}},
		"an entry of nothing": {"ledger_entries_amount_check",
			begin + `SELECT p.id, a.id, 0, a.currency FROM p, ledger_accounts a`, []any{unpaid.ID}},
		"an entry in another currency than its account": {"ledger_entries_account_id_currency_fkey",
			begin + `SELECT p.id, a.id, e.amount, 'usd' FROM p, ledger_accounts a, (VALUES (1), (-1)) e (amount)`, []any{unpaid.ID}},
		"a second account of the platform":       {"ledger_accounts_owner_key", `INSERT INTO ledger_accounts (kind, currency) VALUES ('platform_fee', 'eur')`, nil},
		"a changed entry":                        {"ledger_immutable", `UPDATE ledger_entries SET amount = amount + 1`, nil},
		"a deleted entry":                        {"ledger_immutable", `DELETE FROM ledger_entries`, nil},
		"a ledger that is emptied":               {"ledger_immutable", `TRUNCATE ledger_entries`, nil},
		"a changed posting":                      {"ledger_immutable", `UPDATE ledger_transactions SET posted_at = now()`, nil},
		"a deleted posting":                      {"ledger_immutable", `DELETE FROM ledger_transactions`, nil},
		"an account that changes its owner":      {"ledger_immutable", `UPDATE ledger_accounts SET user_id = $1`, []any{recipient}},
		"more of the fee given back than it was": {"transactions_fee_refunded", `UPDATE transactions SET fee_refunded = fee_amount + 1 WHERE id = $1`, []any{paid.ID}},
		"a payment refunded that is not":         {"transactions_refunded", `UPDATE transactions SET status = 'refunded' WHERE id = $1`, []any{paid.ID}},
		"a payment that is gone":                 {"ledger_transactions_transaction_id_fkey", `DELETE FROM transactions WHERE id = $1`, []any{paid.ID}},
		"a payment that is paid at no time":      {"transactions_check2", `UPDATE transactions SET settled_at = NULL, available_at = NULL WHERE id = $1`, []any{paid.ID}},
		"a failure of a payment that is not":     {"transactions_check4", `UPDATE transactions SET failure = '{}' WHERE id = $1`, []any{unpaid.ID}},
	} {
		t.Run(name, func(t *testing.T) { requireRefused(t, refused.constraint, s.Exec(t, refused.sql, refused.args...)) })
	}
	balances, err := s.Transactions.Balances(ctx, recipient)
	require.NoError(t, err)
	require.Equal(t, []livestream.Balance{{Currency: "eur", Pending: 450}}, balances)
}
