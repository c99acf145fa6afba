package httpapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// mustTip pays a tip of 500 and waits until it is booked.
func (c *caller) mustTip(to *caller) string {
	c.t.Helper()
	id := c.post("/api/transactions", tip(to.id), "Idempotency-Key", uuid.NewString()).ok(c.t, http.StatusCreated).text(c.t, "id")
	require.Equal(c.t, "succeeded", c.settled(id)["status"])
	return id
}

// refunded waits until so much of a payment has gone back.
func (c *caller) refunded(id string, amount int) map[string]any {
	c.t.Helper()
	var got map[string]any
	c.eventually(func() bool {
		got = c.get("/api/transactions/"+id).ok(c.t, http.StatusOK).json(c.t)
		return got["refunded_amount"] == float64(amount)
	})
	return got
}

func (c *caller) balance() string {
	c.t.Helper()
	return string(c.get("/api/users/me/balance").ok(c.t, http.StatusOK).body)
}

func TestTipIsGivenBackInParts(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id := bob.mustTip(ada)
	refund := "/api/transactions/" + id + "/refund"

	now := ada.post(refund, map[string]any{"amount": 200, "reason": "the stream was cut short"}).ok(t, http.StatusAccepted)
	require.Equal(t, id, now.text(t, "id"))
	require.Equal(t, "succeeded", now.text(t, "status"))
	got := bob.refunded(id, 200)
	require.Equal(t, "succeeded", got["status"], "a part of it went back")
	require.JSONEq(t, `{"balances":[{"currency":"usd","available":0,"pending":270}]}`, ada.balance())

	ada.post(refund, map[string]any{"amount": 301}).problem(t, http.StatusUnprocessableEntity, "refund_exceeds_charge")
	ada.post(refund, nil).ok(t, http.StatusAccepted) // all that is left
	require.Equal(t, "refunded", bob.refunded(id, 500)["status"])
	require.JSONEq(t, `{"balances":[{"currency":"usd","available":0,"pending":0}]}`, ada.balance(), "the fee went back too")
	ada.post(refund, nil).problem(t, http.StatusConflict, "already_refunded")
	ada.post(refund, map[string]any{"amount": 1}).problem(t, http.StatusConflict, "already_refunded")
	require.Len(t, ada.get("/api/transactions?status=refunded").data(t), 1)
	require.EqualValues(t, 500, p.givenBack(id))
}

// givenBack is what the simulator paid back of a payment.
func (p *product) givenBack(transaction string) (sum int64) {
	for _, refund := range p.stripe.Refunds() {
		if refund.Metadata["transaction_id"] == transaction && refund.Status == "succeeded" {
			sum += refund.Amount
		}
	}
	return sum
}

func TestWhoMayGiveAPaymentBack(t *testing.T) {
	p := api(t)
	ada, bob, eve, root := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	id := bob.mustTip(ada)
	refund := "/api/transactions/" + id + "/refund"
	bob.post(refund, nil).problem(t, http.StatusForbidden, "forbidden")
	eve.post(refund, nil).problem(t, http.StatusNotFound, "transaction_not_found")
	p.anybody(t).post(refund, nil).problem(t, http.StatusUnauthorized, "unauthorized")
	ada.post("/api/transactions/"+uuid.NewString()+"/refund", nil).problem(t, http.StatusNotFound, "transaction_not_found")

	p.exec(t, "UPDATE users SET role = 'admin' WHERE id = $1", root.id)
	root.token = root.post("/api/auth/login", map[string]any{"email": root.email, "password": password}).ok(t, http.StatusOK).text(t, "access_token")
	got := root.post(refund, map[string]any{"amount": 100}).ok(t, http.StatusAccepted)
	require.NotContains(t, string(got.body), "client_secret")
	bob.refunded(id, 100)
	p.exec(t, "UPDATE users SET role = 'member' WHERE id = $1", root.id)
	root.post(refund, nil).problem(t, http.StatusNotFound, "transaction_not_found") // with the token of an admin
}

func TestRefundRefusesBadInput(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id := bob.mustTip(ada)
	refund := "/api/transactions/" + id + "/refund"
	for _, in := range []any{
		map[string]any{"amount": 0}, map[string]any{"amount": -5}, map[string]any{"amount": 1.5}, map[string]any{"amount": "5"},
		map[string]any{"amount": 100_000_000}, map[string]any{"reason": string(make([]rune, 256))}, map[string]any{"fee": 1}, "{", "[]",
	} {
		ada.post(refund, in).problem(t, http.StatusBadRequest, "invalid_request")
	}
	ada.post("/api/transactions/me/refund", nil).problem(t, http.StatusBadRequest, "invalid_request")
	ada.post(refund, map[string]any{"amount": 501}).problem(t, http.StatusUnprocessableEntity, "refund_exceeds_charge")
	require.Zero(t, p.givenBack(id))

	in := tip(ada.id)
	in["payment_method"] = "pm_card_authenticationRequired"
	waiting := bob.post("/api/transactions", in, "Idempotency-Key", "unpaid").ok(t, http.StatusCreated).text(t, "id")
	ada.post("/api/transactions/"+waiting+"/refund", nil).problem(t, http.StatusUnprocessableEntity, "refund_exceeds_charge")
}

