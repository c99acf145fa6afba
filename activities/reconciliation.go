package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Books are what is compared with Stripe.
type Books interface {
	ByIntents(ctx context.Context, intentIDs []string) ([]livestream.Transaction, error)
	Refunds(ctx context.Context, stripeIDs []string) ([]livestream.Refund, error)
	Disputes(ctx context.Context, ids []string) ([]livestream.Dispute, error)
	MarkCompared(ctx context.Context, intentIDs []string, now time.Time) error
}

// Findings are what the books themselves show to be wrong, and what is kept of it.
type Findings interface {
	Uncompared(ctx context.Context, window livestream.Window, limit int) ([]livestream.Transaction, error)
	Overdue(ctx context.Context, before time.Time, limit int) ([]uuid.UUID, error)
	WrongBalances(ctx context.Context, since time.Time) ([]livestream.WrongBalance, error)
	Report(ctx context.Context, difference livestream.Difference) error
}

// StripeLists are what Stripe has, in pages.
type StripeLists interface {
	ListIntents(ctx context.Context, from, to time.Time, after string) ([]livestream.PaymentIntent, string, error)
	ListRefunds(ctx context.Context, from, to time.Time, after string) ([]livestream.StripeRefund, string, error)
	ListDisputes(ctx context.Context, from, to time.Time, after string) ([]livestream.StripeDispute, string, error)
	PaymentIntent(ctx context.Context, id string) (livestream.PaymentIntent, error)
	Cancel(ctx context.Context, id, key string) (livestream.PaymentIntent, error)
}

// PaymentHealer books what is missing of a payment.
type PaymentHealer interface {
	Settle(ctx context.Context, id uuid.UUID, now time.Time, hold time.Duration) (livestream.Transaction, error)
	Release(ctx context.Context, id uuid.UUID, now time.Time) (livestream.Transaction, error)
}

// DifferenceCounter counts differences, for metrics.
type DifferenceCounter interface {
	Count(difference livestream.Difference)
}

// Reconciliation are the steps that compare the books with Stripe, heal what is only
// missing and report all that differs.
type Reconciliation struct {
	Books    Books
	Findings Findings
	Stripe   StripeLists
	Payments PaymentHealer
	Refunds  RefundBooker
	Disputes DisputeBooker
	Counter  DifferenceCounter
	Now      func() time.Time
	Hold     time.Duration // see Transactions
}

// Compared is what one step found.
type Compared struct {
	Next     string `json:"next"` // where the next page begins; empty at the end
	Compared int    `json:"compared"`
	Found    int    `json:"found"`
	Healed   int    `json:"healed"`
}

func (c *Compared) tell(ctx context.Context, a *Reconciliation, d livestream.Difference) error {
	c.Found++
	if d.Healed {
		c.Healed++
	}
	a.Counter.Count(d)
	activity.GetLogger(ctx).Warn("the books differ from Stripe", "kind", d.Kind, "object", d.ObjectID, "transaction_id", d.TransactionID, "detail", d.Detail, "healed", d.Healed)
	return a.Findings.Report(ctx, d)
}

// CompareIntents compares a page of Stripe's PaymentIntents with the payments.
func (a *Reconciliation) CompareIntents(ctx context.Context, window livestream.Window, after string) (Compared, error) {
	intents, next, err := a.Stripe.ListIntents(ctx, window.From, window.To, after)
	if err != nil {
		return Compared{}, edge(ours(err))
	}
	ids := make([]string, len(intents))
	for i, intent := range intents {
		ids[i] = intent.ID
	}
	rows, err := a.Books.ByIntents(ctx, ids)
	if err != nil {
		return Compared{}, edge(err)
	}
	known := map[string]livestream.Transaction{}
	for _, row := range rows {
		known[row.PaymentIntentID] = row
	}
	out := Compared{Next: next, Compared: len(intents)}
	for _, intent := range intents {
		row, ok := known[intent.ID]
		if !ok && intent.TransactionID == uuid.Nil {
			continue // the account has other uses
		}
		if err := a.compare(ctx, &out, intent, row, ok); err != nil {
			return out, edge(err)
		}
	}
	return out, edge(a.Books.MarkCompared(ctx, ids, a.Now()))
}

func (a *Reconciliation) compare(ctx context.Context, out *Compared, intent livestream.PaymentIntent, row livestream.Transaction, known bool) error {
	d := livestream.Difference{ObjectID: intent.ID}
	if known {
		d.TransactionID = &row.ID
	}
	paid, settled := intent.Status == livestream.IntentSucceeded, row.SettledAt != nil
	switch {
	case paid && !known:
		d.Kind, d.Detail = livestream.ChargeUnknown, fmt.Sprintf("%s were taken for payment %s, which knows nothing of it", livestream.FormatMoney(intent.Amount, intent.Currency), intent.TransactionID)
	case paid && (intent.Amount != row.Amount || intent.Currency != row.Currency):
		d.Kind, d.Detail = livestream.AmountDiffers, fmt.Sprintf("%s were taken, and the payment is of %s",
			livestream.FormatMoney(intent.Amount, intent.Currency), livestream.FormatMoney(row.Amount, row.Currency))
	case paid && !settled:
		if _, err := a.Payments.Settle(ctx, row.ID, a.Now(), a.Hold); err != nil {
			return err
		}
		d.Kind, d.Detail, d.Healed = livestream.SettlementMissing, "it was paid, and is booked now", true
	case settled && !paid:
		d.Kind, d.Detail = livestream.ChargeMissing, fmt.Sprintf("it is booked, and %s at Stripe", intent.Status)
	case (!known || row.Status.Final()) && (intent.Status == livestream.IntentRequiresPaymentMethod || intent.Status == livestream.IntentRequiresConfirmation || intent.Status == livestream.IntentRequiresAction):
		if _, err := a.Stripe.Cancel(ctx, intent.ID, intent.ID+"/reconcile/"+a.Now().Format(time.RFC3339)); err != nil {
			return ours(err)
		}
		d.Kind, d.Detail, d.Healed = livestream.IntentOpen, "nobody needs it any more, and it is canceled now", true
	default:
		return nil
	}
	return out.tell(ctx, a, d)
}

