package stripesim

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Refund is money that was given back, as Stripe's API shows it.
type Refund struct {
	ID            string            `json:"id"`
	Object        string            `json:"object"`
	Amount        int64             `json:"amount"`
	Charge        string            `json:"charge"`
	PaymentIntent string            `json:"payment_intent"`
	Currency      string            `json:"currency"`
	Status        string            `json:"status"`
	FailureReason string            `json:"failure_reason,omitempty"`
	Reason        string            `json:"reason,omitempty"`
	Metadata      map[string]string `json:"metadata"`
	Created       int64             `json:"created"`
}

func (r *Refund) key() string    { return r.ID }
func (r *Refund) made() int64    { return r.Created }
func (r *Refund) intent() string { return r.PaymentIntent }

func (s *Server) createRefund(form url.Values, _ string) (int, any) {
	c, ok := s.charges.get(form.Get("charge"))
	if id := form.Get("payment_intent"); id != "" {
		i, known := s.intents.get(id)
		if !known {
			return missing("payment_intent", id)
		}
		if c, ok = s.charges.get(i.LatestCharge); !ok {
			return invalid("", "This PaymentIntent ("+id+") does not have a successful charge to refund.", "")
		}
	}
	if !ok {
		return missing("charge", form.Get("charge"))
	}
	left := c.Amount - c.AmountRefunded
	amount := left
	if text := form.Get("amount"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return invalid("parameter_invalid_integer", "This value must be greater than or equal to 1.", "amount")
		}
		amount = n
	}
	switch {
	case s.chargedBack(c):
		return invalid("charge_disputed", "Charge "+c.ID+" has been charged back; cannot issue a refund.", "")
	case left == 0:
		return invalid("charge_already_refunded", "Charge "+c.ID+" has already been refunded.", "")
	case amount > left:
		return invalid("", fmt.Sprintf("Refund amount (%d) is greater than unrefunded amount on charge (%d)", amount, left), "amount")
	}
	r := &Refund{
		ID: newID("re"), Object: "refund", Amount: amount, Charge: c.ID, PaymentIntent: c.PaymentIntent, Currency: c.Currency,
		Status: "succeeded", Reason: form.Get("reason"), Metadata: metadataOf(form), Created: time.Now().Unix(),
	}
	if first := methods[c.PaymentMethod].firstRefund; first != "" {
		r.Status = first
	}
	c.AmountRefunded += amount
	c.Refunded = c.AmountRefunded == c.Amount
	s.saveCharge(c)
	s.saveRefund(r, "refund.created")
	s.emit("charge.refunded", c)
	s.settleLater(r)
	return http.StatusOK, r
}

// saveRefund keeps what became of a refund and tells of it.
func (s *Server) saveRefund(r *Refund, events ...string) {
	s.refunds.put(r)
	s.note("refund", r)
	for _, event := range events {
		s.emit(event, r)
	}
}

// refundPause is how long it takes until a refund is what its test payment method
// makes of it. Stripe's take seconds too.
const refundPause = time.Second

func (s *Server) settleLater(r *Refund) {
	c, _ := s.charges.get(r.Charge)
	if becomes := methods[c.PaymentMethod].refund; becomes != "" && becomes != r.Status {
		s.later(refundPause, func() { s.settleRefund(r, c, becomes) })
	}
}

func (s *Server) settleRefund(r *Refund, c *Charge, status string) {
	if r.Status = status; status != "failed" {
		s.saveRefund(r, "charge.refund.updated", "refund.updated")
		return
	}
	r.FailureReason = "expired_or_canceled_card"
	c.AmountRefunded -= r.Amount
	c.Refunded = false
	s.saveCharge(c)
	s.saveRefund(r, "charge.refund.updated", "refund.updated", "refund.failed")
}

func (s *Server) getRefund(_ url.Values, id string) (int, any) {
	r, ok := s.refunds.get(id)
	if !ok {
		return missing("refund", id)
	}
	return http.StatusOK, r
}

func (s *Server) listRefunds(form url.Values, _ string) (int, any) {
	return page(&s.refunds, "/v1/refunds", form)
}

// Refunds lists all refunds, in order.
func (s *Server) Refunds() []Refund {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copies(s.refunds.all())
}
