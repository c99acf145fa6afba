package stripesim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Dispute is a payer who went to their bank, as Stripe's API shows it.
type Dispute struct {
	ID                  string               `json:"id"`
	Object              string               `json:"object"`
	Amount              int64                `json:"amount"`
	BalanceTransactions []BalanceTransaction `json:"balance_transactions"`
	Charge              string               `json:"charge"`
	PaymentIntent       string               `json:"payment_intent"`
	Currency            string               `json:"currency"`
	Status              string               `json:"status"`
	Reason              string               `json:"reason"`
	IsChargeRefundable  bool                 `json:"is_charge_refundable"`
	Metadata            map[string]string    `json:"metadata"`
	Created             int64                `json:"created"`
	Livemode            bool                 `json:"livemode"`
}

// BalanceTransaction is money that a dispute took from our balance, below zero, or
// gave back.
type BalanceTransaction struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// move moves a dispute's money, and tells of it.
func (s *Server) move(d *Dispute, amount int64, event string) {
	d.BalanceTransactions = append(d.BalanceTransactions, BalanceTransaction{ID: newID("txn"), Object: "balance_transaction", Amount: amount, Currency: d.Currency})
	s.saveDispute(d, event)
}

// reinstated says whether a dispute's money was given back.
func (d *Dispute) reinstated() bool { return len(d.BalanceTransactions) == 2 }

func (d *Dispute) key() string    { return d.ID }
func (d *Dispute) made() int64    { return d.Created }
func (d *Dispute) intent() string { return d.PaymentIntent }

// inquiry says whether the bank only asks so far: no money has moved.
func (d *Dispute) inquiry() bool { return strings.HasPrefix(d.Status, "warning_") }

// openDispute takes the money of a charge back until the bank has decided. Of a
// bank's inquiry it takes none.
func (s *Server) openDispute(c *Charge, reason string, inquiry bool) *Dispute {
	d := &Dispute{
		ID: newID("dp"), Object: "dispute", Amount: c.Amount - c.AmountRefunded, Charge: c.ID, PaymentIntent: c.PaymentIntent, Currency: c.Currency,
		Status: "needs_response", Reason: reason, BalanceTransactions: []BalanceTransaction{}, Metadata: map[string]string{}, Created: time.Now().Unix(),
	}
	if inquiry {
		d.Status, d.IsChargeRefundable = "warning_needs_response", true
	}
	c.Disputed = true
	s.saveCharge(c)
	s.saveDispute(d, "charge.dispute.created")
	if !inquiry {
		s.move(d, -d.Amount, "charge.dispute.funds_withdrawn")
	}
	return d
}

// saveDispute keeps what became of a dispute and tells of it.
func (s *Server) saveDispute(d *Dispute, event string) {
	s.disputes.put(d)
	s.note("dispute", d)
	s.emit(event, d)
}

// chargedBack says whether a charge's money is with its payer's bank.
func (s *Server) chargedBack(c *Charge) bool {
	for _, d := range s.disputes.byID {
		if d.Charge == c.ID && !d.inquiry() && !d.reinstated() {
			return true
		}
	}
	return false
}

// submitEvidence decides a dispute as Stripe does in test mode: by what the
// evidence says.
func (s *Server) submitEvidence(form url.Values, id string) (int, any) {
	d, ok := s.disputes.get(id)
	if !ok {
		return missing("dispute", id)
	}
	if !d.open() {
		return invalid("", "This dispute is already closed", "")
	}
	switch form.Get("evidence[uncategorized_text]") {
	case "winning_evidence":
		s.decide(d, "won")
	case "losing_evidence":
		s.decide(d, "lost")
	default:
		d.Status = strings.Replace(d.Status, "needs_response", "under_review", 1)
		s.saveDispute(d, "charge.dispute.updated")
	}
	return http.StatusOK, d
}

func (d *Dispute) open() bool {
	return strings.HasSuffix(d.Status, "needs_response") || strings.HasSuffix(d.Status, "under_review")
}

// closeDispute is a merchant who gives in.
func (s *Server) closeDispute(_ url.Values, id string) (int, any) {
	d, ok := s.disputes.get(id)
	if !ok {
		return missing("dispute", id)
	}
	if !d.open() {
		return invalid("", "This dispute is already closed", "")
	}
	s.decide(d, "lost")
	return http.StatusOK, d
}

func (s *Server) decide(d *Dispute, status string) {
	if d.inquiry() {
		status = "warning_closed"
	}
	d.Status = status
	s.saveDispute(d, "charge.dispute.closed")
	if status == "won" {
		s.move(d, d.Amount, "charge.dispute.funds_reinstated")
	}
}

// reinstate is a bank that changes its mind about a dispute that was lost.
func (s *Server) reinstate(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.disputes.get(r.PathValue("id"))
	if !ok || d.Status != "lost" || d.reinstated() {
		http.Error(w, "no dispute of that id is lost", http.StatusConflict)
		return
	}
	s.move(d, d.Amount, "charge.dispute.funds_reinstated")
	s.commit()
	responseOf(http.StatusOK, d).write(w)
}

func (s *Server) getDispute(_ url.Values, id string) (int, any) {
	d, ok := s.disputes.get(id)
	if !ok {
		return missing("dispute", id)
	}
	return http.StatusOK, d
}

func (s *Server) listDisputes(form url.Values, _ string) (int, any) {
	return page(&s.disputes, "/v1/disputes", form)
}

// Disputes lists all disputes, in order.
func (s *Server) Disputes() []Dispute {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copies(s.disputes.all())
}

// dispute is a payer who goes to their bank, some time after the payment.
func (s *Server) dispute(w http.ResponseWriter, r *http.Request) {
	in := struct {
		Reason  string `json:"reason"`
		Inquiry bool   `json:"inquiry"`
	}{Reason: "fraudulent"}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := s.intents.get(r.PathValue("id"))
	if !known || i.Status != "succeeded" {
		http.Error(w, "no PaymentIntent of that id was paid", http.StatusConflict)
		return
	}
	c, _ := s.charges.get(i.LatestCharge)
	if c.Disputed || c.Refunded {
		http.Error(w, "its charge is disputed or refunded already", http.StatusConflict)
		return
	}
	d := s.openDispute(c, in.Reason, in.Inquiry)
	s.commit()
	responseOf(http.StatusOK, d).write(w)
}
