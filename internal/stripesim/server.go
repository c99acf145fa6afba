// Package stripesim behaves as Stripe does where it matters to us: PaymentIntents,
// refunds and disputes with their states, idempotency keys, test payment methods,
// signed webhooks that are retried, and faults on demand. It is for development and
// tests.
//
// What is asked of it under /v1 is Stripe's API. Under /_sim a test says what is to
// happen:
//
//	POST /_sim/faults                               {"error_after": 0.1, …}: see Faults; what is left out stops
//	POST /_sim/payment_intents/{id}/authenticate    {"succeed": true}: the payer comes back from their bank
//	POST /_sim/payment_intents/{id}/dispute         {"reason": "fraudulent"}: the payer goes to their bank
//	POST /_sim/disputes/{id}/reinstate              the bank changes its mind about one that was lost
//	GET  /_sim/charges                              all money that was taken
//	GET  /_sim/stats                                {"requests": 7, "busiest_second": 3, "faults": {"error_after": 1}}
package stripesim

import (
	"context"
	"net/http"
	"os"
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
	intents       shelf[*Intent]
	charges       shelf[*Charge]
	refunds       shelf[*Refund]
	disputes      shelf[*Dispute]
	answers       map[string]*answer // by idempotency key
	working       map[string]bool    // keys whose first call is not answered yet
	events        map[string]*event  // not delivered yet
	line          []change           // what the journal will be told of
	outbox        []*event           // what goes out then
	faults        Faults
	faultsChanged chan struct{} // closed when they are
	traffic       traffic
	struck        struck

	ctx     context.Context
	cancel  context.CancelFunc
	sending sync.WaitGroup
}

// New makes a simulator and takes up what its journal holds.
func New(config Config) (*Server, error) {
	s := &Server{
		config: config, answers: map[string]*answer{}, working: map[string]bool{},
		events: map[string]*event{}, faultsChanged: make(chan struct{}), struck: struck{times: map[string]int{}},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if config.Journal != "" {
		if err := s.replay(config.Journal); err != nil {
			return nil, err
		}
	}
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	s.mux.HandleFunc("POST /v1/payment_intents", s.api(s.createIntent, "amount", "currency", "description", "metadata", "automatic_payment_methods", "payment_method", "confirm"))
	s.mux.HandleFunc("GET /v1/payment_intents", s.api(s.listIntents, listParameters...))
	s.mux.HandleFunc("GET /v1/payment_intents/{id}", s.api(s.getIntent))
	s.mux.HandleFunc("POST /v1/payment_intents/{id}/confirm", s.api(s.confirmIntent, "payment_method"))
	s.mux.HandleFunc("POST /v1/payment_intents/{id}/cancel", s.api(s.cancelIntent, "cancellation_reason"))
	s.mux.HandleFunc("GET /v1/charges/{id}", s.api(s.getCharge))
	s.mux.HandleFunc("POST /v1/refunds", s.api(s.createRefund, "payment_intent", "charge", "amount", "reason", "metadata"))
	s.mux.HandleFunc("GET /v1/refunds", s.api(s.listRefunds, append(listParameters, "payment_intent")...))
	s.mux.HandleFunc("GET /v1/refunds/{id}", s.api(s.getRefund))
	s.mux.HandleFunc("GET /v1/disputes", s.api(s.listDisputes, append(listParameters, "payment_intent")...))
	s.mux.HandleFunc("GET /v1/disputes/{id}", s.api(s.getDispute))
	s.mux.HandleFunc("POST /v1/disputes/{id}", s.api(s.submitEvidence, "evidence", "submit"))
	s.mux.HandleFunc("POST /v1/disputes/{id}/close", s.api(s.closeDispute))
	s.mux.HandleFunc("POST /_sim/faults", s.setFaults)
	s.mux.HandleFunc("POST /_sim/payment_intents/{id}/authenticate", s.authenticate)
	s.mux.HandleFunc("POST /_sim/payment_intents/{id}/dispute", s.dispute)
	s.mux.HandleFunc("POST /_sim/disputes/{id}/reinstate", s.reinstate)
	s.mux.HandleFunc("GET /_sim/charges", s.allCharges)
	s.mux.HandleFunc("GET /_sim/stats", s.stats)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		s.send(e)
	}
	for _, r := range s.refunds.all() {
		s.settleLater(r)
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

// later does something under the lock, unless the server is closed before.
func (s *Server) later(pause time.Duration, do func()) {
	s.sending.Go(func() {
		if s.sleep(pause) {
			s.mu.Lock()
			defer s.mu.Unlock()
			do()
			s.commit()
		}
	})
}

// sleep waits; false when the server was closed.
func (s *Server) sleep(d time.Duration) bool {
	if d <= 0 {
		return s.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func newID(prefix string) string {
	return prefix + "_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:24]
}
