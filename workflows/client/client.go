// Package client starts and steers the workflows for the rest of the product,
// and turns Temporal's errors into the domain's. It is the only place outside
// workers/ and cmd/ that talks to Temporal.
package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// Client steers workflows.
type Client struct {
	temporal client.Client
}

// New wraps a connection to Temporal, which stays the caller's to close.
func New(c client.Client) *Client { return &Client{temporal: c} }

// answerMargin is what an update's answer may take beyond what its workflow
// waits for.
const answerMargin = time.Second

// StartStream starts a stream's workflow and returns once its row is committed.
// Starting the same stream again gives the first start's answer, unless that was
// "unavailable".
//
// Errors: already_streaming, stream_not_live, unavailable.
func (c *Client) StartStream(ctx context.Context, stream livestream.NewStream) error {
	ctx, cancel := context.WithTimeout(ctx, workflows.StartDeadline+answerMargin)
	defer cancel()
	options := client.StartWorkflowOptions{
		ID:                       workflows.StreamID(stream.ID),
		TaskQueue:                workflows.QueueStream,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            workflows.Summary("stream", stream.Title),
		TypedSearchAttributes: temporal.NewSearchAttributes(
			workflows.AttrStreamID.ValueSet(stream.ID.String()), workflows.AttrUserID.ValueSet(stream.UserID.String())),
	}
	return c.updateWithStart(ctx, options, workflows.Stream, workflows.StreamInput{Stream: stream}, workflows.UpdateStartStream, workflows.UpdateStartStream)
}

// EndStream asks a stream to end and returns once that can be seen. It is no error
// when its workflow is at its end already.
//
// Errors: not_found when the workflow is closed or unknown, so that nobody but the
// caller can end a stream that has not ended; unavailable.
func (c *Client) EndStream(ctx context.Context, streamID uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, workflows.StartDeadline)
	defer cancel()
	id := workflows.StreamID(streamID)
	err := c.update(ctx, id, workflows.UpdateEndStream, workflows.UpdateEndStream, nil)
	if isNotFound(err) {
		return livestream.Errorf(livestream.CodeNotFound, "no open stream %s", id)
	}
	return domainError(err)
}

// CompleteRecording hands a recording, which is whole in object storage, to its
// stream, and returns the id of the archive that it will become. Handing it over again
// gives the first answer, from a closed workflow too; one that is refused belongs to no
// archive.
//
// Errors: recording_disabled, recording_closed, recording_exists, unavailable.
func (c *Client) CompleteRecording(ctx context.Context, upload livestream.Upload) (uuid.UUID, error) {
	ctx, cancel := context.WithTimeout(ctx, workflows.StartDeadline)
	defer cancel()
	var archiveID uuid.UUID
	in := workflows.RecordingInput{UploadID: upload.ID, SourceKey: upload.Key, SizeBytes: upload.SizeBytes}
	updateID := workflows.UpdateCompleteRecording + "/" + upload.ID.String()
	err := c.update(ctx, workflows.StreamID(upload.StreamID), updateID, workflows.UpdateCompleteRecording, &archiveID, in)
	if isNotFound(err) {
		return uuid.Nil, livestream.Errorf(livestream.CodeRecordingClosed, "the time to upload a recording of this stream is over")
	}
	return archiveID, domainError(err)
}

// DeleteArchive deletes an archive for its creator and returns once nobody can
// find it any more; its files go after that.
//
// Errors: forbidden, unavailable.
func (c *Client) DeleteArchive(ctx context.Context, archive livestream.Archive) error {
	ctx, cancel := context.WithTimeout(ctx, workflows.StartDeadline+answerMargin)
	defer cancel()
	options := client.StartWorkflowOptions{
		ID:                       workflows.DeleteArchiveID(archive.ID),
		TaskQueue:                workflows.QueueArchive,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            workflows.Summary("delete archive", archive.Title),
		TypedSearchAttributes: temporal.NewSearchAttributes(
			workflows.AttrStreamID.ValueSet(archive.StreamID.String()), workflows.AttrUserID.ValueSet(archive.UserID.String())),
	}
	in := workflows.DeleteArchiveInput{ArchiveID: archive.ID, StreamID: archive.StreamID, UserID: archive.UserID}
	return c.updateWithStart(ctx, options, workflows.DeleteArchive, in, workflows.UpdateDeleteArchive, workflows.UpdateDeleteArchive)
}

