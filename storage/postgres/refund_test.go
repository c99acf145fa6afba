package postgres_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// MustPay makes a tip of so much that is paid; its PaymentIntent is named after it.
func (s *store) MustPay(tb testing.TB, sender, recipient uuid.UUID, amount int64) livestream.Transaction {
	tb.Helper()
	ctx := testenv.Context(tb)
	tip := s.MustCreateTip(tb, sender, recipient, amount)
	s.MustOpenIntent(tb, tip.ID, "pi_"+tip.ID.String())
	paid, err := s.Transactions.Settle(ctx, tip.ID, now(), hold)
	require.NoError(tb, err)
	return paid
}

// MustOpenIntent gives a tip its PaymentIntent.
func (s *store) MustOpenIntent(tb testing.TB, tip uuid.UUID, intent string) {
	tb.Helper()
	_, err := s.Transactions.OpenIntent(testenv.Context(tb), tip, livestream.PaymentIntent{ID: intent}, livestream.TransactionProcessing)
	require.NoError(tb, err)
}

// MustRefund promises a refund of so much.
func (s *store) MustRefund(tb testing.TB, payment livestream.Transaction, amount int64) livestream.Refund {
	tb.Helper()
	refund, err := s.Refunds.Create(testenv.Context(tb), livestream.NewRefund{ID: newID(tb), TransactionID: payment.ID, Amount: amount})
	require.NoError(tb, err)
	return refund
}

// atStripe is what Stripe says of a refund of ours.
func atStripe(payment livestream.Transaction, refund livestream.Refund, status livestream.StripeRefundStatus) livestream.StripeRefund {
	return livestream.StripeRefund{
		ID: "re_" + refund.ID.String(), Status: status, Amount: refund.Amount, Currency: payment.Currency, PaymentIntentID: payment.PaymentIntentID,
		RefundID: refund.ID, TransactionID: payment.ID,
	}
}

func (s *store) mustBook(tb testing.TB, refund livestream.StripeRefund) livestream.Refund {
	tb.Helper()
	booked, err := s.Refunds.Book(testenv.Context(tb), refund, now(), hold)
	require.NoError(tb, err)
	return booked
}

func TestRefundIsBookedOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	payment := s.MustPay(t, sender, recipient, 1000)
	refund := s.MustRefund(t, payment, 300)
	require.Equal(t, livestream.RefundQueued, refund.Status)
	require.EqualValues(t, 900, balance(t, s, "creator_pending", recipient, "eur"), "a promise moves no money")

	require.Equal(t, livestream.RefundPending, s.mustBook(t, atStripe(payment, refund, livestream.StripeRefundPending)).Status)
	for range 3 {
		booked := s.mustBook(t, atStripe(payment, refund, livestream.StripeRefundSucceeded))
		require.Equal(t, livestream.RefundSucceeded, booked.Status)
		require.EqualValues(t, 30, booked.FeeAmount)
	}
	require.Equal(t, livestream.RefundSucceeded, s.mustBook(t, atStripe(payment, refund, livestream.StripeRefundPending)).Status, "an old event")
	after, err := s.Transactions.Any(ctx, payment.ID)
	require.NoError(t, err)
	require.Equal(t, livestream.TransactionSucceeded, after.Status)
	require.EqualValues(t, 300, after.RefundedAmount)
	require.EqualValues(t, 900-270, balance(t, s, "creator_pending", recipient, "eur"))
	require.EqualValues(t, 100-30, balance(t, s, "platform_fee", uuid.Nil, "eur"))
	require.EqualValues(t, 300, balance(t, s, "refunds", uuid.Nil, "eur"))
	require.EqualValues(t, -1000, balance(t, s, "card", sender, "eur"))
	balances, err := s.Transactions.Balances(ctx, recipient)
	require.NoError(t, err)
	require.Equal(t, []livestream.Balance{{Currency: "eur", Pending: 630}}, balances)
}

// However a payment is given back in parts, the whole fee goes back with the whole
// amount, and the creator is left with nothing, to the cent.
func TestFeeGoesBackInProportion(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	for _, parts := range [][]int64{{999}, {333, 333, 333}, {1, 1, 997}, {7, 11, 13, 968}, {998, 1}, {500, 499}} {
		payment := s.MustPay(t, sender, recipient, 999) // the fee is 99
		for i, part := range parts {
			booked := s.mustBook(t, atStripe(payment, s.MustRefund(t, payment, part), livestream.StripeRefundSucceeded))
			require.InDelta(t, float64(part)*99/999, float64(booked.FeeAmount), 1, "part %d of %v", i, parts)
		}
		after, err := s.Transactions.Any(ctx, payment.ID)
		require.NoError(t, err)
		require.Equal(t, livestream.TransactionRefunded, after.Status)
		require.EqualValues(t, 999, after.RefundedAmount)
		require.EqualValues(t, 99, after.FeeRefunded)
		require.Zero(t, balance(t, s, "creator_pending", recipient, "eur"))
		require.Zero(t, balance(t, s, "platform_fee", uuid.Nil, "eur"))
	}
}

