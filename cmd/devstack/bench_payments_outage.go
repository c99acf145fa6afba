package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// outage takes Stripe away, while payments and reads go on, gives it back, and waits
// until all is settled.
func (b *benchPayments) outage(ctx context.Context, r *paymentsResult) error {
	pause := time.Second / time.Duration(b.Rate)
	const readEvery = 50 * time.Millisecond
	reads := make(chan []sample, 1)
	read := func(ctx context.Context, n int) (string, error) {
		return "", b.payers[n%len(b.payers)].Do(ctx, http.MethodGet, "/api/users/me/balance", nil, nil)
	}
	measureReads := func(window time.Duration) {
		go func() { reads <- every(ctx, readEvery, times(int(window/readEvery)), read) }()
	}
	fmt.Printf("measuring reads beside %d payments a second\n", b.Rate)
	measureReads(b.Phase)
	every(ctx, pause, times(int(b.Phase/pause)), b.pay)
	r.ReadsBefore = statOf("GET /api/users/me/balance, before", <-reads)

	fmt.Printf("Stripe is away for %s\n", b.Outage)
	if err := b.setFaults(ctx, stripesim.Faults{CutBefore: 1}); err != nil {
		return err
	}
	away := time.Now()
	opened := make(chan time.Time, 1)
	go func() { opened <- b.awaitOpen(ctx) }()
	measureReads(b.Outage)
	posts := every(ctx, pause, times(int(b.Outage/pause)), b.pay)
	r.ReadsAway = statOf("GET /api/users/me/balance, Stripe away", <-reads)
	if err := b.setFaults(ctx, stripesim.Faults{}); err != nil {
		return err
	}
	back := time.Now()
	var open time.Time
	select {
	case open = <-opened:
	default:
		return errors.New("the circuit breaker did not open")
	}
	r.OpenAfterSeconds = open.Sub(away).Seconds()
	var queued []sample
	for _, s := range posts {
		if s.due.After(open) {
			queued = append(queued, s)
			if s.status != "queued" {
				r.NotQueued++
			}
		}
	}
	r.Queued = statOf("POST while the breaker is open", queued)

	fmt.Printf("Stripe is back; %d payments wait\n", len(posts))
	if err := b.settled(ctx, 10*time.Minute); err != nil {
		return err
	}
	r.SettledAfterSeconds = time.Since(back).Seconds()
	return b.afterwards(ctx, r)
}

// afterwards compares how many were paid and charged, and how many calls Stripe got.
func (b *benchPayments) afterwards(ctx context.Context, r *paymentsResult) error {
	rows, err := b.db.Query(ctx, "SELECT id::text, status FROM transactions WHERE recipient_id = $1", b.creator.id)
	if err != nil {
		return err
	}
	id, status, statuses := "", "", map[string]string{}
	if _, err := pgx.ForEachRow(rows, []any{&id, &status}, func() error { statuses[id] = status; return nil }); err != nil {
		return err
	}
	for _, status := range statuses {
		if r.Payments++; status == "succeeded" {
			r.Succeeded++
		}
	}
	var charges []stripesim.Charge
	if err := b.getStripe(ctx, "/_sim/charges", &charges); err != nil {
		return err
	}
	for _, charge := range charges {
		if _, ours := statuses[charge.Metadata["transaction_id"]]; ours { // others are the simulator's own, and of earlier runs
			r.Charges++
		}
	}
	var stats struct {
		Busiest int `json:"busiest_second"`
	}
	err = b.getStripe(ctx, "/_sim/stats", &stats)
	r.BusiestSecond = stats.Busiest
	return err
}

