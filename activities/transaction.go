package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// TransactionStore is what a payment's steps need of the database.
type TransactionStore interface {
	Create(ctx context.Context, transaction livestream.NewTransaction, limits livestream.TipLimits) (livestream.Transaction, error)
	OpenIntent(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, status livestream.TransactionStatus) (livestream.Transaction, error)
	SetIntent(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, status livestream.TransactionStatus) error
	Settle(ctx context.Context, id uuid.UUID, now time.Time, hold time.Duration) (livestream.Transaction, error)
	Release(ctx context.Context, id uuid.UUID, now time.Time) (livestream.Transaction, error)
	Fail(ctx context.Context, id uuid.UUID, status livestream.TransactionStatus, failure livestream.Failure, now time.Time) (livestream.Transaction, error)
}

// PaymentProvider is Stripe.
type PaymentProvider interface {
	CreateIntent(ctx context.Context, charge livestream.Charge) (livestream.PaymentIntent, error)
	Confirm(ctx context.Context, id, paymentMethod, key string) (livestream.PaymentIntent, error)
	PaymentIntent(ctx context.Context, id string) (livestream.PaymentIntent, error)
	Cancel(ctx context.Context, id, key string) (livestream.PaymentIntent, error)
	Away(ctx context.Context) time.Duration
}

// UserReader finds users.
type UserReader interface {
	ByID(ctx context.Context, id uuid.UUID) (livestream.User, error)
}

// Transactions are the steps of a payment.
type Transactions struct {
	Store    TransactionStore
	Stripe   PaymentProvider
	Users    UserReader
	Chat     ChatAppender
	Push     NotificationPublisher
	Browsers Browsers
	Now      func() time.Time
	// Hold is how long a creator's part of a payment stays pending.
	Hold time.Duration
	// Limits are what one payer may send.
	Limits livestream.TipLimits
}

// IntentState is what a workflow keeps of a PaymentIntent: no secret of it.
type IntentState struct {
	ID      string                         `json:"id"`
	Status  livestream.PaymentIntentStatus `json:"status"`
	Failure *livestream.Failure            `json:"failure,omitempty"`
}

// Shown is how the payment is shown to its payer meanwhile. Success is not, before
// it is booked.
func (i IntentState) Shown() livestream.TransactionStatus {
	switch i.Status {
	case livestream.IntentRequiresAction, livestream.IntentRequiresConfirmation, livestream.IntentRequiresPaymentMethod:
		return livestream.TransactionRequiresAction
	}
	return livestream.TransactionProcessing
}

// Unconfirmed says whether nobody has tried to take its money yet.
func (i IntentState) Unconfirmed() bool {
	return i.Failure == nil && (i.Status == livestream.IntentRequiresPaymentMethod || i.Status == livestream.IntentRequiresConfirmation)
}

// TransactionRow is what a workflow needs of a payment's row.
type TransactionRow struct {
	Status      livestream.TransactionStatus `json:"status"`
	IntentID    string                       `json:"intent_id"`              // empty before Stripe has it
	AvailableAt *time.Time                   `json:"available_at,omitempty"` // once it is settled
	Away        time.Duration                `json:"away,omitempty"`         // how long Stripe is left alone, when the row is new
}

func transactionRowOf(row livestream.Transaction) TransactionRow {
	return TransactionRow{Status: row.Status, IntentID: row.PaymentIntentID, AvailableAt: row.AvailableAt}
}

// Create writes the payment's row, queued. One that is there is left as it is. It says
// too whether Stripe is left alone just now, so that the payer need not wait for that.
func (a *Transactions) Create(ctx context.Context, transaction livestream.NewTransaction) (TransactionRow, error) {
	row, err := a.Store.Create(ctx, transaction, a.Limits)
	if err != nil {
		return TransactionRow{}, edge(err)
	}
	out := transactionRowOf(row)
	out.Away = a.Stripe.Away(ctx)
	return out, nil
}

