package activities

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// EventPayments is what an event of Stripe's needs of payments.
type EventPayments interface {
	ByIntent(ctx context.Context, intentID string) (livestream.Transaction, error)
	Settle(ctx context.Context, id uuid.UUID, now time.Time, hold time.Duration) (livestream.Transaction, error)
}

// RefundBooker books what Stripe says of a refund.
type RefundBooker interface {
	Book(ctx context.Context, refund livestream.StripeRefund, now time.Time, hold time.Duration) (livestream.Refund, error)
}

// DisputeBooker books what Stripe says of a dispute.
type DisputeBooker interface {
	Book(ctx context.Context, dispute livestream.StripeDispute, now time.Time, hold time.Duration) (livestream.Dispute, error)
}

// EventProvider is Stripe, where what an event is about is looked up.
type EventProvider interface {
	PaymentIntent(ctx context.Context, id string) (livestream.PaymentIntent, error)
	RefundByID(ctx context.Context, id string) (livestream.StripeRefund, error)
	RefundsOf(ctx context.Context, paymentIntentID string) ([]livestream.StripeRefund, error)
	Dispute(ctx context.Context, id string) (livestream.StripeDispute, error)
}

// StripeEvents is the step of an event of Stripe's that no open workflow waits for.
type StripeEvents struct {
	Payments EventPayments
	Refunds  RefundBooker
	Disputes DisputeBooker
	Stripe   EventProvider
	Now      func() time.Time
	Hold     time.Duration // see Transactions
}

// StripeEvent is what a workflow knows of an event: what it is about.
type StripeEvent struct {
	Type            string `json:"type"`
	Object          string `json:"object"`
	PaymentIntentID string `json:"payment_intent_id"`
	RefundID        string `json:"refund_id"`
	DisputeID       string `json:"dispute_id"`
}

// Applied is what came of an event.
type Applied struct {
	TransactionID uuid.UUID  `json:"transaction_id"`         // zero when it is about nothing of ours
	AvailableAt   *time.Time `json:"available_at,omitempty"` // nil once the payment is released
}

// ApplyEvent looks at Stripe at what an event is about, and books what is so: once,
// however often it comes, and in whatever order.
func (a *StripeEvents) ApplyEvent(ctx context.Context, event StripeEvent) (Applied, error) {
	intentID, err := a.apply(ctx, event)
	if err != nil {
		return Applied{}, edge(ours(unless(err, livestream.CodeTransactionNotFound)))
	}
	payment, err := a.Payments.ByIntent(ctx, intentID)
	if err != nil {
		return Applied{}, edge(unless(err, livestream.CodeTransactionNotFound))
	}
	out := Applied{TransactionID: payment.ID}
	if payment.ReleasedAt == nil {
		out.AvailableAt = payment.AvailableAt
	}
	return out, nil
}

func (a *StripeEvents) apply(ctx context.Context, event StripeEvent) (intentID string, err error) {
	switch event.Object {
	case "dispute":
		dispute, err := a.Stripe.Dispute(ctx, event.DisputeID)
		if err == nil {
			_, err = a.Disputes.Book(ctx, dispute, a.Now(), a.Hold)
		}
		return dispute.PaymentIntentID, err
	case "refund":
		refund, err := a.Stripe.RefundByID(ctx, event.RefundID)
		if err == nil {
			_, err = a.Refunds.Book(ctx, refund, a.Now(), a.Hold)
		}
		return refund.PaymentIntentID, err
	case "charge":
		refunds, err := a.Stripe.RefundsOf(ctx, event.PaymentIntentID)
		for _, refund := range refunds {
			if err == nil {
				_, err = a.Refunds.Book(ctx, refund, a.Now(), a.Hold)
			}
		}
		return event.PaymentIntentID, err
	}
	intent, err := a.Stripe.PaymentIntent(ctx, event.PaymentIntentID)
	if err != nil || intent.Status != livestream.IntentSucceeded {
		return intent.ID, err
	}
	payment, err := a.Payments.ByIntent(ctx, intent.ID)
	if err == nil {
		_, err = a.Payments.Settle(ctx, payment.ID, a.Now(), a.Hold)
	}
	return intent.ID, err
}