// RestoreArchive asks for an archive that is in GLACIER, and returns once it is on its
// way. asker is told when it can be played, if not very many are; nobody is where it is nil.
//
// Errors: unavailable.
func (c *Client) RestoreArchive(ctx context.Context, id uuid.UUID, asker *uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, workflows.StartDeadline)
	defer cancel()
	options := client.StartWorkflowOptions{
		ID:                       workflows.RestoreArchiveID(id),
		TaskQueue:                workflows.QueueArchive,
		WorkflowExecutionTimeout: livestream.RestoreWindow,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "restore archive " + id.String(),
	}
	who := uuid.Nil
	if asker != nil {
		who = *asker
	}
	err := c.updateWithStart(ctx, options, workflows.RestoreArchive, workflows.RestoreArchiveInput{ArchiveID: id},
		workflows.UpdateAskForArchive+"/"+who.String(), workflows.UpdateAskForArchive, who)
	if livestream.CodeOf(err) == workflows.ErrEnoughAskers {
		return nil // it is on its way
	}
	return err
}

// SubmitPayment starts a payment's workflow and returns once Stripe has answered,
// or after workflows.SubmitWindow when the payment is queued. Submitting the same
// payment again gives the first answer, unless that was "unavailable".
//
// Errors: what the payment's row was refused for, unavailable.
func (c *Client) SubmitPayment(ctx context.Context, transaction livestream.NewTransaction) error {
	ctx, cancel := context.WithTimeout(ctx, workflows.SubmitWindow+answerMargin)
	defer cancel()
	attributes := []temporal.SearchAttributeUpdate{
		workflows.AttrUserID.ValueSet(transaction.SenderID.String()), workflows.AttrTransactionID.ValueSet(transaction.ID.String()),
		workflows.AttrPaymentAmount.ValueSet(transaction.Amount), workflows.AttrPaymentCurrency.ValueSet(transaction.Currency),
	}
	if transaction.StreamID != nil {
		attributes = append(attributes, workflows.AttrStreamID.ValueSet(transaction.StreamID.String()))
	}
	options := client.StartWorkflowOptions{
		ID:                       transaction.WorkflowID,
		TaskQueue:                workflows.QueuePayment,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            fmt.Sprintf("%s of %s", transaction.Kind, livestream.FormatMoney(transaction.Amount, transaction.Currency)),
		TypedSearchAttributes:    temporal.NewSearchAttributes(attributes...),
	}
	return c.updateWithStart(ctx, options, workflows.Payment, workflows.PaymentInput{Transaction: transaction}, workflows.UpdateSubmitPayment, workflows.UpdateSubmitPayment)
}

// SubmitRefund starts a refund's workflow and returns once it is promised. Submitting
// the same refund again gives the first answer, unless that was "unavailable".
//
// Errors: transaction_not_found, refund_exceeds_charge, already_refunded, unavailable.
func (c *Client) SubmitRefund(ctx context.Context, refund livestream.NewRefund) error {
	ctx, cancel := context.WithTimeout(ctx, workflows.StartDeadline+answerMargin)
	defer cancel()
	attributes := []temporal.SearchAttributeUpdate{workflows.AttrTransactionID.ValueSet(refund.TransactionID.String())}
	if refund.RequestedBy != nil {
		attributes = append(attributes, workflows.AttrUserID.ValueSet(refund.RequestedBy.String()))
	}
	options := client.StartWorkflowOptions{
		ID:                       workflows.RefundID(refund.ID),
		TaskQueue:                workflows.QueuePayment,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "refund of " + refund.TransactionID.String(),
		TypedSearchAttributes:    temporal.NewSearchAttributes(attributes...),
	}
	return c.updateWithStart(ctx, options, workflows.Refund, workflows.RefundInput{Refund: refund}, workflows.UpdateSubmitRefund, workflows.UpdateSubmitRefund)
}

