package activities

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// RefundStore is what a refund's steps need of the database.
type RefundStore interface {
	Create(ctx context.Context, refund livestream.NewRefund) (livestream.Refund, error)
	Book(ctx context.Context, refund livestream.StripeRefund, now time.Time, hold time.Duration) (livestream.Refund, error)
	Fail(ctx context.Context, id uuid.UUID, failure livestream.Failure) (livestream.Refund, error)
	Withdraw(ctx context.Context, transactionID, id uuid.UUID) error
}

// TransactionReader reads a payment, whoever asks.
type TransactionReader interface {
	Any(ctx context.Context, id uuid.UUID) (livestream.Transaction, error)
}

// RefundProvider is Stripe, where money goes back.
type RefundProvider interface {
	Refund(ctx context.Context, request livestream.RefundRequest) (livestream.StripeRefund, error)
	RefundByID(ctx context.Context, id string) (livestream.StripeRefund, error)
	RefundsOf(ctx context.Context, paymentIntentID string) ([]livestream.StripeRefund, error)
}

// Refunds are the steps of a refund.
type Refunds struct {
	Store    RefundStore
	Payments TransactionReader
	Stripe   RefundProvider
	Now      func() time.Time
	Hold     time.Duration // see Transactions
}

// RefundRow is what a workflow needs of a refund's row.
type RefundRow struct {
	Status    livestream.RefundStatus `json:"status"`
	Amount    int64                   `json:"amount"` // minor units
	Currency  string                  `json:"currency"`
	IntentID  string                  `json:"intent_id"`
	StripeID  string                  `json:"stripe_id"` // empty before Stripe has it
	Failure   *livestream.Failure     `json:"failure,omitempty"`
	CreatedAt time.Time               `json:"created_at"`
}

// CreateRefund promises a refund. One that is there is left as it is.
func (a *Refunds) CreateRefund(ctx context.Context, refund livestream.NewRefund) (RefundRow, error) {
	row, err := a.Store.Create(ctx, refund)
	if err != nil {
		return RefundRow{}, edge(err)
	}
	payment, err := a.Payments.Any(ctx, refund.TransactionID)
	if err != nil {
		return RefundRow{}, edge(err)
	}
	out := refundRowOf(row)
	out.Currency, out.IntentID = payment.Currency, payment.PaymentIntentID
	return out, nil
}

// WithdrawRefund takes back a promise that nobody was told of, if there is one.
func (a *Refunds) WithdrawRefund(ctx context.Context, transactionID, id uuid.UUID) error {
	return edge(unless(a.Store.Withdraw(ctx, transactionID, id), livestream.CodeTransactionNotFound))
}

func refundRowOf(row livestream.Refund) RefundRow {
	return RefundRow{Status: row.Status, Amount: row.Amount, StripeID: row.StripeRefundID, Failure: row.Failure, CreatedAt: row.CreatedAt}
}

// SendRefund asks Stripe for the refund, unless Stripe has it already: an answer may
// have been lost, and another key would give the money back twice. Stripe's list of a
// payment's refunds does not lag. It books nothing: see LookAtRefund.
func (a *Refunds) SendRefund(ctx context.Context, request livestream.RefundRequest) (string, error) {
	made, err := a.Stripe.RefundsOf(ctx, request.PaymentIntentID)
	if err != nil {
		return "", edgeSpread(ctx, ours(err))
	}
	payment, err := a.Payments.Any(ctx, request.TransactionID)
	if err != nil {
		return "", edge(err)
	}
	left := payment.Amount
	for _, refund := range made {
		if refund.RefundID == request.RefundID {
			return refund.ID, nil
		}
		if refund.Status != livestream.StripeRefundFailed && refund.Status != livestream.StripeRefundCanceled {
			left -= refund.Amount
		}
	}
	if request.Amount > left { // somebody was faster at Stripe's dashboard
		return "", edge(livestream.Errorf(livestream.CodeRefundExceedsCharge, "of this payment %d are left at Stripe", left))
	}
	refund, err := a.Stripe.Refund(ctx, request)
	return refund.ID, edgeSpread(ctx, ours(err))
}

// LookAtRefund asks Stripe where the refund is, and books what is so.
func (a *Refunds) LookAtRefund(ctx context.Context, stripeID string) (RefundRow, error) {
	refund, err := a.Stripe.RefundByID(ctx, stripeID)
	if err != nil {
		return RefundRow{}, edge(ours(err))
	}
	row, err := a.Store.Book(ctx, refund, a.Now(), a.Hold)
	return refundRowOf(row), edge(err)
}

// FailRefund ends a refund that Stripe refused, and says why.
func (a *Refunds) FailRefund(ctx context.Context, id uuid.UUID, failure livestream.Failure) error {
	_, err := a.Store.Fail(ctx, id, failure)
	return edge(err)
}