// CompareRefunds compares a page of Stripe's refunds with ours, and books what is
// missing.
func (a *Reconciliation) CompareRefunds(ctx context.Context, window livestream.Window, after string) (Compared, error) {
	refunds, next, err := a.Stripe.ListRefunds(ctx, window.From, window.To, after)
	if err != nil {
		return Compared{}, edge(ours(err))
	}
	ids := make([]string, len(refunds))
	for i, refund := range refunds {
		ids[i] = refund.ID
	}
	rows, err := a.Books.Refunds(ctx, ids)
	if err != nil {
		return Compared{}, edge(err)
	}
	before := map[string]livestream.RefundStatus{}
	for _, row := range rows {
		before[row.StripeRefundID] = row.Status
	}
	out := Compared{Next: next, Compared: len(refunds)}
	for _, refund := range refunds {
		row, err := a.Refunds.Book(ctx, refund, a.Now(), a.Hold)
		if livestream.CodeOf(err) == livestream.CodeTransactionNotFound {
			continue // of a payment that is not ours
		}
		if err == nil && row.Status != before[refund.ID] {
			err = out.tell(ctx, a, livestream.Difference{
				Kind: livestream.RefundMissing, ObjectID: refund.ID, TransactionID: &row.TransactionID,
				Healed: refund.RefundID == uuid.Nil || refund.RefundID == row.ID, // otherwise one promise was kept twice
				Detail: fmt.Sprintf("it was %q here, and is %s now", before[refund.ID], row.Status),
			})
		}
		if err != nil {
			return out, edge(err)
		}
	}
	return out, nil
}

// CompareDisputes compares a page of Stripe's disputes with ours, and books what is
// missing.
func (a *Reconciliation) CompareDisputes(ctx context.Context, window livestream.Window, after string) (Compared, error) {
	disputes, next, err := a.Stripe.ListDisputes(ctx, window.From, window.To, after)
	if err != nil {
		return Compared{}, edge(ours(err))
	}
	ids := make([]string, len(disputes))
	for i, dispute := range disputes {
		ids[i] = dispute.ID
	}
	rows, err := a.Books.Disputes(ctx, ids)
	if err != nil {
		return Compared{}, edge(err)
	}
	before := map[string]livestream.StripeDisputeStatus{}
	for _, row := range rows {
		before[row.ID] = row.Status
	}
	out := Compared{Next: next, Compared: len(disputes)}
	for _, dispute := range disputes {
		row, err := a.Disputes.Book(ctx, dispute, a.Now(), a.Hold)
		if livestream.CodeOf(err) == livestream.CodeTransactionNotFound {
			continue
		}
		if err == nil && row.Status != before[dispute.ID] {
			err = out.tell(ctx, a, livestream.Difference{
				Kind: livestream.DisputeMissing, ObjectID: dispute.ID, TransactionID: &row.TransactionID, Healed: true,
				Detail: fmt.Sprintf("it was %q here, and is %s now", before[dispute.ID], row.Status),
			})
		}
		if err != nil {
			return out, edge(err)
		}
	}
	return out, nil
}

// reconcileBatch rows of the books are looked at in one step.
const reconcileBatch = 50

// CompareBooks looks at what Stripe's lists did not have, one by one, releases what is
// overdue and adds up the balances that changed. Next says that there is more.
func (a *Reconciliation) CompareBooks(ctx context.Context, window livestream.Window) (Compared, error) {
	var out Compared
	rows, err := a.Findings.Uncompared(ctx, window, reconcileBatch)
	if err != nil {
		return out, edge(err)
	}
	for _, row := range rows {
		intent, err := a.Stripe.PaymentIntent(ctx, row.PaymentIntentID)
		if livestream.CodeOf(err) == "resource_missing" {
			intent, err = livestream.PaymentIntent{ID: row.PaymentIntentID, Status: "unknown"}, nil
		}
		if err != nil {
			return out, edge(ours(err))
		}
		out.Compared++
		if err := a.compare(ctx, &out, intent, row, true); err != nil {
			return out, edge(err)
		}
		if err := a.Books.MarkCompared(ctx, []string{row.PaymentIntentID}, a.Now()); err != nil {
			return out, edge(err)
		}
	}
	overdue, err := a.Findings.Overdue(ctx, window.To, reconcileBatch)
	if err != nil {
		return out, edge(err)
	}
	for _, id := range overdue {
		if _, err := a.Payments.Release(ctx, id, a.Now()); err != nil {
			return out, edge(err)
		}
		d := livestream.Difference{Kind: livestream.ReleaseMissing, ObjectID: id.String(), TransactionID: &id, Detail: "its hold was over, and it is available now", Healed: true}
		if err := out.tell(ctx, a, d); err != nil {
			return out, edge(err)
		}
	}
	if len(rows) == reconcileBatch || len(overdue) == reconcileBatch {
		out.Next = "more"
		return out, nil
	}
	wrong, err := a.Findings.WrongBalances(ctx, window.From)
	for _, balance := range wrong {
		if err == nil {
			err = out.tell(ctx, a, livestream.Difference{
				Kind: livestream.BalanceDiffers, ObjectID: balance.AccountID.String(), Detail: fmt.Sprintf("it is %d, and its entries add up to %d", balance.Amount, balance.Sum),
			})
		}
	}
	return out, edge(err)
}
