package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// TransactionStore is what a payment's steps need of the database.
type TransactionStore interface {
	Create(ctx context.Context, transaction livestream.NewTransaction) (livestream.Transaction, error)
	SetIntent(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent, status livestream.TransactionStatus) error
	Settle(ctx context.Context, id uuid.UUID, now time.Time) (livestream.Transaction, error)
	Fail(ctx context.Context, id uuid.UUID, status livestream.TransactionStatus, failure livestream.Failure, now time.Time) (livestream.Transaction, error)
}

// PaymentProvider is Stripe.
type PaymentProvider interface {
	Charge(ctx context.Context, charge livestream.Charge) (livestream.PaymentIntent, error)
	PaymentIntent(ctx context.Context, id string) (livestream.PaymentIntent, error)
	FindCharge(ctx context.Context, transactionID uuid.UUID) (*livestream.PaymentIntent, error)
	Cancel(ctx context.Context, id, key string) (livestream.PaymentIntent, error)
}

// UserReader finds users.
type UserReader interface {
	ByID(ctx context.Context, id uuid.UUID) (livestream.User, error)
}

// Transactions are the steps of a payment.
type Transactions struct {
	Store  TransactionStore
	Stripe PaymentProvider
	Users  UserReader
	Chat   ChatAppender
	Push   NotificationPublisher
	Now    func() time.Time
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

// TransactionRow is what a workflow needs of a payment's row.
type TransactionRow struct {
	Status    livestream.TransactionStatus `json:"status"`
	IntentID  string                       `json:"intent_id"` // empty before the charge
	CreatedAt time.Time                    `json:"created_at"`
}

// Create writes the payment's row, queued. One that is there is left as it is.
func (a *Transactions) Create(ctx context.Context, transaction livestream.NewTransaction) (TransactionRow, error) {
	row, err := a.Store.Create(ctx, transaction)
	return TransactionRow{Status: row.Status, IntentID: row.PaymentIntentID, CreatedAt: row.CreatedAt}, edge(err)
}

// Withdraw cancels a payment whose row was not answered for, if there is one.
func (a *Transactions) Withdraw(ctx context.Context, id uuid.UUID) error {
	failure := livestream.Failure{Code: string(livestream.CodeUnavailable), Message: "The payment could not be begun."}
	_, err := a.Store.Fail(ctx, id, livestream.TransactionCanceled, failure, a.Now())
	return edge(unless(err, livestream.CodeTransactionNotFound))
}

// Charge asks Stripe for the payment and keeps what it answered. The key makes
// Stripe charge once, however often this runs.
func (a *Transactions) Charge(ctx context.Context, transaction livestream.NewTransaction, key string) (IntentState, error) {
	intent, err := a.Stripe.Charge(ctx, chargeOf(transaction, key))
	if err != nil {
		return IntentState{}, edgeSpread(ctx, ours(err))
	}
	return a.keepCharge(ctx, transaction, intent)
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

// Reconcile looks for a PaymentIntent that an attempt made whose answer was
// lost, and charges only when there is none.
func (a *Transactions) Reconcile(ctx context.Context, transaction livestream.NewTransaction, key string) (IntentState, error) {
	found, err := a.Stripe.FindCharge(ctx, transaction.ID)
	if err != nil {
		return IntentState{}, edgeSpread(ctx, ours(err))
	}
	if found != nil {
		return a.keepCharge(ctx, transaction, *found)
	}
	return a.Charge(ctx, transaction, key)
}

// Find looks for a PaymentIntent that an attempt made; nil when there is none.
func (a *Transactions) Find(ctx context.Context, id uuid.UUID) (*IntentState, error) {
	found, err := a.Stripe.FindCharge(ctx, id)
	if err != nil || found == nil {
		return nil, edge(ours(err))
	}
	state, err := a.keep(ctx, id, *found)
	return &state, err
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
func (a *Transactions) Settle(ctx context.Context, id uuid.UUID) error {
	settled, err := a.Store.Settle(ctx, id, a.Now())
	if err != nil {
		return edge(err)
	}
	push := livestream.NotificationPush{Key: livestream.TipReceivedKey(id), User: &settled.RecipientID}
	if err := a.Push.Publish(ctx, push); err != nil {
		activity.GetLogger(ctx).Warn("push tip_received", "transaction_id", id, "error", err)
	}
	return nil
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

// Fail writes the payment's end and why.
func (a *Transactions) Fail(ctx context.Context, end TransactionFailure) error {
	_, err := a.Store.Fail(ctx, end.ID, end.Status, end.Failure, a.Now())
	return edge(err)
}

// keep shows the payment's state to its payer.
func (a *Transactions) keep(ctx context.Context, id uuid.UUID, intent livestream.PaymentIntent) (IntentState, error) {
	return a.keepAs(ctx, id, intent, stateOf(intent).Shown())
}

// keepCharge is keep for the answer to a charge. A payment method that was declined
// leaves its payer nothing to do: the end is on its way.
func (a *Transactions) keepCharge(ctx context.Context, transaction livestream.NewTransaction, intent livestream.PaymentIntent) (IntentState, error) {
	shown := stateOf(intent).Shown()
	if transaction.PaymentMethod != "" && intent.Status == livestream.IntentRequiresPaymentMethod {
		shown = livestream.TransactionProcessing
	}
	return a.keepAs(ctx, transaction.ID, intent, shown)
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
		PaymentMethod: t.PaymentMethod, Description: string(t.Kind) + " " + t.ID.String(),
	}
}
