package client

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// PushSubscriptions knows who has browsers that are told.
type PushSubscriptions interface {
	Any(ctx context.Context, push livestream.NotificationPush) (bool, error)
}

// Browsers rings the browsers that have subscribed.
type Browsers struct {
	client        *Client
	subscriptions PushSubscriptions
}

// NewBrowsers rings them by workflows that c starts.
func NewBrowsers(c *Client, subscriptions PushSubscriptions) *Browsers {
	return &Browsers{client: c, subscriptions: subscriptions}
}

// Ring has the browsers told that a push is for, and returns once that is sure to
// happen. Ringing again does nothing more, and neither does a push whose recipients
// have no browsers. Errors: unavailable.
func (b *Browsers) Ring(ctx context.Context, push livestream.NotificationPush) error {
	ctx, cancel := context.WithTimeout(ctx, workflows.StartDeadline)
	defer cancel()
	any, err := b.subscriptions.Any(ctx, push)
	if err != nil || !any {
		return err
	}
	_, err = b.client.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       workflows.PushID(push),
		TaskQueue:                workflows.QueuePush,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "push " + push.Key,
	}, workflows.PushToBrowsers, push)
	return domainError(err)
}
