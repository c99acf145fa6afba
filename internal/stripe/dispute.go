package stripe

import (
	"context"
	"slices"
	"time"

	stripesdk "github.com/stripe/stripe-go/v76"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Dispute reads where a dispute is.
//
// Errors: unavailable; others are final.
func (c *Client) Dispute(ctx context.Context, id string) (livestream.StripeDispute, error) {
	return guarded(ctx, c, func(ctx context.Context) (livestream.StripeDispute, error) {
		dispute, err := c.disputes.Get(id, &stripesdk.DisputeParams{Params: stripesdk.Params{Context: ctx}})
		if err != nil {
			return livestream.StripeDispute{}, err
		}
		return convertDispute(dispute), nil
	})
}

// ListDisputes lists disputes as ListIntents does PaymentIntents.
//
// Errors: unavailable; others are final.
func (c *Client) ListDisputes(ctx context.Context, from, to time.Time, after string) (disputes []livestream.StripeDispute, next string, err error) {
	return listed(ctx, c, after, func(page stripesdk.ListParams) *stripesdk.Iter {
		return c.disputes.List(&stripesdk.DisputeListParams{ListParams: page, CreatedRange: between(from, to)}).Iter
	}, convertDispute, func(v livestream.StripeDispute) string { return v.ID })
}

func convertDispute(dispute *stripesdk.Dispute) livestream.StripeDispute {
	out := livestream.StripeDispute{
		ID: dispute.ID, Status: livestream.StripeDisputeStatus(dispute.Status), Amount: dispute.Amount, Currency: string(dispute.Currency),
		Reason: string(dispute.Reason), CreatedAt: time.Unix(dispute.Created, 0).UTC(),
	}
	if dispute.PaymentIntent != nil {
		out.PaymentIntentID = dispute.PaymentIntent.ID
	}
	// Stripe may give the money of a lost one back, when the bank changes its mind.
	if out.Status == livestream.DisputeLost && slices.ContainsFunc(dispute.BalanceTransactions, func(t *stripesdk.BalanceTransaction) bool { return t.Amount > 0 }) {
		out.Status = livestream.DisputeWon
	}
	return out
}
