package stripesim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// answer is what an idempotency key was answered the first time.
type answer struct {
	Key     string          `json:"key"`
	Request string          `json:"request"`
	Status  int             `json:"status"`
	Body    json.RawMessage `json:"body"`
	At      time.Time       `json:"at"`
}

// How Stripe keeps idempotency keys.
const (
	answerLifetime = 24 * time.Hour
	maxKey         = 255 // characters
)

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

func missing(kind, id string) (int, any) {
	return fail(http.StatusNotFound, "invalid_request_error", "resource_missing", "No such "+kind+": '"+id+"'", "id")
}

func unexpected(i *Intent, what string) (int, any) {
	return invalid("payment_intent_unexpected_state", fmt.Sprintf("You cannot %s this PaymentIntent because it has a status of %s.", what, i.Status), "")
}

func internalError() (int, any) {
	return fail(http.StatusInternalServerError, "api_error", "", "Something went wrong on Stripe's end.", "")
}

// api wraps an operation in what all have: the key, known parameters, faults and
// idempotency. The operation runs under the lock.
func (s *Server) api(operation func(form url.Values, id string) (int, any), parameters ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		form, err := readForm(r)
		if err != nil {
			refuse(w)(invalid("parameter_invalid", "The request cannot be read.", ""))
			return
		}
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer sk_test_") {
			refuse(w)(fail(http.StatusUnauthorized, "invalid_request_error", "", "Invalid API Key provided.", ""))
			return
		}
		s.mu.Lock()
		faults := s.faults
		taken := s.traffic.take(time.Now(), faults.CallsPerSecond)
		s.mu.Unlock()
		if s.ctx.Err() != nil || s.hit("cut_before", faults.CutBefore) {
			panic(http.ErrAbortHandler)
		}
		if s.hit("hang_before", faults.HangBefore) {
			s.hang(r)
		}
		if !taken || s.hit("rate_limited", faults.RateLimited) {
			w.Header().Set("Retry-After", "1")
			refuse(w)(fail(http.StatusTooManyRequests, "invalid_request_error", "rate_limit", "Too many requests.", ""))
			return
		}
		if name := unknown(form, parameters); name != "" {
			refuse(w)(invalid("parameter_unknown", "Received unknown parameter: "+name, name))
			return
		}
		call := call{path: r.URL.Path + "?" + form.Encode(), latency: time.Duration(faults.LatencyMS) * time.Millisecond}
		if r.Method == http.MethodPost {
			call.key = r.Header.Get("Idempotency-Key")
		}
		out := s.once(call, func() (int, any) {
			if s.hit("error_before", faults.ErrorBefore) {
				return internalError()
			}
			status, out := operation(form, r.PathValue("id"))
			if s.hit("error_after", faults.ErrorAfter) {
				return internalError()
			}
			return status, out
		})
		if s.hit("cut_after", faults.CutAfter) {
			panic(http.ErrAbortHandler)
		}
		if s.hit("hang_after", faults.HangAfter) {
			s.hang(r)
		}
		out.write(w)
	}
}

func readForm(r *http.Request) (url.Values, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	for name, values := range r.URL.Query() {
		form[name] = values
	}
	return form, nil
}

// unknown is a parameter that an operation does not take; empty: there is none.
func unknown(form url.Values, parameters []string) string {
	for name := range form {
		if base, _, _ := strings.Cut(name, "["); !slices.Contains(parameters, base) {
			return name
		}
	}
	return ""
}

// call is a request as idempotency sees it.
type call struct {
	key     string // empty: it has none
	path    string // with the parameters, in order
	latency time.Duration
}

// response is what goes back to the client.
type response struct {
	status   int
	body     json.RawMessage
	replayed bool
}

func (r response) write(w http.ResponseWriter) {
	if r.replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", newID("req"))
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // the client may be gone
}

func refuse(w http.ResponseWriter) func(int, any) {
	return func(status int, out any) { responseOf(status, out).write(w) }
}

func responseOf(status int, out any) response {
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // plain structs of this package
	}
	return response{status: status, body: body}
}

// once runs an operation, or gives the first answer of its key again.
func (s *Server) once(c call, operation func() (int, any)) response {
	if c.key != "" {
		if known := s.reserve(c); known != nil {
			return *known
		}
		defer s.release(c.key)
	}
	if !s.sleep(c.latency) {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status, content := operation()
	out := responseOf(status, content)
	if c.key != "" && began(content) {
		a := &answer{Key: c.key, Request: c.path, Status: status, Body: out.body, At: time.Now()}
		s.answers[c.key] = a
		s.note("answer", a)
	}
	s.commit()
	return out
}

// reserve takes a key for one call, and answers all others.
func (s *Server) reserve(c call) *response {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out response
	first, known := s.answers[c.key]
	switch {
	case len(c.key) > maxKey:
		out = responseOf(fail(http.StatusBadRequest, "idempotency_error", "", fmt.Sprintf("Idempotency keys are at most %d characters long.", maxKey), ""))
	case s.working[c.key]:
		out = responseOf(fail(http.StatusConflict, "idempotency_error", "idempotency_key_in_use", "There is currently another in-progress request using this Idempotency Key.", ""))
	case !known || time.Since(first.At) >= answerLifetime:
		s.working[c.key] = true
		return nil
	case first.Request != c.path:
		out = responseOf(fail(http.StatusBadRequest, "idempotency_error", "", "Keys for idempotent requests can only be used with the same parameters they were first used with.", ""))
	default:
		out = response{status: first.Status, body: first.Body, replayed: true}
	}
	return &out
}

func (s *Server) release(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.working, key)
}

// began says whether an operation was begun. Stripe keeps no answer for a
// request whose parameters it refused, so that the key can be used again.
func began(content any) bool {
	f, failed := content.(failure)
	return !failed || f.Error.Param == ""
}
