package httpapi

import (
	"context"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Webhooks checks the signatures of Stripe's events.
type Webhooks interface {
	ParseWebhook(body []byte, signature string) (livestream.StripeEvent, error)
}

// StripeEvents stores Stripe's events, each once.
type StripeEvents interface {
	Save(ctx context.Context, event livestream.StripeEvent) (delivered bool, err error)
	MarkDelivered(ctx context.Context, id string) error
}

// StripeWebhook stores an event before it is acknowledged and hands it to whom it
// concerns. When that cannot be done now, Stripe is told so and sends it again.
func (s *Server) StripeWebhook(ctx context.Context, request StripeWebhookRequestObject) (StripeWebhookResponseObject, error) {
	body, _ := ctx.Value(rawBodyKey).([]byte)
	event, err := s.deps.Webhooks.ParseWebhook(body, request.Params.StripeSignature)
	if err != nil {
		return nil, err
	}
	delivered, err := s.deps.StripeEvents.Save(ctx, event)
	if err != nil {
		return nil, err
	}
	if !delivered {
		if err := s.deps.Workflows.DeliverStripeEvent(ctx, event); err != nil {
			return nil, err
		}
		if err := s.deps.StripeEvents.MarkDelivered(ctx, event.ID); err != nil {
			return nil, err
		}
	}
	return StripeWebhook200JSONResponse{Received: true}, nil
}
