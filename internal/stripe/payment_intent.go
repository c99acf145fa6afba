package stripe

import (
	"context"
	"errors"
	"time"

	stripesdk "github.com/stripe/stripe-go/v76"

	livestream "github.com/livestream-pro/livestream-pro"
)

// CreateIntent makes a PaymentIntent that takes no money before it is confirmed,
// so that one too many costs nobody anything. The key makes Stripe do it once,
// however often it is asked.
//
// Errors: unavailable, which may be tried again; others are final.
func (c *Client) CreateIntent(ctx context.Context, charge livestream.Charge) (livestream.PaymentIntent, error) {
	params := &stripesdk.PaymentIntentParams{
		Amount: stripesdk.Int64(charge.Amount), Currency: stripesdk.String(charge.Currency), Description: stripesdk.String(charge.Description),
		AutomaticPaymentMethods: &stripesdk.PaymentIntentAutomaticPaymentMethodsParams{
			Enabled: stripesdk.Bool(true), AllowRedirects: stripesdk.String("never"),
		},
	}
	params.AddMetadata(metadataTransaction, charge.TransactionID.String())
	params.AddMetadata(metadataWorkflow, charge.WorkflowID)
	params.SetIdempotencyKey(idempotencyKey(charge.Key))
	return guarded(ctx, c, func(ctx context.Context) (livestream.PaymentIntent, error) {
		params.Context = ctx
		return intentOf(c.intents.New(params))
	})
}

// PaymentIntent reads where a payment is.
//
// Errors: unavailable; others are final.
func (c *Client) PaymentIntent(ctx context.Context, id string) (livestream.PaymentIntent, error) {
	return guarded(ctx, c, func(ctx context.Context) (livestream.PaymentIntent, error) {
		return intentOf(c.intents.Get(id, &stripesdk.PaymentIntentParams{Params: stripesdk.Params{Context: ctx}}))
	})
}

// Confirm takes the money of a PaymentIntent. Stripe does that once, whatever the
// key is; a decline is not an error but the PaymentIntent's Failure.
//
// Errors: unavailable; payment_intent_unexpected_state when it is confirmed or
// canceled already; others are final too.
func (c *Client) Confirm(ctx context.Context, id, paymentMethod, key string) (livestream.PaymentIntent, error) {
	params := &stripesdk.PaymentIntentConfirmParams{PaymentMethod: stripesdk.String(paymentMethod)}
	params.SetIdempotencyKey(idempotencyKey(key))
	return guarded(ctx, c, func(ctx context.Context) (livestream.PaymentIntent, error) {
		params.Context = ctx
		return intentOf(c.intents.Confirm(id, params))
	})
}

// Cancel gives up a payment that is not paid.
//
// Errors: unavailable; payment_intent_unexpected_state when it is paid, or
// canceled already; others are final too.
func (c *Client) Cancel(ctx context.Context, id, key string) (livestream.PaymentIntent, error) {
	params := &stripesdk.PaymentIntentCancelParams{}
	params.SetIdempotencyKey(idempotencyKey(key))
	return guarded(ctx, c, func(ctx context.Context) (livestream.PaymentIntent, error) {
		params.Context = ctx
		return intentOf(c.intents.Cancel(id, params))
	})
}

// ListIntents lists the PaymentIntents that were made from one time on until
// before another, newest first, in pages: next is the after of the following one,
// and empty at the end.
//
// Errors: unavailable; others are final.
func (c *Client) ListIntents(ctx context.Context, from, to time.Time, after string) (intents []livestream.PaymentIntent, next string, err error) {
	return listed(ctx, c, after, func(page stripesdk.ListParams) *stripesdk.Iter {
		return c.intents.List(&stripesdk.PaymentIntentListParams{ListParams: page, CreatedRange: between(from, to)}).Iter
	}, convertIntent, func(v livestream.PaymentIntent) string { return v.ID })
}

// intentOf takes a decline for the answer that it is: the error carries the
// PaymentIntent.
func intentOf(intent *stripesdk.PaymentIntent, err error) (livestream.PaymentIntent, error) {
	var e *stripesdk.Error
	if errors.As(err, &e) && e.Type == stripesdk.ErrorTypeCard && e.PaymentIntent != nil {
		intent, err = e.PaymentIntent, nil
	}
	if err != nil {
		return livestream.PaymentIntent{}, err
	}
	return convertIntent(intent), nil
}

func convertIntent(intent *stripesdk.PaymentIntent) livestream.PaymentIntent {
	out := livestream.PaymentIntent{
		ID: intent.ID, ClientSecret: intent.ClientSecret, Status: livestream.PaymentIntentStatus(intent.Status),
		Amount: intent.Amount, Currency: string(intent.Currency),
		TransactionID: ourID(intent.Metadata, metadataTransaction), WorkflowID: intent.Metadata[metadataWorkflow],
		CreatedAt: time.Unix(intent.Created, 0).UTC(),
	}
	if last := intent.LastPaymentError; last != nil {
		out.Failure = &livestream.Failure{Code: string(last.DeclineCode), Message: last.Msg}
		if out.Failure.Code == "" {
			out.Failure.Code = string(last.Code)
		}
	}
	return out
}
