package livestream

import (
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ErrStripeFailed says that Stripe has repeated an error of its own: nothing is under
// way any more, and the answer stays the same under its key.
var ErrStripeFailed = errors.New("stripe failed by itself")

// PaymentIntentStatus is Stripe's own word for where a payment is.
type PaymentIntentStatus string

const (
	IntentRequiresPaymentMethod PaymentIntentStatus = "requires_payment_method"
	IntentRequiresConfirmation  PaymentIntentStatus = "requires_confirmation"
	IntentRequiresAction        PaymentIntentStatus = "requires_action"
	IntentProcessing            PaymentIntentStatus = "processing"
	IntentSucceeded             PaymentIntentStatus = "succeeded"
	IntentCanceled              PaymentIntentStatus = "canceled"
)

// PaymentIntent is what Stripe says of a payment.
type PaymentIntent struct {
	ID            string
	ClientSecret  string
	Status        PaymentIntentStatus
	Amount        int64 // minor units, as are all amounts here
	Currency      string
	Failure       *Failure  // of the last attempt; nil when there was none
	TransactionID uuid.UUID // from its metadata; zero when it is not ours
	WorkflowID    string    // from its metadata
	CreatedAt     time.Time
}

// Charge asks Stripe for a payment. Key makes it happen once, however often it
// is asked for; the other fields must be the same each time.
type Charge struct {
	Key           string
	TransactionID uuid.UUID
	WorkflowID    string
	Amount        int64
	Currency      string
	Description   string
}

// StripeRefundStatus is Stripe's own word for where a refund is.
type StripeRefundStatus string

const (
	StripeRefundPending        StripeRefundStatus = "pending"
	StripeRefundRequiresAction StripeRefundStatus = "requires_action"
	StripeRefundSucceeded      StripeRefundStatus = "succeeded" // which may still turn to failed, for weeks
	StripeRefundFailed         StripeRefundStatus = "failed"
	StripeRefundCanceled       StripeRefundStatus = "canceled"
)

// StripeRefund is what Stripe says of a refund.
type StripeRefund struct {
	ID              string
	Status          StripeRefundStatus
	Amount          int64
	Currency        string
	PaymentIntentID string
	RefundID        uuid.UUID // ours, from its metadata; zero when it was made elsewhere
	TransactionID   uuid.UUID // from its metadata; zero when it was made elsewhere
	WorkflowID      string    // from its metadata
	Failure         *Failure  // why it failed; nil unless it did
	CreatedAt       time.Time
}

// RefundRequest asks Stripe to give money back. Key makes it happen once, however
// often it is asked for; the other fields must be the same each time.
type RefundRequest struct {
	Key             string
	RefundID        uuid.UUID
	TransactionID   uuid.UUID
	WorkflowID      string
	PaymentIntentID string
	Amount          int64
	Reason          string // noted on the refund; up to 500 characters, may be empty
}

// StripeDisputeStatus is Stripe's own word for where a dispute is.
type StripeDisputeStatus string

// What begins with "warning" is a bank's inquiry: no money has moved, and none will
// unless it becomes a dispute.
const (
	DisputeWarningNeedsResponse StripeDisputeStatus = "warning_needs_response"
	DisputeWarningUnderReview   StripeDisputeStatus = "warning_under_review"
	DisputeWarningClosed        StripeDisputeStatus = "warning_closed"
	DisputeNeedsResponse        StripeDisputeStatus = "needs_response"
	DisputeUnderReview          StripeDisputeStatus = "under_review"
	DisputeWon                  StripeDisputeStatus = "won" // also one that was lost, once its money is given back
	DisputeLost                 StripeDisputeStatus = "lost"
)

// Open says whether Stripe holds the money until the bank has decided.
func (s StripeDisputeStatus) Open() bool {
	return s == DisputeNeedsResponse || s == DisputeUnderReview
}

// StripeDispute is what Stripe says of a payer who went to their bank.
type StripeDispute struct {
	ID              string
	Status          StripeDisputeStatus
	Amount          int64
	Currency        string
	Reason          string
	PaymentIntentID string
	CreatedAt       time.Time
}

// StripeEvent is a webhook whose signature was verified. What it is about has
// ids of Stripe's own; those that it does not tell are empty.
type StripeEvent struct {
	ID              string
	Type            string
	CreatedAt       time.Time
	Object          string // payment_intent, charge, refund, dispute …
	PaymentIntentID string
	RefundID        string
	DisputeID       string
	WorkflowID      string // from the object's metadata
	Payload         []byte
}

// Awaited says whether a workflow may wait for an event, or has to look at what it is
// about. The others are kept, and no more.
func (e StripeEvent) Awaited() bool { return e.Followed() || e.MovesMoney() }

// Followed says whether an event is about what a workflow follows while it is open.
func (e StripeEvent) Followed() bool {
	return e.WorkflowID != "" && (e.Object == "payment_intent" || e.Object == "refund")
}

// MovesMoney says whether an event may change what is booked.
func (e StripeEvent) MovesMoney() bool {
	switch e.Type {
	case "payment_intent.succeeded", "charge.refunded", "charge.refund.updated":
		return true
	}
	return strings.HasPrefix(e.Type, "refund.") || strings.HasPrefix(e.Type, "charge.dispute.")
}
