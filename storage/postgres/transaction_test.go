package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

var declined = livestream.Failure{Code: "card_declined", Message: "Your card was declined."}

func TestCreateTransaction(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t), s.MustCreateUser(t)
	stream := s.MustCreateStream(t, recipient.ID)
	asked := newTip(t, sender.ID, recipient.ID, 500)
	asked.StreamID = &stream.ID

	tip, err := s.Transactions.Create(ctx, asked)
	require.NoError(t, err)
	require.WithinDuration(t, now(), tip.CreatedAt, testClockTolerance)
	require.Equal(t, livestream.Transaction{
		ID: asked.ID, Status: livestream.TransactionQueued, Kind: livestream.KindTip, Amount: 500, Currency: "eur", SenderID: sender.ID,
		RecipientID: recipient.ID, StreamID: &stream.ID, Message: "well done", WorkflowID: asked.WorkflowID, CreatedAt: tip.CreatedAt,
	}, tip)

	asked.Amount = 100
	again, err := s.Transactions.Create(ctx, asked)
	require.NoError(t, err)
	require.Equal(t, tip, again, "creating it again changes nothing")
	for _, reader := range []uuid.UUID{sender.ID, recipient.ID} {
		read, err := s.Transactions.ByID(ctx, tip.ID, reader)
		require.NoError(t, err)
		require.Equal(t, tip, read)
	}
}

func TestCreateTransactionErrors(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	a, b := s.MustCreateUser(t), s.MustCreateUser(t)
	create := func(tip livestream.NewTransaction) error { _, err := s.Transactions.Create(ctx, tip); return err }
	requireCode(t, livestream.CodeCannotTipSelf, create(newTip(t, a.ID, a.ID, 500)))
	requireCode(t, livestream.CodeUserNotFound, create(newTip(t, a.ID, newID(t), 500)))
	requireCode(t, livestream.CodeUserNotFound, create(newTip(t, newID(t), b.ID, 500)))
	tip, nowhere := newTip(t, a.ID, b.ID, 500), newID(t)
	tip.StreamID = &nowhere
	requireCode(t, livestream.CodeStreamNotFound, create(tip))
}

func TestTransactionNotFound(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	_, err := s.Transactions.ByID(ctx, tip.ID, s.MustCreateUser(t).ID)
	requireCode(t, livestream.CodeTransactionNotFound, err)

	id := newID(t)
	_, err = s.Transactions.ByID(ctx, id, tip.SenderID)
	requireCode(t, livestream.CodeTransactionNotFound, err)
	requireCode(t, livestream.CodeTransactionNotFound, s.Transactions.SetIntent(ctx, id, livestream.PaymentIntent{ID: "pi"}, livestream.TransactionProcessing))
	_, err = s.Transactions.Settle(ctx, id, now())
	requireCode(t, livestream.CodeTransactionNotFound, err)
	_, err = s.Transactions.Fail(ctx, id, livestream.TransactionFailed, declined, now())
	requireCode(t, livestream.CodeTransactionNotFound, err)
}

func TestTipIsPaid(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t), s.MustCreateUser(t)
	tip := s.MustCreateTip(t, sender.ID, recipient.ID, 555)
	intent := livestream.PaymentIntent{ID: "pi_1", ClientSecret: "pi_1_secret"}
	for range 2 {
		require.NoError(t, s.Transactions.SetIntent(ctx, tip.ID, intent, livestream.TransactionRequiresAction))
		read, err := s.Transactions.ByID(ctx, tip.ID, sender.ID)
		require.NoError(t, err)
		tip.Status, tip.PaymentIntentID, tip.ClientSecret = livestream.TransactionRequiresAction, "pi_1", "pi_1_secret"
		require.Equal(t, tip, read)
	}

	at := now()
	available := at.Add(livestream.PayoutHold)
	tip.Status, tip.FeeAmount, tip.SettledAt, tip.AvailableAt = livestream.TransactionSucceeded, 55, &at, &available
	for later := range 2 {
		settled, err := s.Transactions.Settle(ctx, tip.ID, at.Add(time.Duration(later)*time.Hour))
		require.NoError(t, err)
		require.Equal(t, tip, settled)
	}
	balances, err := s.Transactions.Balances(ctx, recipient.ID)
	require.NoError(t, err)
	require.Equal(t, []livestream.Balance{{Currency: "eur", Pending: 500}}, balances)

	told := inbox(t, s, recipient.ID)
	require.Len(t, told, 1)
	require.Equal(t, livestream.NotifyTipReceived, told[0].Type)
	require.JSONEq(t, fmt.Sprintf(`{"transaction_id": %q, "user_id": %q, "amount": 555, "currency": "eur", "message": "well done"}`, tip.ID, sender.ID),
		string(told[0].Data))
	require.Empty(t, inbox(t, s, sender.ID))

	require.NoError(t, s.Transactions.SetIntent(ctx, tip.ID, livestream.PaymentIntent{ID: "pi_2"}, livestream.TransactionProcessing))
	failed, err := s.Transactions.Fail(ctx, tip.ID, livestream.TransactionFailed, declined, now())
	require.NoError(t, err)
	require.Equal(t, tip, failed, "what is paid stays paid")
}

