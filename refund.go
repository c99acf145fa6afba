package livestream

import (
	"time"

	"github.com/google/uuid"
)

// RefundStatus is where a refund is.
type RefundStatus string

const (
	RefundQueued    RefundStatus = "queued"  // not at Stripe yet
	RefundPending   RefundStatus = "pending" // Stripe has it
	RefundSucceeded RefundStatus = "succeeded"
	RefundFailed    RefundStatus = "failed"
)

// MaxRefundReason is a reason's length in characters.
const MaxRefundReason = 255

// Refund is money of a payment that goes back to its payer.
type Refund struct {
	ID             uuid.UUID
	TransactionID  uuid.UUID
	Amount         int64 // minor units
	FeeAmount      int64 // what the platform gives back of its fee, once it is booked
	Reason         string
	Status         RefundStatus
	RequestedBy    *uuid.UUID // nil for an operator, and for what was made at Stripe
	StripeRefundID string
	Failure        *Failure
	CreatedAt      time.Time
	SettledAt      *time.Time
}

// NewRefund is a refund that somebody asked for.
type NewRefund struct {
	ID            uuid.UUID  `json:"id"`
	TransactionID uuid.UUID  `json:"transaction_id"`
	Amount        int64      `json:"amount"` // minor units; 0 is all that is left
	Reason        string     `json:"reason"`
	RequestedBy   *uuid.UUID `json:"requested_by,omitempty"` // nil for an operator
}

// FeeShare is what goes back of a fee when so much of an amount has gone back. It
// rounds down, and is the whole fee for the whole amount: refunds in parts that
// give back what is missing to it give back all of it in the end.
func FeeShare(fee, part, amount int64) int64 { return fee * part / amount }
