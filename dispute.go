package livestream

import (
	"time"

	"github.com/google/uuid"
)

// Dispute is a payment whose payer went to their bank.
type Dispute struct {
	ID            string // Stripe's
	TransactionID uuid.UUID
	Amount        int64 // minor units
	FeeAmount     int64 // what of it is the platform's fee
	Reason        string
	Status        StripeDisputeStatus
	CreatedAt     time.Time
	HeldAt        *time.Time // when it was taken from the creator; nil for an inquiry
	ClosedAt      *time.Time // when it came back, or was gone
}
