// Package stripesim behaves as Stripe does where it matters to us: PaymentIntents
// with their states, idempotency keys, test payment methods, signed webhooks that
// are retried, and faults on demand. It is for development and tests.
package stripesim

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Config says how the simulator runs.
type Config struct {
	// WebhookURL gets the events; empty sends none.
	WebhookURL string
	// WebhookSecret signs them.
	WebhookSecret string
	// Journal is a file that keeps the state across restarts; empty keeps it in
	// memory.
	Journal string
}

// Server is the simulator.
type Server struct {
	config  Config
	mux     *http.ServeMux
	journal *os.File

	mu            sync.Mutex
	intents       map[string]*Intent
	order         []string
	answers       map[string]*answer // by idempotency key
	working       map[string]bool    // keys whose first call is not answered yet
	events        map[string]*event  // not delivered yet
	line          []change           // what the journal will be told of
	outbox        []*event           // what goes out then
	faults        Faults
	faultsChanged chan struct{} // closed when they are
	requests      int

	ctx     context.Context
	cancel  context.CancelFunc
	sending sync.WaitGroup
}

// Intent is a PaymentIntent, as Stripe's API shows it.
type Intent struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Amount           int64             `json:"amount"`
	Currency         string            `json:"currency"`
	Status           string            `json:"status"`
	ClientSecret     string            `json:"client_secret"`
	Created          int64             `json:"created"`
	Description      string            `json:"description"`
	Metadata         map[string]string `json:"metadata"`
	PaymentMethod    string            `json:"payment_method,omitempty"`
	LatestCharge     string            `json:"latest_charge,omitempty"`
	LastPaymentError *cardError        `json:"last_payment_error"`
	Livemode         bool              `json:"livemode"`
}

type cardError struct {
	Type        string `json:"type"`
	Code        string `json:"code"`
	DeclineCode string `json:"decline_code,omitempty"`
	Message     string `json:"message"`
}

// New makes a simulator and takes up what its journal holds.
func New(config Config) (*Server, error) {
	s := &Server{
		config: config, intents: map[string]*Intent{}, answers: map[string]*answer{}, working: map[string]bool{},
		events: map[string]*event{}, faultsChanged: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if config.Journal != "" {
		if err := s.replay(config.Journal); err != nil {
			return nil, err
		}
	}
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	s.mux.HandleFunc("POST /v1/payment_intents", s.api(s.create))
	s.mux.HandleFunc("GET /v1/payment_intents/search", s.api(s.search))
	s.mux.HandleFunc("GET /v1/payment_intents/{id}", s.api(s.get))
	s.mux.HandleFunc("POST /v1/payment_intents/{id}/confirm", s.api(s.confirm))
	s.mux.HandleFunc("POST /v1/payment_intents/{id}/cancel", s.api(s.cancelIntent))
	s.mux.HandleFunc("POST /_sim/faults", s.setFaults)
	s.mux.HandleFunc("GET /_sim/charges", s.listCharges)
	s.mux.HandleFunc("POST /_sim/payment_intents/{id}/authenticate", s.authenticate)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		s.send(e)
	}
	return s, nil
}

// Close stops sending events and cuts all requests that come now.
func (s *Server) Close() {
	s.cancel()
	s.sending.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		_ = s.journal.Close() // each line was written when it happened
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Charge is money that was taken.
type Charge struct {
	PaymentIntent string `json:"payment_intent"`
	TransactionID string `json:"transaction_id"`
	Amount        int64  `json:"amount"`
	Currency      string `json:"currency"`
}

// Charges lists all money that was taken, in order.
func (s *Server) Charges() []Charge {
	s.mu.Lock()
	defer s.mu.Unlock()
	charges := []Charge{}
	for _, id := range s.order {
		if i := s.intents[id]; i.Status == "succeeded" {
			charges = append(charges, Charge{PaymentIntent: id, TransactionID: i.Metadata["transaction_id"], Amount: i.Amount, Currency: i.Currency})
		}
	}
	return charges
}

// Requests counts the API calls that came.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *Server) listCharges(w http.ResponseWriter, _ *http.Request) {
	responseOf(http.StatusOK, s.Charges()).write(w)
}

// The payment methods that Stripe has for tests, and what they do.
var methods = map[string]*cardError{
	"pm_card_visa":       nil,
	"pm_card_mastercard": nil,
	"pm_card_chargeDeclined": {Type: "card_error", Code: "card_declined", DeclineCode: "generic_decline",
		Message: "Your card was declined."},
	"pm_card_chargeDeclinedInsufficientFunds": {Type: "card_error", Code: "card_declined", DeclineCode: "insufficient_funds",
		Message: "Your card has insufficient funds."},
	"pm_card_chargeDeclinedExpiredCard": {Type: "card_error", Code: "expired_card", Message: "Your card has expired."},
}

const methodNeedsAction = "pm_card_authenticationRequired"