// Withdraw cancels a payment whose row was not answered for, if there is one.
func (a *Transactions) Withdraw(ctx context.Context, id uuid.UUID) error {
	failure := livestream.Failure{Code: string(livestream.CodeUnavailable), Message: "The payment could not be begun."}
	_, err := a.Store.Fail(ctx, id, livestream.TransactionCanceled, failure, a.Now())
	return edge(unless(err, livestream.CodeTransactionNotFound))
}

// CreateIntent has Stripe make a PaymentIntent, which takes no money, and has the row
// know it. The first one that the row knows stays; one too many is canceled.
func (a *Transactions) CreateIntent(ctx context.Context, transaction livestream.NewTransaction, key string) (IntentState, error) {
	intent, err := a.Stripe.CreateIntent(ctx, chargeOf(transaction, key))
	if err != nil {
		return IntentState{}, edgeSpread(ctx, ours(err))
	}
	shown := livestream.TransactionRequiresAction
	if transaction.PaymentMethod != "" {
		shown = livestream.TransactionQueued // it is confirmed next
	}
	row, err := a.Store.OpenIntent(ctx, transaction.ID, intent, shown)
	if err != nil {
		return IntentState{}, edge(err)
	}
	if row.PaymentIntentID == intent.ID {
		return stateOf(intent), nil
	}
	stray, err := a.Stripe.Cancel(ctx, intent.ID, key+"/stray")
	if err != nil {
		activity.GetLogger(ctx).Warn("cancel a stray PaymentIntent", "payment_intent", intent.ID, "error", err) // reconciliation does
	}
	if row.PaymentIntentID == "" { // the payment was given up meanwhile
		return stateOf(stray), edge(err)
	}
	return a.Look(ctx, transaction.ID, row.PaymentIntentID)
}

// Confirmation asks Stripe to take a payment's money.
type Confirmation struct {
	Transaction livestream.NewTransaction
	IntentID    string
	Key         string
	Again       bool // it may have been taken already, or declined
}

// Confirm takes the money. Stripe does so once, whatever the key is; what was declined
// is not tried again.
func (a *Transactions) Confirm(ctx context.Context, c Confirmation) (IntentState, error) {
	if c.Again {
		intent, err := a.Stripe.PaymentIntent(ctx, c.IntentID)
		if err != nil {
			return IntentState{}, edgeSpread(ctx, ours(err))
		}
		if !stateOf(intent).Unconfirmed() {
			return a.keepConfirmed(ctx, c.Transaction.ID, intent)
		}
	}
	intent, err := a.Stripe.Confirm(ctx, c.IntentID, c.Transaction.PaymentMethod, c.Key)
	if livestream.CodeOf(err) == "payment_intent_unexpected_state" { // it is confirmed, or was canceled
		return a.Look(ctx, c.Transaction.ID, c.IntentID)
	}
	if livestream.CodeOf(err) == "invalid_request_error" { // the payment method is the payer's
		return IntentState{}, edge(err)
	}
	if err != nil {
		return IntentState{}, edgeSpread(ctx, ours(err))
	}
	return a.keepConfirmed(ctx, c.Transaction.ID, intent)
}

// ours takes a request of ours that Stripe does not understand for an outage:
// somebody has to put it right, and the payment waits meanwhile rather than being
// lost. Stripe gives no closer code where the payer could change nothing.
func ours(err error) error {
	switch livestream.CodeOf(err) {
	case "invalid_request_error", "idempotency_error":
		return livestream.Unavailable("the payment provider", err)
	}
	return err
}

// Look asks Stripe where the payment is: events may be late, doubled or out of
// order, so that what Stripe says now is what counts.
func (a *Transactions) Look(ctx context.Context, id uuid.UUID, intentID string) (IntentState, error) {
	intent, err := a.Stripe.PaymentIntent(ctx, intentID)
	if err != nil {
		return IntentState{}, edge(ours(err))
	}
	return a.keep(ctx, id, intent)
}

// Cancel gives up a payment that its payer did not confirm in time. When Stripe
// refuses, the payer was faster, and what Stripe says now counts. It cancels once
// whatever the key is; each attempt has one of its own, because Stripe would repeat
// an error of its own for a day.
func (a *Transactions) Cancel(ctx context.Context, id uuid.UUID, intentID, key string) (IntentState, error) {
	intent, err := a.Stripe.Cancel(ctx, intentID, fmt.Sprintf("%s/%d", key, activity.GetInfo(ctx).Attempt))
	if code := livestream.CodeOf(err); code != "" && code != livestream.CodeUnavailable && code != livestream.CodeInternal {
		return a.Look(ctx, id, intentID)
	}
	if err != nil {
		return IntentState{}, edge(err)
	}
	return a.keep(ctx, id, intent)
}

