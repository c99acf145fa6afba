package stripe

import (
	"context"
	"time"

	stripesdk "github.com/stripe/stripe-go/v76"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Refund gives money back to the payer. The key makes Stripe do it once, however
// often it is asked. One that succeeds may still fail later, when the payer's bank
// sends the money back.
//
// Errors: unavailable, which may be tried again; charge_already_refunded,
// charge_disputed and others are final.
func (c *Client) Refund(ctx context.Context, request livestream.RefundRequest) (livestream.StripeRefund, error) {
	params := &stripesdk.RefundParams{
		PaymentIntent: stripesdk.String(request.PaymentIntentID), Amount: stripesdk.Int64(request.Amount),
	}
	params.AddMetadata(metadataRefund, request.RefundID.String())
	params.AddMetadata(metadataTransaction, request.TransactionID.String())
	params.AddMetadata(metadataWorkflow, request.WorkflowID)
	if request.Reason != "" {
		params.AddMetadata(metadataReason, request.Reason)
	}
	params.SetIdempotencyKey(idempotencyKey(request.Key))
	return guarded(ctx, c, func(ctx context.Context) (livestream.StripeRefund, error) {
		params.Context = ctx
		return refundOf(c.refunds.New(params))
	})
}

// RefundByID reads where a refund is, by Stripe's id.
//
// Errors: unavailable; others are final.
func (c *Client) RefundByID(ctx context.Context, id string) (livestream.StripeRefund, error) {
	return guarded(ctx, c, func(ctx context.Context) (livestream.StripeRefund, error) {
		return refundOf(c.refunds.Get(id, &stripesdk.RefundParams{Params: stripesdk.Params{Context: ctx}}))
	})
}

// RefundsOf lists the refunds of a payment, newest first: the newest 100, more than
// anybody makes of one.
//
// Errors: unavailable; others are final.
func (c *Client) RefundsOf(ctx context.Context, paymentIntentID string) ([]livestream.StripeRefund, error) {
	refunds, _, err := listed(ctx, c, "", func(page stripesdk.ListParams) *stripesdk.Iter {
		return c.refunds.List(&stripesdk.RefundListParams{ListParams: page, PaymentIntent: stripesdk.String(paymentIntentID)}).Iter
	}, convertRefund, func(v livestream.StripeRefund) string { return v.ID })
	return refunds, err
}

// ListRefunds lists refunds as ListIntents does PaymentIntents.
//
// Errors: unavailable; others are final.
func (c *Client) ListRefunds(ctx context.Context, from, to time.Time, after string) (refunds []livestream.StripeRefund, next string, err error) {
	return listed(ctx, c, after, func(page stripesdk.ListParams) *stripesdk.Iter {
		return c.refunds.List(&stripesdk.RefundListParams{ListParams: page, CreatedRange: between(from, to)}).Iter
	}, convertRefund, func(v livestream.StripeRefund) string { return v.ID })
}

func refundOf(refund *stripesdk.Refund, err error) (livestream.StripeRefund, error) {
	if err != nil {
		return livestream.StripeRefund{}, err
	}
	return convertRefund(refund), nil
}

func convertRefund(refund *stripesdk.Refund) livestream.StripeRefund {
	out := livestream.StripeRefund{
		ID: refund.ID, Status: livestream.StripeRefundStatus(refund.Status), Amount: refund.Amount, Currency: string(refund.Currency),
		RefundID: ourID(refund.Metadata, metadataRefund), TransactionID: ourID(refund.Metadata, metadataTransaction),
		WorkflowID: refund.Metadata[metadataWorkflow], CreatedAt: time.Unix(refund.Created, 0).UTC(),
	}
	if refund.PaymentIntent != nil {
		out.PaymentIntentID = refund.PaymentIntent.ID
	}
	if refund.Status == stripesdk.RefundStatusFailed {
		out.Failure = &livestream.Failure{Code: string(refund.FailureReason), Message: "The payer's bank did not take the refund."}
	}
	return out
}
