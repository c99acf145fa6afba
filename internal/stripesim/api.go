package stripesim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Faults are what goes wrong on demand; rates are from 0 to 1.
type Faults struct {
	LatencyMS      int     `json:"latency_ms"`
	ErrorBefore    float64 `json:"error_before"` // 500, nothing done
	ErrorAfter     float64 `json:"error_after"`  // 500, all done
	RateLimited    float64 `json:"rate_limited"` // 429 with Retry-After
	CutBefore      float64 `json:"cut_before"`   // the connection, nothing done
	CutAfter       float64 `json:"cut_after"`    // the connection, all done
	WebhooksTwice  float64 `json:"webhooks_twice"`
	WebhookDelayMS int     `json:"webhook_delay_ms"` // a random time up to it, which reorders
	WebhooksPaused bool    `json:"webhooks_paused"`
}

// SetFaults changes what goes wrong.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
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

// answer is what an idempotency key was answered the first time.
type answer struct {
	Key     string          `json:"key"`
	Request string          `json:"request"`
	Status  int             `json:"status"` // 0 while it is worked on
	Body    json.RawMessage `json:"body"`
	At      time.Time       `json:"at"`
}

// answerLifetime is how long Stripe keeps an idempotency key.
const answerLifetime = 24 * time.Hour

type failure struct {
	Error apiError `json:"error"`
}

type apiError struct {
	cardError
	Param         string  `json:"param,omitempty"`
	PaymentIntent *Intent `json:"payment_intent,omitempty"`
}

func fail(status int, kind, code, message, param string) (int, any) {
	return status, failure{Error: apiError{cardError: cardError{Type: kind, Code: code, Message: message}, Param: param}}
}

func invalid(code, message, param string) (int, any) {
	return fail(http.StatusBadRequest, "invalid_request_error", code, message, param)
}

func missing(id string) (int, any) {
	return fail(http.StatusNotFound, "invalid_request_error", "resource_missing", "No such payment_intent: '"+id+"'", "intent")
}

func unexpected(i *Intent, what string) (int, any) {
	return invalid("payment_intent_unexpected_state", fmt.Sprintf("You cannot %s this PaymentIntent because it has a status of %s.", what, i.Status), "")
}

// api wraps an operation in what all have: the key, faults and idempotency. The
// operation runs under the lock.
func (s *Server) api(operation func(form url.Values, id string) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return // the client went away
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			reply(w, false)(invalid("parameter_invalid", "The body cannot be read.", ""))
			return
		}
		for name, values := range r.URL.Query() {
			form[name] = values
		}
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer sk_test_") {
			reply(w, false)(fail(http.StatusUnauthorized, "invalid_request_error", "", "Invalid API Key provided.", ""))
			return
		}
		s.mu.Lock()
		s.requests++
		faults := s.faults
		s.mu.Unlock()
		if faults.LatencyMS > 0 {
			select {
			case <-time.After(time.Duration(faults.LatencyMS) * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		if hit(faults.CutBefore) {
			panic(http.ErrAbortHandler)
		}
		if hit(faults.RateLimited) {
			w.Header().Set("Retry-After", "1")
			reply(w, false)(fail(http.StatusTooManyRequests, "invalid_request_error", "rate_limit", "Too many requests.", ""))
			return
		}
		key := r.Header.Get("Idempotency-Key")
		if r.Method != http.MethodPost {
			key = ""
		}
		status, content, replayed := s.once(key, r.URL.Path+"?"+form.Encode(), func() (int, any) {
			if hit(faults.ErrorBefore) {
				return fail(http.StatusInternalServerError, "api_error", "", "Something went wrong on Stripe's end.", "")
			}
			status, out := operation(form, r.PathValue("id"))
			if hit(faults.ErrorAfter) {
				return fail(http.StatusInternalServerError, "api_error", "", "Something went wrong on Stripe's end.", "")
			}
			return status, out
		})
		if hit(faults.CutAfter) {
			panic(http.ErrAbortHandler)
		}
		reply(w, replayed)(status, content)
	}
}

// once runs an operation, or gives the first answer of its key again.
func (s *Server) once(key, request string, operation func() (int, any)) (status int, out any, replayed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key == "" {
		status, out = operation()
		return status, out, false
	}
	if first, ok := s.answers[key]; ok && time.Since(first.At) < answerLifetime {
		if first.Request != request {
			status, out = fail(http.StatusBadRequest, "idempotency_error", "", "Keys for idempotent requests can only be used with the same parameters they were first used with.", "")
			return status, out, false
		}
		return first.Status, first.Body, true
	}
	status, out = operation()
	content, err := json.Marshal(out)
	if err != nil {
		panic(err) // plain structs of this package
	}
	a := &answer{Key: key, Request: request, Status: status, Body: content, At: time.Now()}
	s.answers[key] = a
	s.save("answer", a)
	return status, json.RawMessage(content), false
}

func hit(rate float64) bool { return rate > 0 && rand.Float64() < rate }

func reply(w http.ResponseWriter, replayed bool) func(int, any) {
	return func(status int, out any) {
		if replayed {
			w.Header().Set("Idempotent-Replayed", "true")
		}
		w.Header().Set("Request-Id", "req_"+token())
		writeJSON(w, status, out)
	}
}

func writeJSON(w http.ResponseWriter, status int, out any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}
