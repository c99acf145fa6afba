package workflows

import (
	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Task queues. Each has its own workers and limits, see package workers.
const (
	QueueStream    = "stream"
	QueueNotify    = "notify"
	QueueArchive   = "archive"
	QueueTranscode = "transcode"
	QueuePayment   = "payment"
	QueuePush      = "push"
)

// StreamID is the id of a stream's workflow.
func StreamID(stream uuid.UUID) string { return "stream/" + stream.String() }

// NotifyID is the id of the fan-out that tells a stream's followers.
func NotifyID(stream uuid.UUID) string { return "notify/" + stream.String() }

// PushID is the id of the workflow that tells the browsers of a push's recipients.
func PushID(push livestream.NotificationPush) string {
	return "push/" + push.Key + "/" + push.Upto().String()
}

// ArchiveID is the id of an archive's workflow.
func ArchiveID(archive uuid.UUID) string { return "archive/" + archive.String() }

// DeleteArchiveID is the id of the workflow that deletes an archive.
func DeleteArchiveID(archive uuid.UUID) string { return ArchiveID(archive) + "/delete" }

// RestoreArchiveID is the id of the workflow that brings an archive back from GLACIER.
func RestoreArchiveID(archive uuid.UUID) string { return ArchiveID(archive) + "/restore" }

// PaymentID is the id of a payment's workflow: the payer's idempotency key makes
// it, so that the same request is the same workflow.
func PaymentID(payer uuid.UUID, idempotencyKey string) string {
	return "payment/" + payer.String() + "/" + idempotencyKey
}

// RefundID is the id of a refund's workflow.
func RefundID(refund uuid.UUID) string { return "refund/" + refund.String() }

// HoldID is the id of the workflow that keeps a payment pending for its creator.
func HoldID(transaction uuid.UUID) string { return "hold/" + transaction.String() }

// StripeEventID is the id of the workflow that applies an event which no open workflow
// waits for.
func StripeEventID(event string) string { return "stripe_event/" + event }