func TestSameKeyIsOneRefund(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id, other := bob.mustTip(ada), bob.mustTip(ada)
	refund := func(id string, amount int) answer {
		return ada.post("/api/transactions/"+id+"/refund", map[string]any{"amount": amount}, "Idempotency-Key", "sorry")
	}
	var wait sync.WaitGroup
	answers := make([]answer, 20)
	for i := range answers {
		wait.Go(func() { answers[i] = refund(id, 100) })
	}
	wait.Wait()
	for _, got := range answers {
		got.ok(t, http.StatusAccepted)
	}
	bob.refunded(id, 100)
	require.EqualValues(t, 100, p.givenBack(id))
	require.Equal(t, string(refund(id, 100).body), string(refund(id, 100).body), "the first answer again")
	refund(id, 101).problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	refund(other, 100).problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	require.Zero(t, p.givenBack(other))
}

func TestRefundsOutlastAnOutageOfStripe(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{})
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id := bob.mustTip(ada)
	p.stripe.SetFaults(stripesim.Faults{CutBefore: 0.2, CutAfter: 0.3, ErrorBefore: 0.2, ErrorAfter: 0.2, WebhooksTwice: 0.5, WebhooksLost: 0.3})
	for range 8 {
		ada.post("/api/transactions/"+id+"/refund", map[string]any{"amount": 25}).ok(t, http.StatusAccepted)
	}
	ada.eventually(func() bool { return p.givenBack(id) > 0 })
	p.stripe.SetFaults(stripesim.Faults{})
	require.Eventually(t, func() bool { return bob.get("/api/transactions/" + id).json(t)["refunded_amount"] == 200.0 }, time.Minute, 100*time.Millisecond)
	require.EqualValues(t, 200, p.givenBack(id), "none of them twice")
	require.JSONEq(t, `{"balances":[{"currency":"usd","available":0,"pending":270}]}`, ada.balance())
}

// What Stripe tells of a payment whose workflow is closed reaches the ledger all the
// same.
func TestEventsOfClosedPaymentsReachTheLedger(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	pay := func(method string) string {
		in := tip(ada.id)
		in["payment_method"] = method
		id := bob.post("/api/transactions", in, "Idempotency-Key", uuid.NewString()).ok(t, http.StatusCreated).text(t, "id")
		bob.settled(id)
		return id
	}
	holds := func(available, pending int) {
		t.Helper()
		want := fmt.Sprintf(`{"balances":[{"available":%d,"currency":"usd","pending":%d}]}`, available, pending)
		require.Eventually(t, func() bool { return strings.TrimSpace(ada.balance()) == want }, time.Minute, 50*time.Millisecond, "%s is not %s", ada.balance(), want)
	}
	// Somebody gives it back at Stripe's dashboard.
	id := pay("pm_card_visa")
	p.atStripe(t, "/v1/refunds", url.Values{"payment_intent": {bob.get("/api/transactions/"+id).text(t, "stripe_payment_intent_id")}, "amount": {"100"}})
	bob.refunded(id, 100)
	holds(0, 360)

	// A refund that had succeeded comes back.
	back := pay("pm_card_refundFail")
	ada.post("/api/transactions/"+back+"/refund", nil).ok(t, http.StatusAccepted)
	c := fmt.Sprintf("SELECT count(*) FROM refunds WHERE transaction_id = '%s' AND status = 'failed'", back)
	require.Eventually(t, func() bool { return p.number(t, c) == 1 }, time.Minute, 50*time.Millisecond)
	require.Equal(t, "succeeded", bob.refunded(back, 0)["status"])
	holds(0, 360+450)

	// A payer goes to their bank, which decides.
	disputed := pay("pm_card_createDispute")
	holds(0, 360+450)
	dispute := p.disputeOf(t, bob.get("/api/transactions/"+disputed).text(t, "stripe_payment_intent_id"))
	p.atStripe(t, "/v1/disputes/"+dispute, url.Values{"evidence[uncategorized_text]": {"winning_evidence"}})
	holds(0, 360+2*450)
	lost := pay("pm_card_createDispute")
	dispute = p.disputeOf(t, bob.get("/api/transactions/"+lost).text(t, "stripe_payment_intent_id"))
	p.atStripe(t, "/v1/disputes/"+dispute+"/close", nil)
	require.Eventually(t, func() bool {
		return p.number(t, "SELECT count(*) FROM disputes WHERE id = $1 AND status = 'lost'", dispute) == 1
	}, time.Minute, 50*time.Millisecond)
	holds(0, 360+2*450)
}

// atStripe does what somebody does at Stripe, past us.
func (p *product) atStripe(t *testing.T, path string, form url.Values) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.stripeURL+path, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer sk_test_x")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// disputeOf waits for the dispute of a payment.
func (p *product) disputeOf(t *testing.T, intent string) (id string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, dispute := range p.stripe.Disputes() {
			if dispute.PaymentIntent == intent {
				id = dispute.ID
			}
		}
		return id != ""
	}, time.Minute, 50*time.Millisecond)
	return id
}
