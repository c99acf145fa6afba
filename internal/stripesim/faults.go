package stripesim

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Faults are what goes wrong on demand; rates are from 0 to 1.
type Faults struct {
	LatencyMS      int     `json:"latency_ms"`       // of each call; a client that hangs up does not stop it
	ErrorBefore    float64 `json:"error_before"`     // 500, nothing done
	ErrorAfter     float64 `json:"error_after"`      // 500, all done
	RateLimited    float64 `json:"rate_limited"`     // 429 with Retry-After
	CutBefore      float64 `json:"cut_before"`       // the connection, nothing done
	CutAfter       float64 `json:"cut_after"`        // the connection, all done
	HangBefore     float64 `json:"hang_before"`      // no answer until the client gives up, nothing done
	HangAfter      float64 `json:"hang_after"`       // no answer until the client gives up, all done
	CallsPerSecond int     `json:"calls_per_second"` // 429 for those above it; 0 takes them all
	WebhooksTwice  float64 `json:"webhooks_twice"`
	WebhookDelayMS int     `json:"webhook_delay_ms"` // a random time up to it, which reorders
	WebhooksLost   float64 `json:"webhooks_lost"`    // for ever
	WebhooksPaused bool    `json:"webhooks_paused"`
}

// SetFaults changes what goes wrong.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
	close(s.faultsChanged)
	s.faultsChanged = make(chan struct{})
}

func (s *Server) setFaults(w http.ResponseWriter, r *http.Request) {
	var f Faults
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.SetFaults(f)
}

// hit says whether a fault strikes, which it does at a rate, and counts it.
func (s *Server) hit(fault string, rate float64) bool {
	if rate <= 0 || rand.Float64() >= rate {
		return false
	}
	s.struck.mu.Lock()
	defer s.struck.mu.Unlock()
	s.struck.times[fault]++
	return true
}

// struck is how often each fault did.
type struck struct {
	mu    sync.Mutex
	times map[string]int
}

// Struck is how often each fault did, by its name.
func (s *Server) Struck() map[string]int {
	s.struck.mu.Lock()
	defer s.struck.mu.Unlock()
	return maps.Clone(s.struck.times)
}

// hang keeps a client waiting until it gives up.
func (s *Server) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.ctx.Done():
	}
	panic(http.ErrAbortHandler)
}

// traffic is how many calls of the API came.
type traffic struct {
	requests int
	last     []time.Time // those of the last second that were taken
	busiest  int         // how many came within any second
}

// take counts a call, and says whether it is one of the first limit of the last
// second; 0 takes them all.
func (t *traffic) take(now time.Time, limit int) bool {
	t.requests++
	for len(t.last) > 0 && now.Sub(t.last[0]) >= time.Second {
		t.last = t.last[1:]
	}
	t.busiest = max(t.busiest, len(t.last)+1)
	if limit > 0 && len(t.last) >= limit {
		return false
	}
	t.last = append(t.last, now)
	return true
}

// Requests counts the API calls that came.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.traffic.requests
}

// BusiestSecond is the most calls that came within any second.
func (s *Server) BusiestSecond() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.traffic.busiest
}

func (s *Server) stats(w http.ResponseWriter, _ *http.Request) {
	responseOf(http.StatusOK, map[string]any{"requests": s.Requests(), "busiest_second": s.BusiestSecond(), "faults": s.Struck()}).write(w)
}
