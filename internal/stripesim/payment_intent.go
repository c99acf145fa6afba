package stripesim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// Intent is a PaymentIntent, as Stripe's API shows it.
type Intent struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Amount           int64             `json:"amount"`
	AmountReceived   int64             `json:"amount_received"`
	Currency         string            `json:"currency"`
	Status           string            `json:"status"`
	ClientSecret     string            `json:"client_secret"`
	Created          int64             `json:"created"`
	CanceledAt       int64             `json:"canceled_at,omitempty"`
	Description      string            `json:"description"`
	Metadata         map[string]string `json:"metadata"`
	PaymentMethod    string            `json:"payment_method,omitempty"`
	LatestCharge     string            `json:"latest_charge,omitempty"`
	LastPaymentError *cardError        `json:"last_payment_error"`
	NextAction       *nextAction       `json:"next_action"`
	Livemode         bool              `json:"livemode"`
}

func (i *Intent) key() string    { return i.ID }
func (i *Intent) made() int64    { return i.Created }
func (i *Intent) intent() string { return i.ID }

type cardError struct {
	Type        string `json:"type"`
	Code        string `json:"code"`
	DeclineCode string `json:"decline_code,omitempty"`
	Message     string `json:"message"`
}

type nextAction struct {
	Type string `json:"type"`
}

// method is a payment method that Stripe has for tests, and what it does.
type method struct {
	refusal     *cardError
	needsAction bool
	refund      string // what its refunds become after a while; empty: they have succeeded
	firstRefund string // what they are at first; empty: succeeded
	dispute     string // the reason of the dispute that its payer begins at once
	inquiry     bool   // the dispute is an inquiry
}

func declines(code, decline, message string) method {
	return method{refusal: &cardError{Type: "card_error", Code: code, DeclineCode: decline, Message: message}}
}

var methods = map[string]method{
	"pm_card_visa":                            {},
	"pm_card_mastercard":                      {},
	"pm_card_chargeDeclined":                  declines("card_declined", "generic_decline", "Your card was declined."),
	"pm_card_chargeDeclinedInsufficientFunds": declines("card_declined", "insufficient_funds", "Your card has insufficient funds."),
	"pm_card_chargeDeclinedLostCard":          declines("card_declined", "lost_card", "Your card was declined."),
	"pm_card_chargeDeclinedExpiredCard":       declines("expired_card", "", "Your card has expired."),
	"pm_card_chargeDeclinedIncorrectCvc":      declines("incorrect_cvc", "", "Your card's security code is incorrect."),
	"pm_card_chargeDeclinedProcessingError":   declines("processing_error", "", "An error occurred while processing your card. Try again in a little bit."),
	"pm_card_authenticationRequired":          {needsAction: true},
	"pm_card_refundFail":                      {refund: "failed"},
	"pm_card_pendingRefund":                   {firstRefund: "pending", refund: "succeeded"},
	"pm_card_createDispute":                   {dispute: "fraudulent"},
	"pm_card_createDisputeProductNotReceived": {dispute: "product_not_received"},
	"pm_card_createDisputeInquiry":            {dispute: "fraudulent", inquiry: true},
}

const maxAmount = 99_999_999

var currencyCode = regexp.MustCompile(`^[a-z]{3}$`)

func (s *Server) createIntent(form url.Values, _ string) (int, any) {
	amount, err := strconv.ParseInt(form.Get("amount"), 10, 64)
	if err != nil || amount < 1 {
		return invalid("parameter_invalid_integer", "This value must be greater than or equal to 1.", "amount")
	}
	if amount > maxAmount {
		return invalid("amount_too_large", "Amount must be no more than $999,999.99", "amount")
	}
	if !currencyCode.MatchString(form.Get("currency")) {
		return invalid("parameter_invalid", "Invalid currency.", "currency")
	}
	id := newID("pi")
	i := &Intent{
		ID: id, Object: "payment_intent", Amount: amount, Currency: form.Get("currency"), Status: "requires_payment_method",
		ClientSecret: newID(id + "_secret"), Created: time.Now().Unix(), Description: form.Get("description"), Metadata: metadataOf(form),
	}
	if method := form.Get("payment_method"); method != "" {
		if _, known := methods[method]; !known {
			return noSuchMethod(method)
		}
		i.PaymentMethod, i.Status = method, "requires_confirmation"
	}
	s.saveIntent(i, "payment_intent.created")
	if form.Get("confirm") == "true" {
		return s.pay(i)
	}
	return http.StatusOK, i
}