// DeliverStripeEvent tells whom it concerns that Stripe said something: the workflow
// of the payment or refund while that is open, and else a workflow of the event's own,
// which looks at what is so and books it. Delivering the same event again changes
// nothing.
//
// Errors: unavailable.
func (c *Client) DeliverStripeEvent(ctx context.Context, event livestream.StripeEvent) error {
	if event.Followed() {
		signal := workflows.StripeEventSignal{EventID: event.ID, Type: event.Type}
		err := c.temporal.SignalWorkflow(ctx, event.WorkflowID, "", workflows.SignalStripeEvent, signal)
		if !isNotFound(err) {
			return domainError(err)
		}
	}
	if !event.MovesMoney() {
		return nil
	}
	_, err := c.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       workflows.StripeEventID(event.ID),
		TaskQueue:                workflows.QueuePayment,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            event.Type,
	}, workflows.StripeEvent, workflows.StripeEventInput{
		Type: event.Type, Object: event.Object, PaymentIntentID: event.PaymentIntentID, RefundID: event.RefundID, DisputeID: event.DisputeID,
	})
	return domainError(err)
}

// Ping asks Temporal whether it is there.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.temporal.CheckHealth(ctx, &client.CheckHealthRequest{})
	return err
}

func (c *Client) updateWithStart(ctx context.Context, options client.StartWorkflowOptions, workflow, input any, id, update string, args ...any) error {
	handle, err := c.temporal.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: c.temporal.NewWithStartWorkflowOperation(options, workflow, input),
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: id, WorkflowID: options.ID, UpdateName: update, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		var started *serviceerror.WorkflowExecutionAlreadyStarted
		if errors.As(err, &started) {
			return c.earlierAnswer(ctx, options.ID, id)
		}
		return domainError(err)
	}
	return domainError(handle.Get(ctx, nil))
}

// earlierAnswer is what the update of the same id was told in a workflow that
// has closed since.
func (c *Client) earlierAnswer(ctx context.Context, workflowID, update string) error {
	handle := c.temporal.GetWorkflowUpdateHandle(client.GetWorkflowUpdateHandleOptions{WorkflowID: workflowID, UpdateID: update})
	return domainError(handle.Get(ctx, nil))
}

// update asks a workflow for a change and gives its answer. A request that is
// repeated under its id is the same update: a workflow takes 2,000 of them.
func (c *Client) update(ctx context.Context, workflowID, id, name string, out any, args ...any) error {
	handle, err := c.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		UpdateID: id, WorkflowID: workflowID, UpdateName: name, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, out)
}

func isNotFound(err error) bool {
	var notFound *serviceerror.NotFound
	return errors.As(err, &notFound)
}

// unanswered is what Temporal says of an update whose workflow closed without an
// answer: a start that could not be written.
const unanswered = "AcceptedUpdateCompletedWorkflow"

// domainError is the one place where an error of Temporal becomes the domain's.
// Of an activity's errors only a final one has a code; the type of others is what
// Go calls them, and their text is for the log.
func domainError(err error) error {
	if err == nil {
		return nil
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		switch code := app.Type(); {
		case code == string(livestream.CodeUnavailable) || code == unanswered:
			return livestream.Unavailable("the service", err)
		case app.NonRetryable() && code == strings.ToLower(code):
			return &livestream.Error{Code: livestream.Code(code), Message: app.Message(), Err: err}
		}
		return fmt.Errorf("temporal: %w", err)
	}
	var (
		unavailable *serviceerror.Unavailable
		deadline    *serviceerror.DeadlineExceeded
		exhausted   *serviceerror.ResourceExhausted
		notReady    *serviceerror.WorkflowNotReady // its worker has died, several times
		waited      *client.WorkflowUpdateServiceTimeoutOrCanceledError
		step        *temporal.TimeoutError
	)
	if errors.As(err, &unavailable) || errors.As(err, &deadline) || errors.As(err, &exhausted) || errors.As(err, &notReady) ||
		errors.As(err, &waited) || errors.As(err, &step) || errors.Is(err, context.DeadlineExceeded) {
		return livestream.Unavailable("the service", err)
	}
	return fmt.Errorf("temporal: %w", err)
}
