package stripe

import (
	"errors"
	"slices"
	"time"

	stripesdk "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/webhook"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Webhooks verifies events. It needs no secret key: who takes them moves no money.
type Webhooks struct{ secrets []string }

// NewWebhooks takes the secrets that sign events: the current one, and the last one
// while it is rotated out. Without any, no event is genuine.
func NewWebhooks(secrets []string) (*Webhooks, error) {
	if slices.Contains(secrets, "") {
		return nil, errors.New("stripe: a webhook secret is empty, and anybody could sign with it")
	}
	return &Webhooks{secrets}, nil
}

// ParseWebhook verifies an event's signature, which must not be older than five
// minutes.
//
// Errors: invalid_signature.
func (w *Webhooks) ParseWebhook(body []byte, signature string) (livestream.StripeEvent, error) {
	var (
		event stripesdk.Event
		err   = errors.New("there is no webhook secret")
	)
	for _, secret := range w.secrets {
		event, err = webhook.ConstructEventWithOptions(body, signature, secret, webhook.ConstructEventOptions{
			Tolerance: webhook.DefaultTolerance, IgnoreAPIVersionMismatch: true,
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return livestream.StripeEvent{}, &livestream.Error{Code: livestream.CodeInvalidStripeSignature, Message: "the signature does not fit, or is too old", Err: err}
	}
	out := livestream.StripeEvent{ID: event.ID, Type: string(event.Type), CreatedAt: time.Unix(event.Created, 0).UTC(), Payload: body}
	if event.ID == "" || event.Data == nil {
		return out, livestream.Errorf(livestream.CodeInvalidStripeSignature, "this is not an event")
	}
	text := func(keys ...string) string {
		var value any = event.Data.Object
		for _, key := range keys {
			object, _ := value.(map[string]any)
			value = object[key]
		}
		s, _ := value.(string)
		return s
	}
	out.Object, out.WorkflowID = text("object"), text("metadata", metadataWorkflow)
	out.PaymentIntentID = text("payment_intent")
	switch out.Object {
	case "payment_intent":
		out.PaymentIntentID = text("id")
	case "refund":
		out.RefundID = text("id")
	case "dispute":
		out.DisputeID = text("id")
	}
	return out, nil
}
