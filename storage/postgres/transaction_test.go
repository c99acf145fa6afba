package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

var declined = livestream.Failure{Code: "card_declined", Message: "Your card was declined."}

func TestCreateTransaction(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t), s.MustCreateUser(t)
	stream := s.MustCreateStream(t, recipient.ID)
	asked := newTip(t, sender.ID, recipient.ID, 500)
	asked.StreamID = &stream.ID

	tip, err := s.Transactions.Create(ctx, asked, livestream.TipLimits{})
	require.NoError(t, err)
	require.WithinDuration(t, now(), tip.CreatedAt, testClockTolerance)
	require.Equal(t, livestream.Transaction{
		ID: asked.ID, Status: livestream.TransactionQueued, Kind: livestream.KindTip, Amount: 500, Currency: "eur", SenderID: sender.ID,
		RecipientID: recipient.ID, StreamID: &stream.ID, Message: "well done", WorkflowID: asked.WorkflowID, CreatedAt: tip.CreatedAt,
	}, tip)

	asked.Amount = 100
	again, err := s.Transactions.Create(ctx, asked, livestream.TipLimits{})
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
	create := func(tip livestream.NewTransaction) error {
		_, err := s.Transactions.Create(ctx, tip, livestream.TipLimits{})
		return err
	}
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
	_, err = s.Transactions.OpenIntent(ctx, id, livestream.PaymentIntent{ID: "pi"}, livestream.TransactionQueued)
	requireCode(t, livestream.CodeTransactionNotFound, err)
	_, err = s.Transactions.Release(ctx, id, now())
	requireCode(t, livestream.CodeTransactionNotFound, err)
	requireCode(t, livestream.CodeTransactionNotFound, s.Transactions.SetIntent(ctx, id, livestream.PaymentIntent{ID: "pi"}, livestream.TransactionProcessing))
	_, err = s.Transactions.Settle(ctx, id, now(), hold)
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
	for i := range 4 {
		opened, err := s.Transactions.OpenIntent(ctx, tip.ID, livestream.PaymentIntent{ID: fmt.Sprint("pi_", i+1), ClientSecret: "pi_1_secret"}, livestream.TransactionQueued)
		require.NoError(t, err)
		require.Equal(t, "pi_1", opened.PaymentIntentID, "the first one stays")
		stray := livestream.PaymentIntent{ID: "pi_2", ClientSecret: "pi_2_secret"}
		require.NoError(t, s.Transactions.SetIntent(ctx, tip.ID, stray, livestream.TransactionProcessing))
		require.NoError(t, s.Transactions.SetIntent(ctx, tip.ID, intent, livestream.TransactionRequiresAction))
		read, err := s.Transactions.ByID(ctx, tip.ID, sender.ID)
		require.NoError(t, err)
		tip.Status, tip.PaymentIntentID, tip.ClientSecret = livestream.TransactionRequiresAction, "pi_1", "pi_1_secret"
		require.Equal(t, tip, read)
	}

	at := now()
	available := at.Add(hold)
	tip.Status, tip.FeeAmount, tip.SettledAt, tip.AvailableAt = livestream.TransactionSucceeded, 55, &at, &available
	for later := range 2 {
		settled, err := s.Transactions.Settle(ctx, tip.ID, at.Add(time.Duration(later)*time.Hour), hold)
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
	_, err := s.Transactions.Settle(ctx, s.MustCreateTip(t, s.MustCreateUser(t).ID, recipient.ID, 500).ID, now(), hold)
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
		decided, err := s.Transactions.OpenIntent(ctx, tip.ID, livestream.PaymentIntent{ID: "pi"}, livestream.TransactionQueued)
		require.NoError(t, err)
		require.Equal(t, tip, decided, "an attempt that comes late changes nothing")
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
	settled, err := s.Transactions.Settle(ctx, tip.ID, now(), hold)
	require.NoError(t, err)
	require.Equal(t, livestream.TransactionSucceeded, settled.Status)
	require.Nil(t, settled.Failure)
}

func TestSettleAtOnceBooksOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t)
	tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, recipient.ID, 1000)
	for _, err := range race(40, func(int) error { _, err := s.Transactions.Settle(ctx, tip.ID, now(), hold); return err }) {
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
			_, err := s.Transactions.Settle(ctx, tip.ID, now(), hold)
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

// Attempts whose answers were lost make PaymentIntents at once; one of them is confirmed.
func TestOnePaymentIntentWins(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	won := make([]string, 20)
	for _, err := range race(len(won), func(i int) error {
		opened, err := s.Transactions.OpenIntent(ctx, tip.ID, livestream.PaymentIntent{ID: fmt.Sprint("pi_", i)}, livestream.TransactionQueued)
		won[i] = opened.PaymentIntentID
		return err
	}) {
		require.NoError(t, err)
	}
	for _, id := range won {
		require.NotEmpty(t, id)
		require.Equal(t, won[0], id)
	}
}

func TestTipIsReleasedOnceAfterItsHold(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	payment := s.MustPay(t, sender, recipient, 1000)
	s.mustBook(t, atStripe(payment, s.MustRefund(t, payment, 100), livestream.StripeRefundSucceeded))
	balances := func() []livestream.Balance {
		balances, err := s.Transactions.Balances(ctx, recipient)
		require.NoError(t, err)
		return balances
	}
	release := func(payment livestream.Transaction, at time.Time) livestream.Transaction {
		released, err := s.Transactions.Release(ctx, payment.ID, at)
		require.NoError(t, err)
		return released
	}
	require.Nil(t, release(payment, payment.AvailableAt.Add(-time.Second)).ReleasedAt)
	require.Equal(t, []livestream.Balance{{Currency: "eur", Pending: 810}}, balances())
	for _, err := range race(10, func(int) error { _, err := s.Transactions.Release(ctx, payment.ID, *payment.AvailableAt); return err }) {
		require.NoError(t, err)
	}
	require.Equal(t, []livestream.Balance{{Currency: "eur", Available: 810}}, balances())

	// What goes back after that is taken from where it is.
	s.mustBook(t, atStripe(payment, s.MustRefund(t, payment, 0), livestream.StripeRefundSucceeded))
	require.Equal(t, []livestream.Balance{{Currency: "eur"}}, balances())

	nothing := s.MustPay(t, sender, recipient, 500)
	s.mustBook(t, atStripe(nothing, s.MustRefund(t, nothing, 0), livestream.StripeRefundSucceeded))
	require.NotNil(t, release(nothing, *nothing.AvailableAt).ReleasedAt, "of what went back before, nothing is left to release")
	require.Equal(t, []livestream.Balance{{Currency: "eur"}}, balances())
	require.Nil(t, release(s.MustCreateTip(t, sender, recipient, 500), now().Add(time.Hour)).ReleasedAt)
}

func TestPayersHaveLimits(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t).ID
	create := func(sender uuid.UUID, amount int64, currency string, limits livestream.TipLimits) (livestream.NewTransaction, error) {
		tip := newTip(t, sender, recipient, amount)
		tip.Currency = currency
		_, err := s.Transactions.Create(ctx, tip, limits)
		return tip, err
	}
	age := func(tip livestream.NewTransaction, age string) {
		s.MustExec(t, "UPDATE transactions SET created_at = now() - $2::interval WHERE id = $1", tip.ID, age)
	}
	for name, c := range map[string]struct {
		limits livestream.TipLimits
		window string // after which there is room again
	}{
		"so many an hour":  {livestream.TipLimits{HourlyCount: 3}, "61 minutes"},
		"so many a day":    {livestream.TipLimits{DailyCount: 3}, "25 hours"},
		"so much an hour":  {livestream.TipLimits{HourlyAmount: 300}, "61 minutes"},
		"so much a day":    {livestream.TipLimits{DailyAmount: 399}, "25 hours"},
		"whichever is met": {livestream.TipLimits{HourlyCount: 3, DailyCount: 3, HourlyAmount: 1000, DailyAmount: 1000}, "25 hours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sender := s.MustCreateUser(t).ID
			first, err := create(sender, 100, "eur", c.limits)
			require.NoError(t, err)
			for range 2 {
				_, err := create(sender, 100, "eur", c.limits)
				require.NoError(t, err)
			}
			_, err = create(sender, 100, "eur", c.limits)
			requireCode(t, livestream.CodeTipLimitReached, err)
			_, err = s.Transactions.Create(ctx, first, c.limits)
			require.NoError(t, err, "what is there already is no tip more")
			_, err = create(s.MustCreateUser(t).ID, 100, "eur", c.limits)
			require.NoError(t, err, "each has limits of their own")
			age(first, c.window)
			_, err = create(sender, 100, "eur", c.limits)
			require.NoError(t, err)
		})
	}
	t.Run("amounts of one currency, of what has not failed", func(t *testing.T) {
		t.Parallel()
		sender, limits := s.MustCreateUser(t).ID, livestream.TipLimits{HourlyAmount: 100}
		tip, err := create(sender, 100, "eur", limits)
		require.NoError(t, err)
		_, err = create(sender, 100, "jpy", limits)
		require.NoError(t, err)
		_, err = s.Transactions.Fail(ctx, tip.ID, livestream.TransactionFailed, declined, now())
		require.NoError(t, err)
		_, err = create(sender, 100, "eur", limits)
		require.NoError(t, err)
	})
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		sender, made := s.MustCreateUser(t).ID, 0
		for _, err := range race(30, func(int) error {
			_, err := create(sender, 100, "eur", livestream.TipLimits{HourlyCount: 7})
			return err
		}) {
			if err == nil {
				made++
			} else {
				requireCode(t, livestream.CodeTipLimitReached, err)
			}
		}
		require.Equal(t, 7, made)
	})
}

func TestWhoIsBannedDoesNotTip(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	chats := postgres.NewChats(s.DB)
	sender, recipient, other := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	stream := s.MustCreateStream(t, recipient)
	create := func(to uuid.UUID) error {
		_, err := s.Transactions.Create(ctx, newTip(t, sender, to, 500), livestream.TipLimits{})
		return err
	}
	require.NoError(t, create(recipient))
	over := now().Add(-time.Minute)
	require.NoError(t, chats.Ban(ctx, livestream.ChatBan{StreamID: stream.ID, UserID: sender, By: recipient, Until: &over}))
	require.NoError(t, create(recipient), "that time is over")
	require.NoError(t, chats.Ban(ctx, livestream.ChatBan{StreamID: stream.ID, UserID: sender, By: recipient}))
	requireCode(t, livestream.CodeBanned, create(recipient))
	require.NoError(t, create(other), "another channel")
	require.NoError(t, chats.Unban(ctx, stream.ID, sender))
	require.NoError(t, create(recipient))
}
