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
	Uncompared(ctx context.Context, window livestream.Window, page livestream.Page) (livestream.List[livestream.Transaction], error)
	Overdue(ctx context.Context, before time.Time, page livestream.Page) (livestream.List[livestream.Transaction], error)
	RefundsWaiting(ctx context.Context, before time.Time, page livestream.Page) (livestream.List[livestream.Refund], error)
	DisputesOpen(ctx context.Context, before time.Time, page livestream.Page) (livestream.List[livestream.Dispute], error)
	WrongBalances(ctx context.Context, since time.Time) ([]livestream.WrongBalance, error)
	Report(ctx context.Context, difference livestream.Difference) error
}

// StripeLists are what Stripe has, in pages.
type StripeLists interface {
	ListIntents(ctx context.Context, from, to time.Time, after string) ([]livestream.PaymentIntent, string, error)
	ListRefunds(ctx context.Context, from, to time.Time, after string) ([]livestream.StripeRefund, string, error)
	ListDisputes(ctx context.Context, from, to time.Time, after string) ([]livestream.StripeDispute, string, error)
	PaymentIntent(ctx context.Context, id string) (livestream.PaymentIntent, error)
	Dispute(ctx context.Context, id string) (livestream.StripeDispute, error)
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

// item compares one thing, and reports the difference when compare gives it a kind.
// What goes wrong with it is a difference too: it would hold up all others, on this
// day and each one after it. When Stripe or the database is away nothing can be
// compared, and the step is tried again as long as it may be.
func (a *Reconciliation) item(ctx context.Context, out *Compared, d livestream.Difference, compare func(d *livestream.Difference) error) error {
	out.Compared++
	err := compare(&d)
	info := activity.GetInfo(ctx)
	last := info.RetryPolicy != nil && info.Attempt >= info.RetryPolicy.MaximumAttempts
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case livestream.CodeOf(err) == livestream.CodeUnavailable && !last:
		return err
	case err != nil:
		d.Kind, d.Detail, d.Healed = livestream.NotCompared, err.Error(), false
	case d.Kind == "":
		return nil
	}
	out.Found++
	if d.Healed {
		out.Healed++
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
	out := Compared{Next: next}
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
	of := livestream.Difference{ObjectID: intent.ID}
	if known {
		of.TransactionID = &row.ID
	}
	paid, settled := intent.Status == livestream.IntentSucceeded, row.SettledAt != nil
	unpaid := intent.Status == livestream.IntentRequiresPaymentMethod || intent.Status == livestream.IntentRequiresConfirmation || intent.Status == livestream.IntentRequiresAction
	taken := livestream.FormatMoney(intent.Amount, intent.Currency)
	return a.item(ctx, out, of, func(d *livestream.Difference) error {
		switch {
		case paid && !known:
			d.Kind, d.Detail = livestream.ChargeUnknown, fmt.Sprintf("%s were taken for payment %s, which knows nothing of it", taken, intent.TransactionID)
		case paid && (intent.Amount != row.Amount || intent.Currency != row.Currency):
			d.Kind, d.Detail = livestream.AmountDiffers, fmt.Sprintf("%s were taken, and the payment is of %s", taken, livestream.FormatMoney(row.Amount, row.Currency))
		case paid && !settled:
			d.Kind, d.Detail, d.Healed = livestream.SettlementMissing, "it was paid, and is booked now", true
			_, err := a.Payments.Settle(ctx, row.ID, a.Now(), a.Hold)
			return err
		case settled && !paid:
			d.Kind, d.Detail = livestream.ChargeMissing, fmt.Sprintf("it is booked, and %s at Stripe", intent.Status)
		case unpaid && (!known || row.Status.Final()):
			d.Kind, d.Detail, d.Healed = livestream.IntentOpen, "nobody needs it any more, and it is canceled now", true
			_, err := a.Stripe.Cancel(ctx, intent.ID, intent.ID+"/reconcile/"+a.Now().Format(time.RFC3339))
			return ours(err)
		}
		return nil
	})
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
	out := Compared{Next: next}
	for _, refund := range refunds {
		err := a.item(ctx, &out, livestream.Difference{ObjectID: refund.ID}, func(d *livestream.Difference) error {
			row, err := a.Refunds.Book(ctx, refund, a.Now(), a.Hold)
			if err != nil || row.Status == before[refund.ID] {
				return unless(err, livestream.CodeTransactionNotFound) // of a payment that is not ours
			}
			d.Kind, d.TransactionID = livestream.RefundMissing, &row.TransactionID
			d.Healed = refund.RefundID == uuid.Nil || refund.RefundID == row.ID // otherwise one promise was kept twice
			d.Detail = fmt.Sprintf("it was %q here, and is %s now", before[refund.ID], row.Status)
			return nil
		})
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
	out := Compared{Next: next}
	for _, dispute := range disputes {
		err := a.item(ctx, &out, livestream.Difference{ObjectID: dispute.ID}, func(d *livestream.Difference) error {
			return a.compareDispute(ctx, d, dispute, before[dispute.ID])
		})
		if err != nil {
			return out, edge(err)
		}
	}
	return out, nil
}

func (a *Reconciliation) compareDispute(ctx context.Context, d *livestream.Difference, dispute livestream.StripeDispute, before livestream.StripeDisputeStatus) error {
	row, err := a.Disputes.Book(ctx, dispute, a.Now(), a.Hold)
	if err != nil || row.Status == before {
		return unless(err, livestream.CodeTransactionNotFound)
	}
	d.Kind, d.TransactionID, d.Healed = livestream.DisputeMissing, &row.TransactionID, true
	d.Detail = fmt.Sprintf("it was %q here, and is %s now", before, row.Status)
	return nil
}

// CompareOpenDisputes looks at a page of the disputes that Stripe's list did not have,
// because they began before that, and whose end nobody has heard of.
func (a *Reconciliation) CompareOpenDisputes(ctx context.Context, window livestream.Window, after string) (Compared, error) {
	return fromBooks(after, func(page livestream.Page) (livestream.List[livestream.Dispute], error) {
		return a.Findings.DisputesOpen(ctx, window.From, page)
	}, func(out *Compared, row livestream.Dispute) error {
		return a.item(ctx, out, livestream.Difference{ObjectID: row.ID, TransactionID: &row.TransactionID}, func(d *livestream.Difference) error {
			dispute, err := a.Stripe.Dispute(ctx, row.ID)
			if err != nil {
				return ours(err)
			}
			return a.compareDispute(ctx, d, dispute, row.Status)
		})
	})
}

// CompareBooks looks at a page of the payments that Stripe's list did not have, one by
// one.
func (a *Reconciliation) CompareBooks(ctx context.Context, window livestream.Window, after string) (Compared, error) {
	return fromBooks(after, func(page livestream.Page) (livestream.List[livestream.Transaction], error) {
		return a.Findings.Uncompared(ctx, window, page)
	}, func(out *Compared, row livestream.Transaction) error {
		intent, err := a.Stripe.PaymentIntent(ctx, row.PaymentIntentID)
		if livestream.CodeOf(err) == "resource_missing" {
			intent, err = livestream.PaymentIntent{ID: row.PaymentIntentID, Status: "unknown"}, nil
		}
		if err != nil {
			return a.item(ctx, out, livestream.Difference{ObjectID: row.PaymentIntentID, TransactionID: &row.ID}, func(*livestream.Difference) error { return ours(err) })
		}
		if err := a.compare(ctx, out, intent, row, true); err != nil {
			return err
		}
		return a.Books.MarkCompared(ctx, []string{row.PaymentIntentID}, a.Now())
	})
}

// CompareHolds releases what should have been before, a page of it.
func (a *Reconciliation) CompareHolds(ctx context.Context, window livestream.Window, after string) (Compared, error) {
	return fromBooks(after, func(page livestream.Page) (livestream.List[livestream.Transaction], error) {
		return a.Findings.Overdue(ctx, window.To, page)
	}, func(out *Compared, row livestream.Transaction) error {
		return a.item(ctx, out, livestream.Difference{ObjectID: row.ID.String(), TransactionID: &row.ID}, func(d *livestream.Difference) error {
			d.Kind, d.Detail, d.Healed = livestream.ReleaseMissing, "its hold was over, and it is available now", true
			_, err := a.Payments.Release(ctx, row.ID, a.Now())
			return err
		})
	})
}

// ReportRefunds reports a page of the refunds that wait for Stripe longer than an
// outage explains.
func (a *Reconciliation) ReportRefunds(ctx context.Context, window livestream.Window, after string) (Compared, error) {
	return fromBooks(after, func(page livestream.Page) (livestream.List[livestream.Refund], error) {
		return a.Findings.RefundsWaiting(ctx, window.To, page)
	}, func(out *Compared, row livestream.Refund) error {
		return a.item(ctx, out, livestream.Difference{ObjectID: row.ID.String(), TransactionID: &row.TransactionID}, func(d *livestream.Difference) error {
			d.Kind, d.Detail = livestream.RefundWaiting, "it was promised at "+row.CreatedAt.Format(time.RFC3339)+", and Stripe has not taken it"
			return nil
		})
	})
}

// CompareBalances adds up the balances that changed.
func (a *Reconciliation) CompareBalances(ctx context.Context, window livestream.Window, _ string) (Compared, error) {
	wrong, err := a.Findings.WrongBalances(ctx, window.From)
	if err != nil {
		return Compared{}, edge(err)
	}
	var out Compared
	for _, balance := range wrong {
		err := a.item(ctx, &out, livestream.Difference{ObjectID: balance.AccountID.String()}, func(d *livestream.Difference) error {
			d.Kind, d.Detail = livestream.BalanceDiffers, fmt.Sprintf("it is %d, and its entries add up to %d", balance.Amount, balance.Sum)
			return nil
		})
		if err != nil {
			return out, edge(err)
		}
	}
	return out, nil
}

// reconcilePage is how many rows of the books are looked at in one step.
const reconcilePage = 50

// fromBooks does something with each row of a page of the books.
func fromBooks[T any](after string, read func(page livestream.Page) (livestream.List[T], error), do func(out *Compared, row T) error) (Compared, error) {
	page := livestream.Page{Limit: reconcilePage}
	if after != "" {
		cursor, err := livestream.ParseCursor(after)
		if err != nil {
			return Compared{}, edge(err)
		}
		page.After = cursor
	}
	list, err := read(page)
	if err != nil {
		return Compared{}, edge(err)
	}
	var out Compared
	for _, row := range list.Data {
		if err := do(&out, row); err != nil {
			return out, edge(err)
		}
	}
	if list.Next != nil {
		out.Next = list.Next.String()
	}
	return out, nil
}
