package workflows

import (
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/sdk/workflow"

	"github.com/livestream-pro/livestream-pro/activities"
)

// StripeEventInput is an event of Stripe's, by what it is about.
type StripeEventInput = activities.StripeEvent

var eventSteps *activities.StripeEvents

// StripeEvent applies an event that no open workflow waits for: a refund that was made
// at Stripe or failed late, a dispute, a payment that is closed.
func StripeEvent(ctx workflow.Context, in StripeEventInput) error {
	var applied activities.Applied
	if err := workflow.ExecuteActivity(write(ctx, "look at "+in.Type+", and book what is so"), eventSteps.ApplyEvent, in).Get(ctx, &applied); err != nil {
		return fmt.Errorf("apply %s: %w", in.Type, err)
	}
	if applied.TransactionID == uuid.Nil {
		workflow.SetCurrentDetails(ctx, "it is about nothing of ours")
		return nil
	}
	upsert(ctx, AttrTransactionID.ValueSet(applied.TransactionID.String()))
	if applied.AvailableAt != nil {
		hold(ctx, applied.TransactionID, *applied.AvailableAt)
	}
	return nil
}
