package stripesim

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// event is a webhook on its way.
type event struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body"`
	Done bool            `json:"done"`
}

// emit makes an event about an object as it is now, which goes out with the next
// commit.
func (s *Server) emit(kind string, about object) {
	if s.config.WebhookURL == "" || s.hit("webhooks_lost", s.faults.WebhooksLost) {
		return
	}
	e := &event{ID: newID("evt")}
	body, err := json.Marshal(map[string]any{
		"id": e.ID, "object": "event", "type": kind, "created": time.Now().Unix(), "api_version": "2023-10-16", "livemode": false,
		"pending_webhooks": 1, "data": map[string]any{"object": about},
	})
	if err != nil {
		panic(err) // plain structs of this package
	}
	e.Body = body
	s.events[e.ID] = e
	s.note("event", e)
	s.outbox = append(s.outbox, e)
}

// An event is sent again until it is taken, with growing pauses.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 10 * time.Second
)

// send delivers an event in the background, twice and late when told to.
func (s *Server) send(e *event) {
	copies := 1
	if s.hit("webhooks_twice", s.faults.WebhooksTwice) {
		copies = 2
	}
	for range copies {
		delay := time.Duration(0)
		if ms := s.faults.WebhookDelayMS; ms > 0 {
			delay = time.Duration(rand.IntN(ms)) * time.Millisecond
		}
		s.sending.Add(1)
		go func() {
			defer s.sending.Done()
			s.deliver(e, delay)
		}()
	}
}

func (s *Server) deliver(e *event, delay time.Duration) {
	if !s.sleep(delay) {
		return
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if !s.resumed() {
			return
		}
		if s.post(e) {
			break
		}
		if !s.sleep(pause) {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.events, e.ID)
	s.note("event", &event{ID: e.ID, Done: true})
	s.commit()
}

// resumed waits while webhooks are paused; false when the server was closed.
func (s *Server) resumed() bool {
	for {
		s.mu.Lock()
		paused, changed := s.faults.WebhooksPaused, s.faultsChanged
		s.mu.Unlock()
		if !paused {
			return s.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return false
		}
	}
}

func (s *Server) post(e *event) bool {
	request, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.config.WebhookURL, bytes.NewReader(e.Body))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Stripe-Signature", Sign(e.Body, s.config.WebhookSecret, time.Now()))
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection can be used again
	return response.StatusCode/100 == 2
}

// Sign makes the header Stripe-Signature of an event.
func Sign(body []byte, secret string, at time.Time) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return fmt.Sprintf("t=%s,v1=%s", stamp, hex.EncodeToString(mac.Sum(nil)))
}
