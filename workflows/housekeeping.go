package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/livestream-pro/livestream-pro/activities"
)

var housekeepingSteps *activities.Housekeeping

// Housekeeping makes the tables that notifications will need, and deletes what nothing
// needs any more. It runs by its schedule. What cannot be done now does not keep the
// rest, and is left to the next run.
func Housekeeping(ctx workflow.Context) error {
	var failed []error
	for _, step := range []struct {
		summary string
		run     any
	}{
		{"make the tables of notifications to come", housekeepingSteps.MakeNotificationMonths},
		{"delete old notifications", housekeepingSteps.DeleteNotifications},
		{"delete old idempotency keys", housekeepingSteps.DeleteIdempotencyKeys},
		{"delete expired logins", housekeepingSteps.DeleteSessions},
		{"delete old events of Stripe", housekeepingSteps.DeleteStripeEvents},
		{"delete the days of old views", housekeepingSteps.DeleteViews},
		{"forget uploads that came too late", streamSteps.AbortStaleUploads},
	} {
		if err := workflow.ExecuteActivity(sweep(ctx, step.summary), step.run).Get(ctx, nil); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", step.summary, err))
		}
	}
	return errors.Join(failed...)
}
