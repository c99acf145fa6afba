package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// QueryReconciliation asks a ReconcilePayments workflow what it has found so far.
const QueryReconciliation = "state"

var reconcileSteps *activities.Reconciliation

// reconciliation is what is compared, in this order, page by page.
var reconciliation = []struct {
	name string
	page any
}{
	{"payments", reconcileSteps.CompareIntents},
	{"refunds", reconcileSteps.CompareRefunds},
	{"disputes", reconcileSteps.CompareDisputes},
	{"older disputes", reconcileSteps.CompareOpenDisputes},
	{"payments that Stripe did not list", reconcileSteps.CompareBooks},
	{"holds", reconcileSteps.CompareHolds},
	{"refunds that wait", reconcileSteps.ReportRefunds},
	{"balances", reconcileSteps.CompareBalances},
}

// ReconciliationState is how far a ReconcilePayments workflow is.
type ReconciliationState struct {
	Window livestream.Window   `json:"window"`
	Step   string              `json:"step"`
	Page   string              `json:"page"` // empty is the step's first
	Total  activities.Compared `json:"total"`
	Failed []string            `json:"failed,omitempty"` // steps that could not be done, and why
}

// ReconcilePayments compares the books with what Stripe has of the last days: its
// PaymentIntents, refunds and disputes page by page, and then what is in the books
// alone. What is only missing is booked; all that differs is reported. It runs by its
// schedule; two runs see each thing, so that one that fails loses nothing. A step that
// cannot be done does not keep the others from it. It begins without a state, and
// continues with one.
func ReconcilePayments(ctx workflow.Context, state *ReconciliationState) error {
	if state == nil {
		now := workflow.Now(ctx)
		state = &ReconciliationState{Window: livestream.Window{From: now.Add(-reconcileWindow), To: now.Add(-reconcileRest)}, Step: reconciliation[0].name}
	}
	if err := workflow.SetQueryHandler(ctx, QueryReconciliation, func() (activities.Compared, error) { return state.Total, nil }); err != nil {
		return err
	}
	for i, step := range reconciliation {
		if step.name != state.Step {
			continue // it is done
		}
		if err := state.compare(ctx, step.page); err != nil {
			return err
		}
		if i+1 < len(reconciliation) {
			state.Step, state.Page = reconciliation[i+1].name, ""
		}
	}
	if len(state.Failed) > 0 {
		return temporal.NewApplicationError(strings.Join(state.Failed, "; "), string(livestream.CodeUnavailable))
	}
	return nil
}

// compare does what is left of a step. Its error is a cancel, or that the workflow
// continues as another run.
func (s *ReconciliationState) compare(ctx workflow.Context, step any) error {
	for {
		var found activities.Compared
		err := workflow.ExecuteActivity(page(ctx, "compare "+s.Step), step, s.Window, s.Page).Get(ctx, &found)
		if temporal.IsCanceledError(err) {
			return err
		}
		if err != nil {
			s.Failed = append(s.Failed, fmt.Sprintf("compare %s: %s", s.Step, reason(err)))
			return nil
		}
		s.Page = found.Next
		s.Total.Compared += found.Compared
		s.Total.Found += found.Found
		s.Total.Healed += found.Healed
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d compared, %d differ, of which %d are healed", s.Total.Compared, s.Total.Found, s.Total.Healed))
		if s.Page == "" {
			return nil
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, ReconcilePayments, s)
		}
	}
}
