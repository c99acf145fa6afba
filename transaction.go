package livestream

import (
	"time"

	"github.com/google/uuid"
)

// TransactionStatus is where a payment is.
type TransactionStatus string

const (
	TransactionQueued         TransactionStatus = "queued"
	TransactionRequiresAction TransactionStatus = "requires_action"
	TransactionProcessing     TransactionStatus = "processing"
	TransactionSucceeded      TransactionStatus = "succeeded"
	TransactionFailed         TransactionStatus = "failed"
	TransactionCanceled       TransactionStatus = "canceled"
	TransactionRefunded       TransactionStatus = "refunded"
)

// Final says whether a payment has been decided.
func (s TransactionStatus) Final() bool {
	switch s {
	case TransactionSucceeded, TransactionFailed, TransactionCanceled, TransactionRefunded:
		return true
	}
	return false
}

// Limits of a tip, in minor units.
const (
	MinTipAmount     = 50
	MaxTipAmount     = 99_999_999
	MaxTipMessage    = 255
	MaxIdempotencyID = 255
)

// AmountRange is what a tip may be in one currency, in minor units.
type AmountRange struct{ Min, Max int64 }

// TipLimits are what one payer may begin within an hour and within a day. Every tip
// counts, so that nobody tries out cards here; amounts are those of one currency, in
// minor units, of what has not failed. Zero is no limit.
type TipLimits struct {
	HourlyCount, DailyCount   int64
	HourlyAmount, DailyAmount int64
}

// TransactionKind is what a payment is for.
type TransactionKind string

// KindTip is a viewer's gift to a creator.
const KindTip TransactionKind = "tip"

// PlatformFeePercent is what the platform keeps of a tip.
const PlatformFeePercent = 10

// PlatformFee is the fee on an amount in minor units, rounded down, so that the
// creator never gets less than the percentage promises.
func PlatformFee(amount int64) int64 { return amount * PlatformFeePercent / 100 }

// Transaction is one payment from a viewer to a creator.
type Transaction struct {
	ID              uuid.UUID
	Status          TransactionStatus
	Kind            TransactionKind
	Amount          int64 // minor units
	Currency        string
	SenderID        uuid.UUID
	RecipientID     uuid.UUID
	StreamID        *uuid.UUID
	Message         string
	Failure         *Failure
	FeeAmount       int64
	FeeRefunded     int64 // what went back of it, with refunds
	RefundedAmount  int64
	PaymentIntentID string
	ClientSecret    string // for the sender alone
	WorkflowID      string
	CreatedAt       time.Time
	SettledAt       *time.Time
	AvailableAt     *time.Time // when the creator's part becomes theirs to use
	ReleasedAt      *time.Time // when it did
}

// NewTransaction is a payment that a viewer asked for, validated.
type NewTransaction struct {
	ID            uuid.UUID       `json:"id"`
	WorkflowID    string          `json:"workflow_id"`
	Kind          TransactionKind `json:"kind"`
	Amount        int64           `json:"amount"`
	Currency      string          `json:"currency"`
	SenderID      uuid.UUID       `json:"sender_id"`
	RecipientID   uuid.UUID       `json:"recipient_id"`
	StreamID      *uuid.UUID      `json:"stream_id,omitempty"`
	Message       string          `json:"message"`
	PaymentMethod string          `json:"payment_method"` // empty: the client confirms
}

// TransactionFilter narrows a list of transactions.
type TransactionFilter struct {
	UserID uuid.UUID // sender or recipient
	Status *TransactionStatus
}

// Balance is what a creator has, from the ledger.
type Balance struct {
	Currency  string
	Available int64
	Pending   int64
}
