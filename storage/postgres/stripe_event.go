package postgres

import (
	"context"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// StripeEvents keeps Stripe's webhooks, byte for byte.
type StripeEvents struct{ db *DB }

// NewStripeEvents keeps webhooks in db.
func NewStripeEvents(db *DB) *StripeEvents { return &StripeEvents{db: db} }

const (
	// One that nobody waits for, or that says of a payment what is booked, is delivered
	// once it is kept.
	saveStripeEventSQL = `-- name: stripe_events.save
WITH e AS (
	INSERT INTO stripe_events (id, type, created_at, payment_intent_id, workflow_id, payload, object, refund_id, dispute_id, delivered_at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN NOT $10 OR
		$2 = 'payment_intent.succeeded' AND EXISTS (SELECT FROM transactions WHERE payment_intent_id = $4 AND settled_at IS NOT NULL) THEN now() END)
	ON CONFLICT (id) DO NOTHING
	RETURNING delivered_at IS NOT NULL AS delivered
)
SELECT coalesce((SELECT delivered FROM e), EXISTS (SELECT FROM stripe_events WHERE id = $1 AND delivered_at IS NOT NULL))`

	markDeliveredSQL = `-- name: stripe_events.mark_delivered
UPDATE stripe_events SET delivered_at = now() WHERE id = $1 AND delivered_at IS NULL`

	deleteOldStripeEventsSQL = `-- name: stripe_events.delete_old
DELETE FROM stripe_events WHERE ctid = ANY (ARRAY (
	SELECT ctid FROM stripe_events WHERE received_at < $1 AND delivered_at IS NOT NULL
	ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
))`
)

// Save keeps an event when it comes for the first time, and says whether it was
// delivered already, or there is nobody to deliver it to.
func (s *StripeEvents) Save(ctx context.Context, event livestream.StripeEvent) (bool, error) {
	delivered, err := scalar[bool](ctx, s.db.primary, saveStripeEventSQL, event.ID, event.Type, event.CreatedAt, event.PaymentIntentID,
		event.WorkflowID, event.Payload, event.Object, event.RefundID, event.DisputeID, event.Awaited())
	return delivered, fail(ctx, "save stripe event", err)
}

// MarkDelivered notes that an event's payment was told of it.
func (s *StripeEvents) MarkDelivered(ctx context.Context, id string) error {
	_, err := s.db.primary.Exec(ctx, markDeliveredSQL, id)
	return fail(ctx, "mark stripe event delivered", err)
}

// DeleteOld forgets events that were received before a time and delivered: the
// oldest first and at most limit of them. It gives how many that were.
func (s *StripeEvents) DeleteOld(ctx context.Context, before time.Time, limit int) (int64, error) {
	tag, err := s.db.primary.Exec(ctx, deleteOldStripeEventsSQL, before, limit)
	return tag.RowsAffected(), fail(ctx, "delete old stripe events", err)
}
