package livestream

import (
	"time"

	"github.com/google/uuid"
)

// DifferenceKind is what the books and Stripe do not agree on.
type DifferenceKind string

const (
	SettlementMissing DifferenceKind = "settlement_missing" // Stripe took money that was not booked
	ChargeMissing     DifferenceKind = "charge_missing"     // money was booked that Stripe did not take
	ChargeUnknown     DifferenceKind = "charge_unknown"     // Stripe took money for a payment that does not know of it
	AmountDiffers     DifferenceKind = "amount_differs"
	IntentOpen        DifferenceKind = "intent_open" // nobody needs it any more, and it can still be paid
	RefundMissing     DifferenceKind = "refund_missing"
	RefundWaiting     DifferenceKind = "refund_waiting" // it was promised an hour ago or more, and Stripe has not taken it
	DisputeMissing    DifferenceKind = "dispute_missing"
	ReleaseMissing    DifferenceKind = "release_missing" // its time is over, and it is pending still
	BalanceDiffers    DifferenceKind = "balance_differs" // from the sum of its account's entries
	NotCompared       DifferenceKind = "not_compared"    // something went wrong with it, see the detail
)

// Difference is one of them. What was only missing is healed when it is found.
type Difference struct {
	Kind          DifferenceKind
	ObjectID      string // Stripe's, or ours where Stripe has none
	TransactionID *uuid.UUID
	Detail        string
	Healed        bool
}

// WrongBalance is a balance that is not the sum of its account's entries.
type WrongBalance struct {
	AccountID uuid.UUID
	Amount    int64
	Sum       int64
}

// Window is a time from one moment on until before another.
type Window struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}
