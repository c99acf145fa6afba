package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func tip(recipient string) map[string]any {
	return map[string]any{"recipient_id": recipient, "kind": "tip", "amount": 500, "currency": "usd", "message": "for the coffee", "payment_method": "pm_card_visa"}
}

// settled waits for a payment's end.
func (c *caller) settled(id string) map[string]any {
	c.t.Helper()
	var got map[string]any
	c.eventually(func() bool {
		got = c.get("/api/transactions/"+id).ok(c.t, http.StatusOK).json(c.t)
		return got["settled_at"] != nil
	})
	return got
}

func (p *product) charges(transaction string) (n int) {
	for _, charge := range p.stripe.Charges() {
		if charge.Metadata["transaction_id"] == transaction {
			n++
		}
	}
	return n
}

func TestTipIsPaidAndBooked(t *testing.T) {
	p := api(t)
	ada, bob, eve := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	in := tip(ada.id)
	delete(in, "recipient_id")
	in["stream_id"] = stream
	made := bob.post("/api/transactions", in, "Idempotency-Key", "tip 1").ok(t, http.StatusCreated)
	id := made.text(t, "id")
	require.Equal(t, ada.id, made.text(t, "recipient_id"))
	require.NotEmpty(t, made.text(t, "client_secret"))
	require.Equal(t, "payment/"+bob.id+"/tip 1", made.text(t, "workflow_id"))
	paid := bob.settled(id)
	require.Equal(t, "succeeded", paid["status"])
	require.EqualValues(t, 50, paid["fee_amount"])
	require.Equal(t, 1, p.charges(id))
	require.JSONEq(t, `{"balances":[{"currency":"usd","available":0,"pending":450}]}`, string(ada.get("/api/users/me/balance").ok(t, http.StatusOK).body))
	require.JSONEq(t, `{"balances":[]}`, string(bob.get("/api/users/me/balance").body))
	seen := ada.get("/api/transactions/"+id).ok(t, http.StatusOK)
	require.NotContains(t, string(seen.body), "client_secret", "it is the payer's")
	eve.get("/api/transactions/"+id).problem(t, http.StatusNotFound, "transaction_not_found")
	require.Len(t, ada.get("/api/transactions?status=succeeded").data(t), 1)
	require.Len(t, bob.get("/api/transactions").data(t), 1)
	require.Empty(t, eve.get("/api/transactions").data(t))
	notes := ada.get("/api/notifications").data(t)
	require.Equal(t, "tip_received", notes[0]["type"])
	require.Equal(t, map[string]any{"transaction_id": id, "user_id": bob.id, "amount": 500.0, "currency": "usd", "message": "for the coffee"}, notes[0]["data"])
}

func TestDeclinedTipSaysWhy(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	in := tip(ada.id)
	in["payment_method"] = "pm_card_chargeDeclinedInsufficientFunds"
	made := bob.post("/api/transactions", in, "Idempotency-Key", "declined").ok(t, http.StatusCreated)
	require.NotEqual(t, "requires_action", made.text(t, "status"), "there is nothing that the payer could do")
	id := made.text(t, "id")
	var got map[string]any
	bob.eventually(func() bool { got = bob.get("/api/transactions/" + id).json(t); return got["status"] == "failed" })
	require.Equal(t, "insufficient_funds", got["failure"].(map[string]any)["code"])
	require.NotEmpty(t, got["failure"].(map[string]any)["message"])
	require.JSONEq(t, `{"balances":[]}`, string(ada.get("/api/users/me/balance").body))
}

func TestSameKeyIsOnePayment(t *testing.T) {
	p := api(t)
	ada, bob, eve := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	var (
		wait    sync.WaitGroup
		answers [50]answer
	)
	for i := range answers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			answers[i] = bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "once")
		}()
	}
	wait.Wait()
	id := answers[0].ok(t, http.StatusCreated).text(t, "id")
	for _, got := range answers {
		require.Equal(t, id, got.ok(t, http.StatusCreated).text(t, "id"))
	}
	bob.settled(id)
	require.Equal(t, 1, p.charges(id))
	require.Len(t, bob.get("/api/transactions").data(t), 1)
	other := tip(ada.id)
	other["amount"] = 501
	bob.post("/api/transactions", other, "Idempotency-Key", "once").problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	require.NotEqual(t, id, eve.post("/api/transactions", tip(ada.id), "Idempotency-Key", "once").ok(t, http.StatusCreated).text(t, "id"))
}

