package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

var pushSteps *activities.Pushes

// PushToBrowsers tells the browsers of those whom a push is for.
func PushToBrowsers(ctx workflow.Context, push livestream.NotificationPush) error {
	var told map[livestream.PushResult]int
	if err := workflow.ExecuteActivity(pushing(ctx, "push "+push.Key), pushSteps.Deliver, push).Get(ctx, &told); err != nil {
		return fmt.Errorf("push to browsers: %w", err)
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d sent, %d dead, %d expired, %d failed", told[livestream.PushSent],
		told[livestream.PushDead], told[livestream.PushExpired], told[livestream.PushFailed]))
	return nil
}