func noSuchMethod(id string) (int, any) {
	return invalid("resource_missing", "No such PaymentMethod: '"+id+"'", "payment_method")
}

// saveIntent keeps what became of a PaymentIntent and tells of it.
func (s *Server) saveIntent(i *Intent, event string) {
	s.intents.put(i)
	s.note("intent", i)
	s.emit(event, i)
}

// pay confirms a PaymentIntent with its payment method.
func (s *Server) pay(i *Intent) (int, any) {
	if i.PaymentMethod == "" {
		return invalid("payment_intent_unexpected_state", "You cannot confirm this PaymentIntent because it's missing a payment method.", "")
	}
	method := methods[i.PaymentMethod]
	switch {
	case method.needsAction:
		i.Status, i.NextAction = "requires_action", &nextAction{Type: "use_stripe_sdk"}
		s.saveIntent(i, "payment_intent.requires_action")
	case method.refusal != nil:
		s.refuse(i, method.refusal)
		return http.StatusPaymentRequired, failure{Error: apiError{cardError: *method.refusal, PaymentIntent: i}}
	default:
		s.succeed(i)
	}
	return http.StatusOK, i
}

func (s *Server) refuse(i *Intent, reason *cardError) {
	i.Status, i.LastPaymentError, i.PaymentMethod, i.NextAction = "requires_payment_method", reason, "", nil
	s.saveIntent(i, "payment_intent.payment_failed")
}

// succeed takes the money.
func (s *Server) succeed(i *Intent) {
	c := &Charge{
		ID: newID("ch"), Object: "charge", Amount: i.Amount, Currency: i.Currency, PaymentIntent: i.ID, PaymentMethod: i.PaymentMethod,
		Metadata: i.Metadata, Paid: true, Captured: true, Status: "succeeded", Created: time.Now().Unix(),
	}
	s.saveCharge(c)
	i.Status, i.AmountReceived, i.LastPaymentError, i.NextAction, i.LatestCharge = "succeeded", i.Amount, nil, nil, c.ID
	s.saveIntent(i, "payment_intent.succeeded")
	if method := methods[i.PaymentMethod]; method.dispute != "" {
		s.openDispute(c, method.dispute, method.inquiry)
	}
}

func (s *Server) getIntent(_ url.Values, id string) (int, any) {
	i, ok := s.intents.get(id)
	if !ok {
		return missing("payment_intent", id)
	}
	return http.StatusOK, i
}

func (s *Server) confirmIntent(form url.Values, id string) (int, any) {
	i, ok := s.intents.get(id)
	if !ok {
		return missing("payment_intent", id)
	}
	if i.Status != "requires_payment_method" && i.Status != "requires_confirmation" {
		return unexpected(i, "confirm")
	}
	if method := form.Get("payment_method"); method != "" {
		if _, known := methods[method]; !known {
			return noSuchMethod(method)
		}
		i.PaymentMethod = method
	}
	return s.pay(i)
}

func (s *Server) cancelIntent(_ url.Values, id string) (int, any) {
	i, ok := s.intents.get(id)
	if !ok {
		return missing("payment_intent", id)
	}
	if i.Status == "succeeded" || i.Status == "canceled" {
		return unexpected(i, "cancel")
	}
	i.Status, i.CanceledAt, i.NextAction = "canceled", time.Now().Unix(), nil
	s.saveIntent(i, "payment_intent.canceled")
	return http.StatusOK, i
}

func (s *Server) listIntents(form url.Values, _ string) (int, any) {
	return page(&s.intents, "/v1/payment_intents", form)
}

// authenticate is what the customer does in their bank's window.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Succeed bool `json:"succeed"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.intents.get(r.PathValue("id"))
	if !ok || i.Status != "requires_action" {
		http.Error(w, "no PaymentIntent of that id waits for its customer", http.StatusConflict)
		return
	}
	if in.Succeed {
		s.succeed(i)
	} else {
		s.refuse(i, &cardError{Type: "card_error", Code: "payment_intent_authentication_failure", Message: "The customer did not authenticate the payment."})
	}
	s.commit()
	responseOf(http.StatusOK, i).write(w)
}
