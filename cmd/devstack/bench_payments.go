package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// benchPaymentsCmd measures payments beside the simulator's own time, how long
// Stripe's events take to be acknowledged, and what an outage of Stripe does.
type benchPaymentsCmd struct {
	stackFlags
	Rate   int           `default:"4" help:"Payments a second."`
	Events int           `default:"200" help:"Events a second."`
	Phase  time.Duration `default:"30s" help:"How long payments, and each kind of events, are measured."`
	Outage time.Duration `default:"2m" help:"How long Stripe is away."`
}

// benchPaymentsFile gets the result, in the project's folder.
const benchPaymentsFile = "bench/results/payments.json"

// Run measures on a stack of its own, and prints a table.
func (c *benchPaymentsCmd) Run(ctx context.Context) error {
	if c.Rate < 1 || c.Events < 4 || c.Phase < time.Second || c.Outage < 30*time.Second {
		return errors.New("rate must be at least 1, events 4, phase 1s and outage 30s")
	}
	root, err := devstack.FindRoot()
	if err != nil {
		return err
	}
	c.Limits = "load"
	stack, err := c.startIn(ctx, root, filepath.Join(root, ".devstack", "bench-payments"))
	if err != nil {
		return err
	}
	defer stack.Close()
	b := &benchPayments{
		benchPaymentsCmd: c, env: stack.Env, metrics: fmt.Sprintf("http://127.0.0.1:%d/metrics", c.Worker),
		transport: &http.Transport{MaxIdleConnsPerHost: 512},
	}
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("prepare the benchmark: %w", err)
	}
	defer b.db.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read from
	result, err := b.measure(ctx)
	if err != nil {
		return fmt.Errorf("the benchmark stopped: %w", err)
	}
	result.print()
	return errors.Join(writeResult(filepath.Join(root, benchPaymentsFile), result), result.failed())
}

type benchPayments struct {
	*benchPaymentsCmd
	env       devstack.Env
	metrics   string
	transport *http.Transport
	db        *pgx.Conn
	payers    []member
	creator   member
	paid      []paidTip
}

type paidTip struct{ intent, workflow string }

// benchPayers is how many take turns, so that nobody comes near a limit.
const benchPayers = 100

func (b *benchPayments) prepare(ctx context.Context) (err error) {
	if b.db, err = pgx.Connect(ctx, b.env.DatabaseURL); err != nil {
		return err
	}
	tokens, err := auth.LoadTokens(b.env.JWTKeyFile, time.Now)
	if err != nil {
		return err
	}
	rows, err := b.db.Query(ctx, `
		INSERT INTO users (id, username, email, display_name, password_hash)
		SELECT uuid_v7(), name, name || '@bench.example', name, '!'
		FROM (SELECT left(md5(random()::text), 20) AS name FROM generate_series(0, $1::int)) names RETURNING id`, benchPayers)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for _, id := range ids {
		token, err := tokens.Issue(livestream.Identity{UserID: id, Role: livestream.RoleMember, FamilyID: uuid.New()})
		if err != nil {
			return err
		}
		b.payers = append(b.payers, member{Client: client.New(b.env.APIURL).WithToken(token).WithTransport(b.transport), id: id.String()})
	}
	b.creator, b.payers = b.payers[0], b.payers[1:]
	return b.setFaults(ctx, stripesim.Faults{})
}

// sample is one request: when it was due, what it took from then on, and what
// became of it.
type sample struct {
	due    time.Time
	took   time.Duration
	status string // of the payment
	err    error
}

// every sends requests at fixed times, whether or not answers have come, until stop
// says so.
func every(ctx context.Context, pause time.Duration, stop func(n int) bool, do func(ctx context.Context, n int) (string, error)) []sample {
	var (
		mu      sync.Mutex
		samples []sample
		running sync.WaitGroup
		began   = time.Now().Add(100 * time.Millisecond)
	)
	for n := 0; !stop(n) && ctx.Err() == nil; n++ {
		due := began.Add(time.Duration(n) * pause)
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
		}
		running.Go(func() {
			status, err := do(ctx, n)
			taken := sample{due, time.Since(due), status, err}
			mu.Lock()
			defer mu.Unlock()
			samples = append(samples, taken)
		})
	}
	running.Wait()
	return samples
}

// times is how often every sends.
func times(count int) func(int) bool { return func(n int) bool { return n >= count } }

func statOf(name string, samples []sample) armStat {
	took, failures := make([]time.Duration, 0, len(samples)), make([]error, 0, len(samples))
	for _, s := range samples {
		took, failures = append(took, s.took), append(failures, s.err)
	}
	if len(took) == 0 {
		return armStat{Name: name, Failed: 1, Error: "nothing was measured"}
	}
	stat := summary(name, took)
	stat.count(failures)
	return stat
}

