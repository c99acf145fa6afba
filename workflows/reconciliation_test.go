package workflows_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// reconciliationSteps in their order.
var reconciliationSteps = []string{
	"CompareIntents", "CompareRefunds", "CompareDisputes", "CompareOpenDisputes", "CompareBooks", "CompareHolds", "ReportRefunds", "CompareBalances",
}

// shelves is what each step has, in pages; and what was asked for.
type shelves struct {
	pages  map[string]int // one, where it is not named
	broken map[string]bool
	asked  []string
	window livestream.Window
}

func reconciliationEnvironment(t *testing.T, s *shelves) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterActivity(&activities.Reconciliation{})
	for _, step := range reconciliationSteps {
		env.OnActivity(step, mock.Anything, mock.Anything, mock.Anything).Maybe().Return(func(_ context.Context, window livestream.Window, page string) (activities.Compared, error) {
			s.window = window
			if s.broken[step] {
				return activities.Compared{}, errors.New("Stripe is not there")
			}
			s.asked = append(s.asked, step+page)
			n, _ := strconv.Atoi(page) // the first is empty
			out := activities.Compared{Compared: 100, Found: 1}
			if n+1 < s.pages[step] {
				out.Next = strconv.Itoa(n + 1)
			}
			return out, nil
		})
	}
	return env
}

func TestReconciliationReadsEveryPageOfEverything(t *testing.T) {
	s := &shelves{pages: map[string]int{"CompareIntents": 3, "CompareHolds": 2}}
	env := reconciliationEnvironment(t, s)
	env.ExecuteWorkflow(workflows.ReconcilePayments, nil)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{
		"CompareIntents", "CompareIntents1", "CompareIntents2", "CompareRefunds", "CompareDisputes", "CompareOpenDisputes",
		"CompareBooks", "CompareHolds", "CompareHolds1", "ReportRefunds", "CompareBalances",
	}, s.asked)
	require.Equal(t, 48*time.Hour, s.window.To.Sub(s.window.From))
	var total activities.Compared
	value, err := env.QueryWorkflow(workflows.QueryReconciliation)
	require.NoError(t, err)
	require.NoError(t, value.Get(&total))
	require.Equal(t, activities.Compared{Compared: 1100, Found: 11}, total)
}

func TestReconciliationGoesOnWithoutAStepThatFails(t *testing.T) {
	s := &shelves{broken: map[string]bool{"CompareIntents": true}}
	env := reconciliationEnvironment(t, s)
	env.ExecuteWorkflow(workflows.ReconcilePayments, nil)
	require.ErrorContains(t, env.GetWorkflowError(), "compare payments: Stripe is not there")
	require.Equal(t, reconciliationSteps[1:], s.asked)
}

// A run of many pages goes on in another one before its history is too long.
func TestReconciliationContinuesWhereItWas(t *testing.T) {
	s := &shelves{pages: map[string]int{"CompareRefunds": 3}, broken: map[string]bool{"CompareIntents": true}}
	env := reconciliationEnvironment(t, s)
	env.SetContinueAsNewSuggested(true)
	env.ExecuteWorkflow(workflows.ReconcilePayments, nil)
	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &next)
	require.Equal(t, []string{"CompareRefunds"}, s.asked)

	var state workflows.ReconciliationState
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &state))
	window := s.window
	env = reconciliationEnvironment(t, s)
	env.ExecuteWorkflow(workflows.ReconcilePayments, &state)
	require.ErrorContains(t, env.GetWorkflowError(), "Stripe is not there", "it is not forgotten that a step failed")
	require.Equal(t, append([]string{"CompareRefunds", "CompareRefunds1", "CompareRefunds2"}, reconciliationSteps[2:]...), s.asked)
	require.True(t, window.From.Equal(s.window.From), "the window stays")
}
