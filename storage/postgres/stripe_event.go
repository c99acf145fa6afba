package postgres

import (
	"context"

	livestream "github.com/livestream-pro/livestream-pro"
)

// StripeEvents are the webhooks that came, each kept under its id.
type StripeEvents struct{ db *DB }

// NewStripeEvents are the webhooks of a database.
func NewStripeEvents(db *DB) *StripeEvents { return &StripeEvents{db} }

const saveStripeEvent = `-- name: stripe_event.save
WITH saved AS (
    INSERT INTO stripe_events (id, type, workflow_id, payload, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (id) DO NOTHING
)
SELECT EXISTS (SELECT 1 FROM stripe_events WHERE id = $1 AND delivered_at IS NOT NULL)`

// Save keeps an event, the first time it comes, and says whether it has been
// delivered to its payment already.
func (s *StripeEvents) Save(ctx context.Context, e livestream.StripeEvent) (bool, error) {
	var delivered bool
	err := s.db.primary.QueryRow(ctx, saveStripeEvent, e.ID, e.Type, e.WorkflowID, e.Payload, e.CreatedAt).Scan(&delivered)
	return delivered, edge("save stripe event", err)
}

const stripeEventDelivered = `-- name: stripe_event.delivered
UPDATE stripe_events SET delivered_at = now() WHERE id = $1 AND delivered_at IS NULL`

// MarkDelivered notes that an event's payment knows of it.
func (s *StripeEvents) MarkDelivered(ctx context.Context, id string) error {
	_, err := s.db.primary.Exec(ctx, stripeEventDelivered, id)
	return edge("stripe event delivered", err)
}