func (b *benchPayments) measure(ctx context.Context) (*paymentsResult, error) {
	r := &paymentsResult{At: time.Now().UTC(), CPUs: runtime.NumCPU(), Rate: b.Rate, EventRate: b.Events, OutageSeconds: b.Outage.Seconds()}
	if err := b.post(ctx); err != nil { // what happens once only is not measured
		return nil, err
	}
	fmt.Printf("measuring %d payments a second, and as many of the simulator itself\n", b.Rate)
	pause, count := time.Second/time.Duration(b.Rate), int(b.Phase.Seconds())*b.Rate
	r.Simulator = statOf("the simulator's own calls", every(ctx, pause, times(count), b.simulatorAlone))
	r.Post = statOf("POST /api/transactions", every(ctx, pause, times(count), b.pay))
	r.Less = armStat{Name: "less the simulator's own", P50: r.Post.P50 - r.Simulator.P50, P95: r.Post.P95 - r.Simulator.P95, P99: r.Post.P99 - r.Simulator.P99}
	if err := b.collectPaid(ctx); err != nil {
		return nil, err
	}

	fmt.Printf("measuring %d events a second beside the payments, and the same events again\n", b.Events)
	var paying sync.WaitGroup
	paying.Go(func() { every(ctx, pause, times(2*count), b.pay) })
	run := uuid.NewString()
	deliver := func(ctx context.Context, n int) (string, error) { return "", b.deliver(ctx, run, n) }
	eventPause, events := time.Second/time.Duration(b.Events), times(int(b.Phase.Seconds())*b.Events)
	r.Events = statOf("events", every(ctx, eventPause, events, deliver))
	r.Replays = statOf("the same events again", every(ctx, eventPause, events, deliver))
	paying.Wait()
	return r, b.outage(ctx, r)
}

// post is one payment whose time does not matter.
func (b *benchPayments) post(ctx context.Context) error {
	_, err := b.pay(ctx, 0)
	return err
}

func (b *benchPayments) pay(ctx context.Context, n int) (string, error) {
	var out struct{ Status string }
	in := map[string]any{"kind": "tip", "recipient_id": b.creator.id, "amount": 500, "currency": "usd", "payment_method": "pm_card_visa"}
	err := b.payers[n%len(b.payers)].Do(ctx, http.MethodPost, "/api/transactions", in, &out, "Idempotency-Key", uuid.NewString())
	return out.Status, err
}

// simulatorAlone makes the calls that a payment makes before it is answered.
func (b *benchPayments) simulatorAlone(ctx context.Context, _ int) (string, error) {
	var intent struct{ ID string }
	if err := b.askStripe(ctx, "/v1/payment_intents", url.Values{"amount": {"500"}, "currency": {"usd"}}, &intent); err != nil {
		return "", err
	}
	return "", b.askStripe(ctx, "/v1/payment_intents/"+intent.ID+"/confirm", url.Values{"payment_method": {"pm_card_visa"}}, nil)
}

func (b *benchPayments) collectPaid(ctx context.Context) error {
	if err := b.settled(ctx, time.Minute); err != nil {
		return err
	}
	rows, err := b.db.Query(ctx, `SELECT payment_intent_id, workflow_id FROM transactions WHERE recipient_id = $1 AND status = 'succeeded'`, b.creator.id)
	if err != nil {
		return err
	}
	b.paid, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p paidTip, err error) {
		err = row.Scan(&p.intent, &p.workflow)
		return p, err
	})
	return err
}

// settled waits until all payments are decided.
func (b *benchPayments) settled(ctx context.Context, patience time.Duration) error {
	err := until(ctx, patience, func() (bool, error) {
		var undecided int
		err := b.db.QueryRow(ctx, `
			SELECT count(*) FROM transactions WHERE recipient_id = $1 AND status IN ('queued', 'requires_action', 'processing')`, b.creator.id).Scan(&undecided)
		return undecided == 0, err
	})
	if err != nil {
		return fmt.Errorf("payments do not settle: %w", err)
	}
	return nil
}

// deliver sends an event as Stripe does: three of four are of kinds that are only kept,
// as they come for each charge, the fourth says of a payment what is booked, and one of
// a hundred has a workflow look at a payment that is closed. Those that open payments
// wait for come from the simulator.
func (b *benchPayments) deliver(ctx context.Context, run string, n int) error {
	tip := b.paid[n%len(b.paid)]
	kind, object := "charge.succeeded", fmt.Sprintf(`{"id":"ch_%d","object":"charge","payment_intent":%q,"metadata":{"workflow_id":%q}}`, n, tip.intent, tip.workflow)
	switch {
	case n%100 == 1:
		kind = "charge.refunded"
	case n%4 == 0:
		kind, object = "payment_intent.succeeded", fmt.Sprintf(`{"id":%q,"object":"payment_intent","metadata":{"workflow_id":%q}}`, tip.intent, tip.workflow)
	}
	body := fmt.Sprintf(`{"id":"evt_%s_%d","object":"event","type":%q,"created":%d,"data":{"object":%s}}`, run, n, kind, time.Now().Unix(), object)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.env.APIURL+"/api/webhooks/stripe", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Stripe-Signature", stripesim.Sign([]byte(body), b.env.StripeWebhookSecret, time.Now()))
	return b.send(request, nil)
}
