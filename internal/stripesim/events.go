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

// emit sends an event about a PaymentIntent as it is now.
func (s *Server) emit(kind string, i *Intent) {
	if s.config.WebhookURL == "" {
		return
	}
	e := &event{ID: "evt_" + token()}
	body, err := json.Marshal(map[string]any{
		"id": e.ID, "object": "event", "type": kind, "created": time.Now().Unix(), "api_version": "2023-10-16", "livemode": false,
		"pending_webhooks": 1, "data": map[string]any{"object": i},
	})
	if err != nil {
		panic(err) // plain structs of this package
	}
	e.Body = body
	s.events[e.ID] = e
	s.save("event", e)
	s.send(e)
}

// An event is sent again until it is taken, with growing pauses.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 10 * time.Second
)

// send delivers an event in the background.
func (s *Server) send(e *event) {
	copies := 1
	if hit(s.faults.WebhooksTwice) {
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
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		select {
		case <-time.After(delay):
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		paused := s.faults.WebhooksPaused
		s.mu.Unlock()
		if !paused && s.post(e) {
			break
		}
		delay = pause
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.events, e.ID)
	s.save("event", &event{ID: e.ID, Done: true})
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
