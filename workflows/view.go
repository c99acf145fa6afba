package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/livestream-pro/livestream-pro/activities"
)

var viewSteps *activities.Views

// FlushViews stores how many have watched archives. It runs by its schedule.
func FlushViews(ctx workflow.Context) error {
	return workflow.ExecuteActivity(sweep(ctx, "store the views"), viewSteps.Flush).Get(ctx, nil)
}