func TestRefundIsNeverMoreThanWasPaid(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	create := func(payment uuid.UUID, amount int64) error {
		_, err := s.Refunds.Create(ctx, livestream.NewRefund{ID: newID(t), TransactionID: payment, Amount: amount})
		return err
	}
	requireCode(t, livestream.CodeTransactionNotFound, create(newID(t), 1))
	requireCode(t, livestream.CodeRefundExceedsCharge, create(s.MustCreateTip(t, sender, recipient, 500).ID, 1))
	payment := s.MustPay(t, sender, recipient, 500)
	requireCode(t, livestream.CodeRefundExceedsCharge, create(payment.ID, 501))

	// Fifty at once of a tenth each: ten of them.
	made := 0
	for _, err := range race(50, func(int) error { return create(payment.ID, 50) }) {
		if err == nil {
			made++
		} else {
			requireCode(t, livestream.CodeAlreadyRefunded, err)
		}
	}
	require.Equal(t, 10, made)
	require.EqualValues(t, 500, s.Number(t, "SELECT sum(amount)::bigint FROM refunds"))
}

func TestRefundWithoutAmountIsAllThatIsLeft(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	payment := s.MustPay(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	s.MustRefund(t, payment, 120)
	refund := s.MustRefund(t, payment, 0)
	require.EqualValues(t, 380, refund.Amount)
	again, err := s.Refunds.Create(testenv.Context(t), livestream.NewRefund{ID: refund.ID, TransactionID: payment.ID})
	require.NoError(t, err)
	require.Equal(t, refund, again, "creating it again changes nothing")
	read, err := s.Refunds.ByID(testenv.Context(t), refund.ID)
	require.NoError(t, err)
	require.Equal(t, refund, read)
}

func TestRefundThatComesBackIsBookedBack(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t).ID
	payment := s.MustPay(t, s.MustCreateUser(t).ID, recipient, 500)
	refund := s.MustRefund(t, payment, 0)
	s.mustBook(t, atStripe(payment, refund, livestream.StripeRefundSucceeded))
	require.Zero(t, balance(t, s, "creator_pending", recipient, "eur"))

	failed := atStripe(payment, refund, livestream.StripeRefundFailed)
	failed.Failure = &livestream.Failure{Code: "lost_or_stolen_card", Message: "The payer's bank did not take the refund."}
	for range 2 {
		require.Equal(t, failed.Failure, s.mustBook(t, failed).Failure)
	}
	s.mustBook(t, atStripe(payment, refund, livestream.StripeRefundSucceeded)) // an old event
	after, err := s.Transactions.Any(ctx, payment.ID)
	require.NoError(t, err)
	require.Equal(t, livestream.TransactionSucceeded, after.Status)
	require.Zero(t, after.RefundedAmount)
	require.EqualValues(t, 450, balance(t, s, "creator_pending", recipient, "eur"))
	require.EqualValues(t, 50, balance(t, s, "platform_fee", uuid.Nil, "eur"))
	require.Zero(t, balance(t, s, "refunds", uuid.Nil, "eur"))
	require.EqualValues(t, 500, s.MustRefund(t, payment, 0).Amount, "it can be tried again")
}

