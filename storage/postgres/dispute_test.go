package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// disputeOf is what Stripe says of the dispute of a payment.
func disputeOf(payment livestream.Transaction, status livestream.StripeDisputeStatus) livestream.StripeDispute {
	return livestream.StripeDispute{
		ID: "dp_" + payment.ID.String(), Status: status, Amount: payment.Amount, Currency: payment.Currency, Reason: "fraudulent",
		PaymentIntentID: payment.PaymentIntentID,
	}
}

func (s *store) mustDispute(tb testing.TB, payment livestream.Transaction, status livestream.StripeDisputeStatus) livestream.Dispute {
	tb.Helper()
	booked, err := s.Disputes.Book(testenv.Context(tb), disputeOf(payment, status), now(), hold)
	require.NoError(tb, err)
	return booked
}

// accounts are what the ledger's accounts hold, of one creator and payer.
type accounts struct{ card, fee, pending, available, disputes int64 }

func (s *store) accounts(tb testing.TB, sender, recipient uuid.UUID) accounts {
	tb.Helper()
	return accounts{
		balance(tb, s, "card", sender, "eur"), balance(tb, s, "platform_fee", uuid.Nil, "eur"),
		balance(tb, s, "creator_pending", recipient, "eur"), balance(tb, s, "creator_available", recipient, "eur"), balance(tb, s, "disputes", uuid.Nil, "eur"),
	}
}

func TestDisputeMovesTheMoneyOnce(t *testing.T) {
	t.Parallel()
	paid := accounts{card: -500, fee: 50, pending: 450}
	held := accounts{card: -500, disputes: 500}
	for name, c := range map[string]struct {
		told []livestream.StripeDisputeStatus // in the order in which it comes
		want accounts
	}{
		"an inquiry takes nothing": {[]livestream.StripeDisputeStatus{livestream.DisputeWarningNeedsResponse, livestream.DisputeWarningClosed}, paid},
		"it is open":               {[]livestream.StripeDisputeStatus{livestream.DisputeNeedsResponse, livestream.DisputeUnderReview, livestream.DisputeNeedsResponse}, held},
		"it is won":                {[]livestream.StripeDisputeStatus{livestream.DisputeNeedsResponse, livestream.DisputeWon, livestream.DisputeWon}, paid},
		"it is lost":               {[]livestream.StripeDisputeStatus{livestream.DisputeNeedsResponse, livestream.DisputeLost, livestream.DisputeLost}, accounts{}},
		"it is lost, then won":     {[]livestream.StripeDisputeStatus{livestream.DisputeNeedsResponse, livestream.DisputeLost, livestream.DisputeWon, livestream.DisputeLost, livestream.DisputeWon}, paid},
		"only its ends are told":   {[]livestream.StripeDisputeStatus{livestream.DisputeLost, livestream.DisputeWon}, paid},
		"only its end is told":     {[]livestream.StripeDisputeStatus{livestream.DisputeLost, livestream.DisputeNeedsResponse}, accounts{}},
		"its end is told first":    {[]livestream.StripeDisputeStatus{livestream.DisputeWon, livestream.DisputeNeedsResponse, livestream.DisputeUnderReview}, paid},
		"an inquiry becomes one":   {[]livestream.StripeDisputeStatus{livestream.DisputeWarningUnderReview, livestream.DisputeNeedsResponse}, held},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
			payment := s.MustPay(t, sender, recipient, 500)
			for _, status := range c.told {
				s.mustDispute(t, payment, status)
			}
			require.Equal(t, c.want, s.accounts(t, sender, recipient))
			after, err := s.Transactions.Any(testenv.Context(t), payment.ID)
			require.NoError(t, err)
			require.Equal(t, livestream.TransactionSucceeded, after.Status)
			require.EqualValues(t, 50-c.want.fee, after.FeeRefunded)
		})
	}
}

func TestDisputeIsTakenFromWhereTheMoneyIs(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	payment := s.MustPay(t, sender, recipient, 500)
	s.mustDispute(t, payment, livestream.DisputeNeedsResponse)
	_, err := s.Transactions.Release(ctx, payment.ID, payment.AvailableAt.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, accounts{card: -500, disputes: 500}, s.accounts(t, sender, recipient), "what the bank holds is not released")
	s.mustDispute(t, payment, livestream.DisputeWon)
	require.Equal(t, accounts{card: -500, fee: 50, available: 450}, s.accounts(t, sender, recipient), "its time was over")
}

func TestDisputeIsWonAfterAllOnceTheMoneyWasReleased(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	payment := s.MustPay(t, sender, recipient, 500)
	lost := s.mustDispute(t, payment, livestream.DisputeLost)
	require.Equal(t, accounts{}, s.accounts(t, sender, recipient))
	_, err := s.Transactions.Release(ctx, payment.ID, payment.AvailableAt.Add(time.Hour))
	require.NoError(t, err)
	won := s.mustDispute(t, payment, livestream.DisputeWon)
	require.Equal(t, livestream.DisputeWon, won.Status)
	require.Equal(t, lost.HeldAt, won.HeldAt)
	require.Equal(t, accounts{card: -500, fee: 50, available: 450}, s.accounts(t, sender, recipient))
	_, err = s.Refunds.Create(ctx, livestream.NewRefund{ID: uuid.New(), TransactionID: payment.ID})
	require.NoError(t, err, "it can be given back as if nothing had been")
}

func TestDisputeAfterARefundGivesTheFeeOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	payment := s.MustPay(t, sender, recipient, 500)
	s.mustBook(t, atStripe(payment, s.MustRefund(t, payment, 200), livestream.StripeRefundSucceeded))
	require.EqualValues(t, 30, s.mustDispute(t, payment, livestream.DisputeLost).FeeAmount, "20 of 50 have gone back")
	require.Equal(t, accounts{pending: -200}, s.accounts(t, sender, recipient), "the creator owes what went to the payer twice")
}

func TestDisputeOfSomethingElse(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	payment := s.MustPay(t, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, 500)
	foreign := disputeOf(payment, livestream.DisputeLost)
	foreign.PaymentIntentID = "pi_of_somebody_else"
	_, err := s.Disputes.Book(ctx, foreign, now(), hold)
	requireCode(t, livestream.CodeTransactionNotFound, err)
	foreign = disputeOf(payment, livestream.DisputeLost)
	foreign.Currency = "usd"
	_, err = s.Disputes.Book(ctx, foreign, now(), hold)
	require.ErrorContains(t, err, "in usd")
}

func TestDisputeAtOnceIsBookedOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sender, recipient := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	payment := s.MustPay(t, sender, recipient, 500)
	for _, err := range race(30, func(i int) error {
		status := []livestream.StripeDisputeStatus{livestream.DisputeNeedsResponse, livestream.DisputeUnderReview, livestream.DisputeLost}[i%3]
		_, err := s.Disputes.Book(testenv.Context(t), disputeOf(payment, status), now(), hold)
		return err
	}) {
		require.NoError(t, err)
	}
	require.Equal(t, accounts{}, s.accounts(t, sender, recipient))
}
