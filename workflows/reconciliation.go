package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// QueryReconciliation asks a ReconcilePayments workflow what it has found so far.
const QueryReconciliation = "state"

var reconcileSteps *activities.Reconciliation

// ReconcilePayments compares the books with what Stripe has of the last days: its
// PaymentIntents, refunds and disputes page by page, and then what is in the books
// alone. What is only missing is booked; all that differs is reported. It runs by its
// schedule; two runs see each thing, so that one that fails loses nothing.
func ReconcilePayments(ctx workflow.Context) error {
	now := workflow.Now(ctx)
	window := livestream.Window{From: now.Add(-reconcileWindow), To: now.Add(-reconcileRest)}
	var total activities.Compared
	if err := workflow.SetQueryHandler(ctx, QueryReconciliation, func() (activities.Compared, error) { return total, nil }); err != nil {
		return err
	}
	for _, step := range []struct {
		summary string
		run     any
	}{
		{"compare payments", reconcileSteps.CompareIntents},
		{"compare refunds", reconcileSteps.CompareRefunds},
		{"compare disputes", reconcileSteps.CompareDisputes},
	} {
		for page := ""; ; page = total.Next {
			if err := compared(ctx, &total, step.summary, step.run, window, page); err != nil {
				return err
			}
			if total.Next == "" {
				break
			}
		}
	}
	for again := true; again; again = total.Next != "" {
		if err := compared(ctx, &total, "compare the books", reconcileSteps.CompareBooks, window); err != nil {
			return err
		}
	}
	return nil
}

func compared(ctx workflow.Context, total *activities.Compared, summary string, step any, args ...any) error {
	var found activities.Compared
	if err := workflow.ExecuteActivity(page(ctx, summary), step, args...).Get(ctx, &found); err != nil {
		return fmt.Errorf("%s: %w", summary, err)
	}
	total.Next = found.Next
	total.Compared += found.Compared
	total.Found += found.Found
	total.Healed += found.Healed
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d compared, %d differ, of which %d are healed", total.Compared, total.Found, total.Healed))
	return nil
}