func TestRefundThatStripeRefusesIsLeftToAnother(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	payment := s.MustPay(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	refund := s.MustRefund(t, payment, 0)
	refused := livestream.Failure{Code: "charge_disputed", Message: "The charge has been charged back."}
	for range 2 {
		failed, err := s.Refunds.Fail(ctx, refund.ID, refused)
		require.NoError(t, err)
		require.Equal(t, livestream.RefundFailed, failed.Status)
		require.Equal(t, &refused, failed.Failure)
	}
	require.EqualValues(t, 500, s.MustRefund(t, payment, 0).Amount)
	_, err := s.Refunds.Fail(ctx, newID(t), refused)
	requireCode(t, livestream.CodeRefundNotFound, err)
	_, err = s.Refunds.ByID(ctx, newID(t))
	requireCode(t, livestream.CodeRefundNotFound, err)

	taken := s.MustRefund(t, s.MustPay(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500), 0)
	paid, err := s.Transactions.Any(ctx, taken.TransactionID)
	require.NoError(t, err)
	s.mustBook(t, atStripe(paid, taken, livestream.StripeRefundSucceeded))
	stays, err := s.Refunds.Fail(ctx, taken.ID, refused)
	require.NoError(t, err)
	require.Equal(t, livestream.RefundSucceeded, stays.Status)
}

// Somebody gives money back at Stripe's dashboard, and the payment's own event was lost.
func TestRefundMadeAtStripeIsBookedWithItsPayment(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient := s.MustCreateUser(t).ID
	tip := s.MustCreateTip(t, s.MustCreateUser(t).ID, recipient, 500)
	s.MustOpenIntent(t, tip.ID, "pi_1")
	foreign := livestream.StripeRefund{ID: "re_dashboard", Status: livestream.StripeRefundSucceeded, Amount: 200, Currency: "eur", PaymentIntentID: "pi_1"}
	for _, err := range race(10, func(int) error { _, err := s.Refunds.Book(ctx, foreign, now(), hold); return err }) {
		require.NoError(t, err)
	}
	after, err := s.Transactions.Any(ctx, tip.ID)
	require.NoError(t, err)
	require.Equal(t, livestream.TransactionSucceeded, after.Status)
	require.EqualValues(t, 200, after.RefundedAmount)
	require.EqualValues(t, 450-180, balance(t, s, "creator_pending", recipient, "eur"))
	require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM refunds"))

	foreign.PaymentIntentID = "pi_of_somebody_else"
	_, err = s.Refunds.Book(ctx, foreign, now(), hold)
	requireCode(t, livestream.CodeTransactionNotFound, err)
	foreign.PaymentIntentID, foreign.ID, foreign.Currency = "pi_1", "re_2", "usd"
	_, err = s.Refunds.Book(ctx, foreign, now(), hold)
	require.ErrorContains(t, err, "in usd", "currencies never mix")
}

func TestBalancesAreKeptWithTheirEntries(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, b := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	payments := make([]livestream.Transaction, 30)
	for i := range payments {
		from, to := a, b
		if i%2 == 0 {
			from, to = to, from
		}
		payments[i] = s.MustCreateTip(t, from, to, int64(100+i))
		payments[i].PaymentIntentID = "pi_" + payments[i].ID.String()
		s.MustOpenIntent(t, payments[i].ID, payments[i].PaymentIntentID)
	}
	for _, err := range race(len(payments), func(i int) error {
		foreign := livestream.StripeRefund{ID: "re_" + payments[i].ID.String(), Status: livestream.StripeRefundSucceeded, Amount: 33, Currency: "eur", PaymentIntentID: payments[i].PaymentIntentID}
		_, err := s.Refunds.Book(testenv.Context(t), foreign, now(), hold)
		return err
	}) {
		require.NoError(t, err)
	}
	require.Zero(t, s.Number(t, `SELECT count(*) FROM ledger_balances b
		WHERE b.amount <> (SELECT sum(e.amount) FROM ledger_entries e WHERE e.account_id = b.account_id)`))
	require.EqualValues(t, 2, s.Number(t, "SELECT count(*) FROM ledger_balances"))
}

// Stripe forgets a key after a day, and may then make a second refund of one promise:
// both gave money back.
func TestSecondRefundOfOnePromiseIsBookedToo(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	recipient := s.MustCreateUser(t).ID
	payment := s.MustPay(t, s.MustCreateUser(t).ID, recipient, 1000)
	refund := s.MustRefund(t, payment, 300)
	first := atStripe(payment, refund, livestream.StripeRefundSucceeded)
	second := first
	second.ID += "_2"
	for range 2 {
		require.Equal(t, refund.ID, s.mustBook(t, first).ID)
		require.NotEqual(t, refund.ID, s.mustBook(t, second).ID)
	}
	require.EqualValues(t, 600, balance(t, s, "refunds", uuid.Nil, "eur"))
	require.EqualValues(t, 2, s.Number(t, "SELECT count(*) FROM refunds"))
}

func TestWithdrawnPromiseLeavesTheMoneyToOthers(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	payment := s.MustPay(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	taken := s.MustRefund(t, payment, 500)
	for range 2 {
		require.NoError(t, s.Refunds.Withdraw(ctx, payment.ID, taken.ID))
	}
	_, err := s.Refunds.ByID(ctx, taken.ID)
	requireCode(t, livestream.CodeRefundNotFound, err)

	kept := s.MustRefund(t, payment, 500)
	s.mustBook(t, atStripe(payment, kept, livestream.StripeRefundPending))
	require.NoError(t, s.Refunds.Withdraw(ctx, payment.ID, kept.ID), "Stripe has it: it stays")
	_, err = s.Refunds.ByID(ctx, kept.ID)
	require.NoError(t, err)
}