// awaitOpen gives the time at which the circuit breaker is seen to be open.
func (b *benchPayments) awaitOpen(ctx context.Context) time.Time {
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.metrics, nil)
		if err != nil {
			break
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			content, _ := io.ReadAll(response.Body) // what is missing does not match
			_ = response.Body.Close()
			if strings.Contains(string(content), `circuit_state{circuit="stripe"} 2`) {
				return time.Now()
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return time.Now()
}

func (b *benchPayments) setFaults(ctx context.Context, faults stripesim.Faults) error {
	content, err := json.Marshal(faults)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.env.StripeAPIBase+"/_sim/faults", strings.NewReader(string(content)))
	if err != nil {
		return err
	}
	return b.send(request, nil)
}

func (b *benchPayments) askStripe(ctx context.Context, path string, form url.Values, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.env.StripeAPIBase+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+b.env.StripeSecretKey)
	request.Header.Set("Idempotency-Key", uuid.NewString())
	return b.send(request, out)
}

func (b *benchPayments) getStripe(ctx context.Context, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.env.StripeAPIBase+path, nil)
	if err != nil {
		return err
	}
	return b.send(request, out)
}

// send reads an answer's JSON into out, when that is not nil.
func (b *benchPayments) send(request *http.Request, out any) error {
	response, err := (&http.Client{Timeout: 30 * time.Second, Transport: b.transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, content)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(content, out)
}

// paymentsResult is what is written, in milliseconds where nothing else is said.
type paymentsResult struct {
	At                  time.Time `json:"at"`
	CPUs                int       `json:"cpus"`
	Rate                int       `json:"payments_per_second"`
	EventRate           int       `json:"events_per_second"`
	Simulator           armStat   `json:"simulator"`
	Post                armStat   `json:"post"`
	Less                armStat   `json:"post_less_simulator"`
	Events              armStat   `json:"events"`
	Replays             armStat   `json:"replayed_events"`
	OutageSeconds       float64   `json:"outage_seconds"`
	OpenAfterSeconds    float64   `json:"breaker_open_after_seconds"`
	Queued              armStat   `json:"post_while_open"`
	NotQueued           int       `json:"not_queued_while_open"`
	ReadsBefore         armStat   `json:"reads_before"`
	ReadsAway           armStat   `json:"reads_while_away"`
	SettledAfterSeconds float64   `json:"settled_after_seconds"`
	BusiestSecond       int       `json:"busiest_second"`
	Payments            int       `json:"payments"`
	Succeeded           int       `json:"succeeded"`
	Charges             int       `json:"charges"`
}

func (r *paymentsResult) arms() []armStat {
	return []armStat{r.Simulator, r.Post, r.Less, r.Events, r.Replays, r.Queued, r.ReadsBefore, r.ReadsAway}
}

func (r *paymentsResult) print() {
	fmt.Printf("\n%-44s %9s %9s %9s\n", fmt.Sprintf("milliseconds; %d payments, %d events a second", r.Rate, r.EventRate), "p50", "p95", "p99")
	for _, a := range r.arms() {
		fmt.Printf("%-44s %9.1f %9.1f %9.1f\n", a.Name, a.P50, a.P95, a.P99)
	}
	fmt.Printf("\nStripe away for %.0f s: the breaker opened after %.1f s, and %d POSTs after that were not queued.\n", r.OutageSeconds, r.OpenAfterSeconds, r.NotQueued)
	fmt.Printf("All was settled %.0f s after it came back; Stripe got at most %d calls in a second.\n", r.SettledAfterSeconds, r.BusiestSecond)
	fmt.Printf("%d payments, %d of them succeeded, %d charges.\n\n", r.Payments, r.Succeeded, r.Charges)
}

// failed is an error when a request was, or when the books differ.
func (r *paymentsResult) failed() error {
	for _, a := range r.arms() {
		if a.Failed > 0 {
			return fmt.Errorf("%d requests failed: %s: %s", a.Failed, a.Name, a.Error)
		}
	}
	if r.Succeeded != r.Payments || r.Charges != r.Payments {
		return fmt.Errorf("of %d payments %d succeeded, with %d charges", r.Payments, r.Succeeded, r.Charges)
	}
	return nil
}