func TestTransactionRefusesBadInput(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	bob.post("/api/transactions", tip(ada.id)).problem(t, http.StatusBadRequest, "idempotency_key_required")
	bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "ümlaut").problem(t, http.StatusBadRequest, "invalid_request")
	ada.post("/api/transactions", tip(ada.id), "Idempotency-Key", "self").problem(t, http.StatusUnprocessableEntity, "cannot_tip_self")
	bob.post("/api/transactions", tip(uuid.NewString()), "Idempotency-Key", "nobody").problem(t, http.StatusNotFound, "user_not_found")
	for field, values := range map[string][]any{
		"amount":         {0, 49, 100_000_000, -500, 1.5, "500", nil},
		"currency":       {"USD", "us", "dollar", nil},
		"kind":           {"gift", nil},
		"recipient_id":   {"me", nil},
		"stream_id":      {uuid.NewString()}, // both of them
		"message":        {string(make([]rune, 256)), 7},
		"payment_method": {"", 7},
		"fee_amount":     {0},
	} {
		for _, v := range values {
			in := tip(ada.id)
			in[field] = v
			bob.post("/api/transactions", in, "Idempotency-Key", "bad").problem(t, http.StatusBadRequest, "invalid_request")
		}
	}
	over := ada.mustStart(nil)
	ada.mustEnd(over)
	in := tip(ada.id)
	delete(in, "recipient_id")
	bob.post("/api/transactions", in, "Idempotency-Key", "to nobody").problem(t, http.StatusBadRequest, "invalid_request")
	in["stream_id"] = over
	bob.post("/api/transactions", in, "Idempotency-Key", "too late").problem(t, http.StatusUnprocessableEntity, "stream_not_live")
	in["stream_id"] = uuid.NewString()
	bob.post("/api/transactions", in, "Idempotency-Key", "no stream").problem(t, http.StatusNotFound, "stream_not_found")
	require.Empty(t, bob.get("/api/transactions").data(t))
}

func TestTipIsQueuedWhenStripeDoesNotAnswerAndPaidLater(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{})
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	p.stripe.SetFaults(stripesim.Faults{CutBefore: 1})
	queued := bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "later").ok(t, http.StatusAccepted)
	require.Equal(t, "queued", queued.text(t, "status"))
	p.stripe.SetFaults(stripesim.Faults{})
	got := bob.settled(queued.text(t, "id"))
	require.Equal(t, "succeeded", got["status"])
	require.Equal(t, 1, p.charges(queued.text(t, "id")))
}

func TestWebhookIsRefusedWithoutAGoodSignature(t *testing.T) {
	p := api(t)
	body, err := json.Marshal(map[string]any{
		"id": "evt_" + uuid.NewString(), "object": "event", "type": "payment_intent.succeeded", "created": time.Now().Unix(),
		"data": map[string]any{"object": map[string]any{"id": "pi_x", "object": "payment_intent", "metadata": map[string]any{}}},
	})
	require.NoError(t, err)
	stripe := p.anybody(t)
	stripe.post("/api/webhooks/stripe", body, "Stripe-Signature", stripesim.Sign(body, "whsec_wrong", time.Now())).
		problem(t, http.StatusBadRequest, "invalid_signature")
	stripe.post("/api/webhooks/stripe", body, "Stripe-Signature", stripesim.Sign(body, webhookSecret, time.Now().Add(-6*time.Minute))).
		problem(t, http.StatusBadRequest, "invalid_signature")
	stripe.post("/api/webhooks/stripe", append(body, ' '), "Stripe-Signature", stripesim.Sign(body, webhookSecret, time.Now())).
		problem(t, http.StatusBadRequest, "invalid_signature")
	stripe.post("/api/webhooks/stripe", body).problem(t, http.StatusBadRequest, "invalid_request")
	for range 2 { // an event that was seen before changes nothing
		stripe.post("/api/webhooks/stripe", body, "Stripe-Signature", stripesim.Sign(body, webhookSecret, time.Now())).ok(t, http.StatusOK)
	}
}

func TestTipKeepsToTheRulesOfTheChat(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	in := tip(ada.id)
	delete(in, "recipient_id")
	in["stream_id"] = stream
	ada.do(http.MethodPatch, "/api/streams/"+stream+"/chat/settings", map[string]any{"blocked_terms": []string{"coffee"}}).ok(t, http.StatusOK)
	in["message"] = "for the COFFEE"
	bob.post("/api/transactions", in, "Idempotency-Key", "blocked").problem(t, http.StatusUnprocessableEntity, "blocked_term")
	in["message"] = "  for the Cafe\u0301 "
	made := bob.post("/api/transactions", in, "Idempotency-Key", "blocked 2").ok(t, http.StatusCreated)
	require.Equal(t, "for the Caf\u00e9", made.text(t, "message"), "as the chat shows it")

	ada.do(http.MethodPut, "/api/streams/"+stream+"/chat/bans/"+bob.id, map[string]any{}).ok(t, http.StatusNoContent)
	bob.post("/api/transactions", in, "Idempotency-Key", "banned").problem(t, http.StatusForbidden, "banned")
	bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "banned 2").problem(t, http.StatusForbidden, "banned")
	ada.do(http.MethodDelete, "/api/streams/"+stream+"/chat/bans/"+bob.id, nil).ok(t, http.StatusNoContent)
	bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "forgiven").ok(t, http.StatusCreated)
}

func TestTipsHaveRangesByCurrency(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	for amount, status := range map[int]int{199: http.StatusBadRequest, 200: http.StatusCreated, 5000: http.StatusCreated, 5001: http.StatusBadRequest} {
		in := tip(ada.id)
		in["currency"], in["amount"] = "jpy", amount
		got := bob.post("/api/transactions", in, "Idempotency-Key", fmt.Sprint("jpy ", amount))
		require.Equal(t, status, got.status, "%s", got.body)
		if status != http.StatusCreated {
			require.Contains(t, string(got.body), "must be from 200 to 5000 in jpy")
			continue
		}
		require.EqualValues(t, amount/10, bob.settled(got.text(t, "id"))["fee_amount"], "yen have no hundredths")
	}
}