// Settle books the paid tip: row, ledger and the creator's notification in one
// transaction.
func (a *Transactions) Settle(ctx context.Context, id uuid.UUID) (TransactionRow, error) {
	settled, err := a.Store.Settle(ctx, id, a.Now(), a.Hold)
	if err != nil {
		return TransactionRow{}, edge(err)
	}
	push := livestream.NotificationPush{Key: livestream.TipReceivedKey(id), At: *settled.SettledAt, User: &settled.RecipientID}
	if err := ring(ctx, a.Push, a.Browsers, push); err != nil {
		return TransactionRow{}, edge(err)
	}
	return transactionRowOf(settled), nil
}

// Release makes what is left of a payment its creator's to use.
func (a *Transactions) Release(ctx context.Context, id uuid.UUID) error {
	row, err := a.Store.Release(ctx, id, a.Now())
	if err == nil && row.ReleasedAt == nil { // by Temporal's clock it is over
		err = livestream.Unavailable("the payment", errors.New("by this worker's clock its hold is not over"))
	}
	return edge(err)
}

// Announce shows the tip in the stream's chat.
func (a *Transactions) Announce(ctx context.Context, transaction livestream.NewTransaction) error {
	sender, err := a.Users.ByID(ctx, transaction.SenderID)
	if err != nil {
		return edge(err)
	}
	_, _, err = a.Chat.Append(ctx, livestream.NewChatEvent{
		StreamID: *transaction.StreamID, Nonce: "tip:" + transaction.ID.String(), Type: livestream.ChatTip,
		Body: livestream.ChatTipBody{
			User:   livestream.ChatUser{ID: sender.ID, Username: sender.Username, DisplayName: sender.DisplayName, Roles: []string{}},
			Amount: transaction.Amount, Currency: transaction.Currency, Message: transaction.Message,
		},
	})
	return edge(err)
}

// TransactionFailure is the end of a payment that did not work.
type TransactionFailure struct {
	ID      uuid.UUID
	Status  livestream.TransactionStatus
	Failure livestream.Failure
}

// Fail writes the payment's end and why, and gives what the row is then.
func (a *Transactions) Fail(ctx context.Context, end TransactionFailure) (TransactionRow, error) {
	row, err := a.Store.Fail(ctx, end.ID, end.Status, end.Failure, a.Now())
	return transactionRowOf(row), edge(err)
}

// keep shows the payment's state to its payer.
func (a *Transactions) keep(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent) (IntentState, error) {
	return a.keepAs(ctx, id, intent, stateOf(intent).Shown())
}

// keepConfirmed is keep for the answer to a confirmation. A payment method that was
// declined leaves its payer nothing to do: the end is on its way.
func (a *Transactions) keepConfirmed(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent) (IntentState, error) {
	shown := stateOf(intent).Shown()
	if intent.Status == livestream.IntentRequiresPaymentMethod {
		shown = livestream.TransactionProcessing
	}
	return a.keepAs(ctx, id, intent, shown)
}

func (a *Transactions) keepAs(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, shown livestream.TransactionStatus) (IntentState, error) {
	if err := a.Store.SetIntent(ctx, id, intent, shown); err != nil {
		return IntentState{}, edge(err)
	}
	return stateOf(intent), nil
}

func stateOf(intent livestream.PaymentIntent) IntentState {
	return IntentState{ID: intent.ID, Status: intent.Status, Failure: intent.Failure}
}

func chargeOf(t livestream.NewTransaction, key string) livestream.Charge {
	return livestream.Charge{
		Key: key, TransactionID: t.ID, WorkflowID: t.WorkflowID, Amount: t.Amount, Currency: t.Currency,
		Description: string(t.Kind) + " " + t.ID.String(),
	}
}