func TestRecipientWhoWantsNoNewsIsPaidAllTheSame(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t)
	require.NoError(t, s.Notifications.SetSettings(ctx, recipient.ID, livestream.NotificationSettings{}))
	_, err := s.Transactions.Settle(ctx, s.MustCreateTip(t, s.MustCreateUser(t).ID, recipient.ID, 500).ID, now())
	require.NoError(t, err)
	require.Empty(t, inbox(t, s, recipient.ID))
	balances, err := s.Transactions.Balances(ctx, recipient.ID)
	require.NoError(t, err)
	require.Equal(t, []livestream.Balance{{Currency: "eur", Pending: 450}}, balances)
}

func TestTipFails(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t)
	for _, status := range []livestream.TransactionStatus{livestream.TransactionFailed, livestream.TransactionCanceled} {
		tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, recipient.ID, 500)
		tip.Status, tip.Failure = status, &declined
		for _, again := range []livestream.TransactionStatus{status, livestream.TransactionCanceled} {
			failed, err := s.Transactions.Fail(ctx, tip.ID, again, declined, now())
			require.NoError(t, err)
			require.Equal(t, tip, failed, "the first end stays")
		}
		require.NoError(t, s.Transactions.SetIntent(ctx, tip.ID, livestream.PaymentIntent{ID: "pi"}, livestream.TransactionProcessing))
		read, err := s.Transactions.ByID(ctx, tip.ID, recipient.ID)
		require.NoError(t, err)
		require.Equal(t, tip, read)
	}
	balances, err := s.Transactions.Balances(ctx, recipient.ID)
	require.NoError(t, err)
	require.Empty(t, balances)
	require.Empty(t, inbox(t, s, recipient.ID))
}

// Stripe's word that a payment was made outweighs what we thought of it.
func TestTipThatWasThoughtFailedIsPaid(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	_, err := s.Transactions.Fail(ctx, tip.ID, livestream.TransactionCanceled, declined, now())
	require.NoError(t, err)
	settled, err := s.Transactions.Settle(ctx, tip.ID, now())
	require.NoError(t, err)
	require.Equal(t, livestream.TransactionSucceeded, settled.Status)
	require.Nil(t, settled.Failure)
}

func TestSettleAtOnceBooksOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t)
	tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, recipient.ID, 1000)
	for _, err := range race(40, func(int) error { _, err := s.Transactions.Settle(ctx, tip.ID, now()); return err }) {
		require.NoError(t, err)
	}
	balances, err := s.Transactions.Balances(ctx, recipient.ID)
	require.NoError(t, err)
	require.Equal(t, []livestream.Balance{{Currency: "eur", Pending: 900}}, balances)
	require.EqualValues(t, 3, s.Number(t, "SELECT count(*) FROM ledger_entries"))
	require.Len(t, inbox(t, s, recipient.ID), 1)
}

func TestListTransactions(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	me, other := s.MustCreateUser(t), s.MustCreateUser(t)
	var mine, paid []uuid.UUID
	for i := range 24 {
		sender, recipient := me.ID, other.ID
		if i%2 == 0 {
			sender, recipient = recipient, sender
		}
		tip := s.MustCreateTip(t, sender, recipient, 500)
		mine = append(mine, tip.ID)
		if i%3 == 0 {
			_, err := s.Transactions.Settle(ctx, tip.ID, now())
			require.NoError(t, err)
			paid = append(paid, tip.ID)
		}
	}
	s.MustExec(t, "UPDATE transactions SET created_at = '2026-01-01' WHERE id = ANY ($1)", mine[:20]) // all at the same time
	foreign := s.MustCreateTip(t, other.ID, s.MustCreateUser(t).ID, 500)

	list := func(filter livestream.TransactionFilter, limit int) []uuid.UUID {
		tips := readAll(t, limit, func(page livestream.Page) (livestream.List[livestream.Transaction], error) {
			return s.Transactions.List(ctx, filter, page)
		})
		for i := 1; i < len(tips); i++ {
			require.False(t, tips[i].CreatedAt.After(tips[i-1].CreatedAt))
		}
		return collect(tips, func(tip livestream.Transaction) uuid.UUID { return tip.ID })
	}
	succeeded, refunded := livestream.TransactionSucceeded, livestream.TransactionRefunded
	for _, limit := range []int{1, 5, 24, 100} {
		require.ElementsMatch(t, mine, list(livestream.TransactionFilter{UserID: me.ID}, limit))
		require.ElementsMatch(t, paid, list(livestream.TransactionFilter{UserID: me.ID, Status: &succeeded}, limit))
	}
	require.Empty(t, list(livestream.TransactionFilter{UserID: me.ID, Status: &refunded}, 5))
	require.ElementsMatch(t, append(mine, foreign.ID), list(livestream.TransactionFilter{UserID: other.ID}, 5))
}
