package stripesim

import (
	"net/http"
	"net/url"
)

// Charge is money that was taken, as Stripe's API shows it.
type Charge struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	Amount         int64             `json:"amount"`
	AmountRefunded int64             `json:"amount_refunded"`
	Currency       string            `json:"currency"`
	PaymentIntent  string            `json:"payment_intent"`
	PaymentMethod  string            `json:"payment_method"`
	Metadata       map[string]string `json:"metadata"`
	Paid           bool              `json:"paid"`
	Captured       bool              `json:"captured"`
	Refunded       bool              `json:"refunded"` // wholly
	Disputed       bool              `json:"disputed"`
	Status         string            `json:"status"`
	Created        int64             `json:"created"`
	Livemode       bool              `json:"livemode"`
}

func (c *Charge) key() string    { return c.ID }
func (c *Charge) made() int64    { return c.Created }
func (c *Charge) intent() string { return c.PaymentIntent }

// saveCharge keeps what became of a charge.
func (s *Server) saveCharge(c *Charge) {
	s.charges.put(c)
	s.note("charge", c)
}

func (s *Server) getCharge(_ url.Values, id string) (int, any) {
	c, ok := s.charges.get(id)
	if !ok {
		return missing("charge", id)
	}
	return http.StatusOK, c
}

// Charges lists all money that was taken, in order.
func (s *Server) Charges() []Charge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copies(s.charges.all())
}

func (s *Server) allCharges(w http.ResponseWriter, _ *http.Request) {
	responseOf(http.StatusOK, s.Charges()).write(w)
}