func (s *Server) create(form url.Values, _ string) (int, any) {
	amount, err := strconv.ParseInt(form.Get("amount"), 10, 64)
	if err != nil || amount < 1 {
		return invalid("parameter_invalid_integer", "This value must be greater than or equal to 1.", "amount")
	}
	if !currency.MatchString(form.Get("currency")) {
		return invalid("parameter_invalid", "Invalid currency.", "currency")
	}
	id := "pi_" + token()
	i := &Intent{
		ID: id, Object: "payment_intent", Amount: amount, Currency: form.Get("currency"), Status: "requires_payment_method",
		ClientSecret: id + "_secret_" + token(), Created: time.Now().Unix(), Description: form.Get("description"), Metadata: map[string]string{},
	}
	for name, values := range form {
		if m := metadataField.FindStringSubmatch(name); m != nil {
			i.Metadata[m[1]] = values[0]
		}
	}
	if method := form.Get("payment_method"); method != "" {
		if !known(method) {
			return invalid("resource_missing", "No such PaymentMethod: '"+method+"'", "payment_method")
		}
		i.PaymentMethod, i.Status = method, "requires_confirmation"
	}
	s.intents[id] = i
	s.order = append(s.order, id)
	s.emit("payment_intent.created", i)
	if form.Get("confirm") == "true" {
		return s.pay(i)
	}
	s.note("intent", i)
	return http.StatusOK, *i
}

var (
	currency      = regexp.MustCompile(`^[a-z]{3}$`)
	metadataField = regexp.MustCompile(`^metadata\[(.+)\]$`)
)

func known(method string) bool {
	_, ok := methods[method]
	return ok || method == methodNeedsAction
}

// pay confirms a PaymentIntent with its payment method.
func (s *Server) pay(i *Intent) (int, any) {
	defer func() { s.note("intent", i) }()
	if i.PaymentMethod == "" {
		return invalid("payment_intent_unexpected_state", "You cannot confirm this PaymentIntent because it's missing a payment method.", "")
	}
	if i.PaymentMethod == methodNeedsAction {
		i.Status = "requires_action"
		s.emit("payment_intent.requires_action", i)
		return http.StatusOK, *i
	}
	if refusal := methods[i.PaymentMethod]; refusal != nil {
		i.Status, i.LastPaymentError, i.PaymentMethod = "requires_payment_method", refusal, ""
		s.emit("payment_intent.payment_failed", i)
		return http.StatusPaymentRequired, failure{Error: apiError{cardError: *refusal, PaymentIntent: i}}
	}
	s.succeed(i)
	return http.StatusOK, *i
}

func (s *Server) succeed(i *Intent) {
	i.Status, i.LastPaymentError, i.LatestCharge = "succeeded", nil, "ch_"+token()
	s.emit("payment_intent.succeeded", i)
}

func (s *Server) get(_ url.Values, id string) (int, any) {
	i, ok := s.intents[id]
	if !ok {
		return missing(id)
	}
	return http.StatusOK, *i
}

func (s *Server) confirm(form url.Values, id string) (int, any) {
	i, ok := s.intents[id]
	if !ok {
		return missing(id)
	}
	if i.Status != "requires_payment_method" && i.Status != "requires_confirmation" {
		return unexpected(i, "confirm")
	}
	if method := form.Get("payment_method"); method != "" {
		if !known(method) {
			return invalid("resource_missing", "No such PaymentMethod: '"+method+"'", "payment_method")
		}
		i.PaymentMethod = method
	}
	return s.pay(i)
}

func (s *Server) cancelIntent(_ url.Values, id string) (int, any) {
	i, ok := s.intents[id]
	if !ok {
		return missing(id)
	}
	if i.Status == "succeeded" || i.Status == "canceled" {
		return unexpected(i, "cancel")
	}
	i.Status = "canceled"
	s.note("intent", i)
	s.emit("payment_intent.canceled", i)
	return http.StatusOK, *i
}

var metadataQuery = regexp.MustCompile(`^metadata\['(.+)'\]:'(.+)'$`)

func (s *Server) search(form url.Values, _ string) (int, any) {
	m := metadataQuery.FindStringSubmatch(form.Get("query"))
	if m == nil {
		return invalid("parameter_invalid", "Only queries like metadata['key']:'value' are known here.", "query")
	}
	lag := time.Duration(s.faults.SearchLagMS) * time.Millisecond
	found := []Intent{}
	for _, id := range slices.Backward(s.order) { // newest first
		i := s.intents[id]
		if i.Metadata[m[1]] == m[2] && time.Since(time.Unix(i.Created, 0)) >= lag {
			found = append(found, *i)
		}
	}
	return http.StatusOK, map[string]any{"object": "search_result", "url": "/v1/payment_intents/search", "has_more": false, "data": found}
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
	i, ok := s.intents[r.PathValue("id")]
	if !ok || i.Status != "requires_action" {
		http.Error(w, "no PaymentIntent of that id waits for its customer", http.StatusConflict)
		return
	}
	if in.Succeed {
		s.succeed(i)
	} else {
		i.Status, i.PaymentMethod = "requires_payment_method", ""
		i.LastPaymentError = &cardError{Type: "card_error", Code: "payment_intent_authentication_failure", Message: "The customer did not authenticate the payment."}
		s.emit("payment_intent.payment_failed", i)
	}
	s.note("intent", i)
	s.commit()
	responseOf(http.StatusOK, i).write(w)
}

func token() string { return strings.ReplaceAll(uuid.NewString(), "-", "")[:24] }
