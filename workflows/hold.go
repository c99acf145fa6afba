package workflows

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
)

// UpdateRefund asks a Hold workflow to give the payment back, or a part of it, on an
// operator's behalf. It is answered with the refund once that is promised.
const UpdateRefund = "refund"

// HoldInput starts a Hold workflow.
type HoldInput struct {
	TransactionID uuid.UUID `json:"transaction_id"`
	AvailableAt   time.Time `json:"available_at"`
}

// RefundRequest is an operator's refund.
type RefundRequest struct {
	Amount int64  `json:"amount"` // minor units; 0 is all that is left
	Reason string `json:"reason"`
}

// Hold keeps a creator's part of a payment pending for a while, and then makes it
// theirs to use: what is left of it, after refunds and disputes.
func Hold(ctx workflow.Context, in HoldInput) error {
	refunds := func(ctx workflow.Context, asked RefundRequest) (livestream.NewRefund, error) {
		return refundFor(ctx, in.TransactionID, asked)
	}
	if err := workflow.SetUpdateHandler(ctx, UpdateRefund, refunds); err != nil {
		return err
	}
	workflow.SetCurrentDetails(ctx, "pending until "+in.AvailableAt.UTC().Format(time.RFC3339))
	summary := workflow.TimerOptions{Summary: "until the creator may use it"}
	if err := workflow.NewTimerWithOptions(ctx, in.AvailableAt.Sub(workflow.Now(ctx)), summary).Get(ctx, nil); err != nil {
		return err
	}
	if err := workflow.ExecuteActivity(write(ctx, "make it available"), paymentSteps.Release, in.TransactionID).Get(ctx, nil); err != nil {
		return fmt.Errorf("make it available: %w", err)
	}
	workflow.SetCurrentDetails(ctx, "available since "+in.AvailableAt.UTC().Format(time.RFC3339))
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// hold starts a payment's Hold, which goes on by itself. One that is there already
// does the same.
func hold(ctx workflow.Context, transactionID uuid.UUID, until time.Time) {
	child := abandoned(ctx, HoldID(transactionID), QueuePayment, "hold of "+transactionID.String(),
		temporal.NewSearchAttributes(AttrTransactionID.ValueSet(transactionID.String())))
	started := workflow.ExecuteChildWorkflow(child, Hold, HoldInput{TransactionID: transactionID, AvailableAt: until}).GetChildWorkflowExecution()
	if err := started.Get(ctx, nil); err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		workflow.GetLogger(ctx).Error("start the hold", "error", err) // reconciliation releases what nobody did
	}
}

// refundFor promises a refund and starts its workflow. The update's id makes the
// refund's, so that an update which comes twice, or again after a reset, is one refund.
func refundFor(ctx workflow.Context, transactionID uuid.UUID, asked RefundRequest) (livestream.NewRefund, error) {
	id := uuid.NewSHA1(transactionID, []byte(workflow.GetCurrentUpdateInfo(ctx).ID))
	refund := livestream.NewRefund{ID: id, TransactionID: transactionID, Amount: asked.Amount, Reason: asked.Reason}
	if err := workflow.ExecuteLocalActivity(record(ctx, "promise the refund"), refundSteps.CreateRefund, refund).Get(ctx, nil); err != nil {
		if !final(err) {
			err = withdrawRefund(ctx, refund, err)
		}
		return refund, err
	}
	child := abandoned(ctx, RefundID(id), QueuePayment, "refund of "+transactionID.String(),
		temporal.NewSearchAttributes(AttrTransactionID.ValueSet(transactionID.String())))
	err := workflow.ExecuteChildWorkflow(child, Refund, RefundInput{Refund: refund}).GetChildWorkflowExecution().Get(ctx, nil)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		err = nil
	}
	return refund, err
}
