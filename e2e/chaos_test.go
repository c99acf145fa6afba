package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// payments is short in every run of the tests; make chaos-payments makes 10,000.
var payments = flag.Int("payments", 200, "how many payments TestPaymentsInChaos makes")

const (
	paymentsPerSecond = 10
	payerCount        = 100
	creatorCount      = 10
	// payersAtOnce wait for an answer at a time: a machine that can do no more is not
	// buried under requests.
	payersAtOnce = 50
	// killEvery is about how long all processes are left alone after one was killed.
	killEvery = 3 * time.Second
)

// S4: payments are made, given back and disputed while Stripe fails at random and the
// product's processes and its database are killed at random. Nothing is lost, nothing
// happens twice, and in the end each payment is decided and the books agree with
// Stripe's.
func TestPaymentsInChaos(t *testing.T) {
	t.Parallel()
	c := newChaos(t)
	storm, calm := context.WithCancel(c.ctx)
	var background sync.WaitGroup
	background.Go(func() { c.disturbStripe(storm) })
	background.Go(func() { c.killProcesses(storm) })
	ctx, stop := context.WithCancel(c.ctx)
	background.Go(func() { c.authenticate(ctx) })
	background.Go(func() { c.giveBack(ctx) })
	background.Go(func() { c.complain(ctx) })

	began := time.Now()
	c.makePayments()
	select {
	case <-c.allKilled: // a short run is not over before each was
	case <-c.ctx.Done():
	}
	calm()
	stormy := time.Since(began)
	waiting := c.undecided()
	c.settle()
	stop()
	background.Wait()
	healed := c.reconcile(began)
	c.report(stormy, time.Since(began), waiting, healed)
}

// chaos is a stack whose parts are killed.
type chaos struct {
	*stack
	cluster          *devstack.Cluster
	victims          []victim
	allKilled        chan struct{} // closed once each was
	payers, creators []member
	cancel           context.CancelFunc

	mu       sync.Mutex
	answered map[string]int // requests by what came of them
	accepted map[string]bool
	kills    map[string]int
}

// victim is something that is killed, and started again.
type victim struct {
	name    string
	kill    func()
	restart func(context.Context) error
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	cluster := testenv.Cluster(t, 0)
	require.NoError(t, postgres.Migrate(testenv.Context(t), cluster.PrimaryURL, nil))
	c := &chaos{cluster: cluster, allKilled: make(chan struct{}), answered: map[string]int{}, accepted: map[string]bool{}, kills: map[string]int{}}
	c.stack = newStackOn(t, place{database: cluster.PrimaryURL, variables: []string{
		"LIMITS=load", "STRIPE_CALLS_PER_SECOND=1000", "STRIPE_TIMEOUT=1s",
		// Faults are many, and so that the breaker is not always open, it takes more of them.
		"STRIPE_BREAKER_RATE=0.5", "STRIPE_BREAKER_PAUSE=1s", "STRIPE_BREAKER_WINDOW=5s",
	}}, api|worker)
	// It is limited by its size: the stack's own limit is that of a small test.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute+time.Duration(*payments)*300*time.Millisecond)
	t.Cleanup(cancel)
	c.ctx, c.cancel = ctx, cancel
	second := c.role("worker-2", free(t), "worker", "--queues", "payment")
	require.NoError(t, second.Launch(c.ctx))
	t.Cleanup(second.Kill)
	for _, role := range []*devstack.Role{c.api, c.worker, second} {
		c.victims = append(c.victims, victim{role.Name, role.Kill, role.Launch})
	}
	c.victims = append(c.victims, victim{"postgres", cluster.KillPrimary, cluster.RestartPrimary})
	c.payers, c.creators = c.members("payer", payerCount), c.members("creator", creatorCount)
	return c
}

// members are made straight in the database: what is tested is payments.
func (c *chaos) members(name string, count int) []member {
	c.Helper()
	tokens, err := auth.LoadTokens(c.env.JWTKeyFile, time.Now)
	require.NoError(c, err)
	rows, err := c.db.Query(c.ctx, `
		INSERT INTO users (id, username, email, display_name, password_hash)
		SELECT uuid_v7(), $1 || n, $1 || n || '@example.com', $1, '!' FROM generate_series(1, $2::int) n RETURNING id`, name, count)
	require.NoError(c, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(c, err)
	connections := &http.Transport{MaxIdleConnsPerHost: 100}
	c.Cleanup(connections.CloseIdleConnections)
	var members []member
	for _, id := range ids {
		token, err := tokens.Issue(livestream.Identity{UserID: id, Role: livestream.RoleMember, FamilyID: uuid.New()})
		require.NoError(c, err)
		members = append(members, member{Client: client.New(c.env.APIURL).WithToken(token).WithTransport(connections), s: c.stack, id: id.String(), name: name})
	}
	return members
}

// disturbStripe changes what goes wrong there every now and then.
func (c *chaos) disturbStripe(ctx context.Context) {
	for ctx.Err() == nil {
		faults := stripesim.Faults{
			LatencyMS: rand.IntN(100), WebhookDelayMS: 1 + rand.IntN(3000), WebhooksTwice: 0.2, WebhooksLost: 0.02,
		}
		if rand.IntN(4) > 0 { // now and then all is well
			for _, rate := range []*float64{
				&faults.ErrorBefore, &faults.ErrorAfter, &faults.RateLimited, &faults.CutBefore, &faults.CutAfter, &faults.HangBefore, &faults.HangAfter,
			} {
				*rate = rand.Float64() * 0.1
			}
		}
		c.stripe.SetFaults(faults)
		pause(ctx, 500*time.Millisecond+rand.N(2*time.Second))
	}
	c.stripe.SetFaults(stripesim.Faults{})
}

// killProcesses kills one after the other, in another order each time, and starts it
// again.
func (c *chaos) killProcesses(ctx context.Context) {
	for round := 0; ctx.Err() == nil; round++ {
		for _, i := range rand.Perm(len(c.victims)) {
			if !pause(ctx, killEvery/2+rand.N(killEvery)) {
				return
			}
			victim := c.victims[i]
			victim.kill()
			if err := victim.restart(c.ctx); err != nil {
				c.giveUp(fmt.Errorf("restart %s: %w", victim.name, err))
				return
			}
			c.mu.Lock()
			c.kills[victim.name]++
			c.mu.Unlock()
		}
		if round == 0 {
			close(c.allKilled)
		}
	}
}

// giveUp ends a test whose conditions cannot be kept.
func (c *chaos) giveUp(err error) {
	c.Error(err)
	c.cancel()
}

// pause waits; false when it was broken off.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// makePayments makes all of them, at fixed times while the machine keeps up.
func (c *chaos) makePayments() {
	var running sync.WaitGroup
	places := make(chan struct{}, payersAtOnce)
	for n := range *payments {
		places <- struct{}{}
		running.Go(func() {
			c.pay(n)
			<-places
		})
		pause(c.ctx, time.Second/paymentsPerSecond)
	}
	running.Wait()
}

// pay makes one payment, as a client does that knows nothing of what goes on: it
// asks until it is answered, always under the same key.
func (c *chaos) pay(n int) {
	payer, creator := c.payers[n%payerCount], c.creators[rand.IntN(creatorCount)]
	in := map[string]any{"kind": "tip", "recipient_id": creator.id, "amount": 100 + rand.IntN(2000), "currency": []string{"usd", "eur", "jpy"}[n%3]}
	if method := c.method(); method != "" {
		in["payment_method"] = method
	}
	key := uuid.NewString()
	for range 1 + rand.IntN(2) { // some ask again although they were answered
		var transaction transactionView
		if c.insist(payer, "/api/transactions", key, in, &transaction) {
			c.mu.Lock()
			c.accepted[transaction.ID] = true
			c.mu.Unlock()
		}
	}
}

// method is a payment method; empty leaves the confirmation to the client.
func (c *chaos) method() string {
	switch n := rand.IntN(100); {
	case n < 5:
		return ""
	case n < 10:
		return "pm_card_authenticationRequired"
	case n < 15:
		return "pm_card_chargeDeclined"
	case n < 20:
		return "pm_card_chargeDeclinedInsufficientFunds"
	case n < 22:
		return "pm_card_refundFail"
	case n < 24:
		return "pm_card_pendingRefund"
	}
	return "pm_card_visa"
}

// insist asks until there is an answer that is worth something.
func (c *chaos) insist(from member, path, key string, in, out any) bool {
	for wait := 200 * time.Millisecond; c.ctx.Err() == nil; wait = min(2*wait, 3*time.Second) {
		err := from.Do(c.ctx, http.MethodPost, path, in, out, "Idempotency-Key", key)
		var problem *client.Problem
		what := "cut"
		switch {
		case err == nil:
			what = "accepted"
		case errors.As(err, &problem):
			what = fmt.Sprint(problem.Status, " ", problem.Code)
		}
		c.mu.Lock()
		c.answered[what]++
		c.mu.Unlock()
		if err == nil {
			return true
		}
		if problem != nil && problem.Status < http.StatusInternalServerError && problem.Status != http.StatusTooManyRequests && problem.Status != http.StatusConflict {
			c.Errorf("%s: %v", path, err)
			return false
		}
		pause(c.ctx, wait+rand.N(wait))
	}
	return false
}

// authenticate is what payers do in their bank's window, and those do who confirm
// their payment themselves.
func (c *chaos) authenticate(ctx context.Context) {
	for pause(ctx, 200*time.Millisecond) {
		rows, err := c.db.Query(ctx, `SELECT payment_intent_id FROM transactions WHERE status = 'requires_action' AND payment_intent_id IS NOT NULL`)
		if err != nil {
			continue // it was killed
		}
		intents, _ := pgx.CollectRows(rows, pgx.RowTo[string]) // those that it gave
		for _, intent := range intents {
			succeeds := fmt.Sprintf(`{"succeed": %t}`, rand.IntN(4) > 0)
			if c.command(ctx, "/_sim/payment_intents/"+intent+"/authenticate", succeeds) == http.StatusConflict {
				c.askStripe(ctx, "/v1/payment_intents/"+intent+"/confirm", url.Values{"payment_method": {"pm_card_visa"}})
			}
		}
	}
}

// giveBack is what creators do with every fifth payment: half of them wholly, half
// of them in part.
func (c *chaos) giveBack(ctx context.Context) {
	creators := map[string]member{}
	for _, creator := range c.creators {
		creators[creator.id] = creator
	}
	var running sync.WaitGroup
	defer running.Wait()
	asked := map[string]bool{}
	for pause(ctx, 200*time.Millisecond) {
		rows, err := c.db.Query(ctx, refundableSQL)
		if err != nil {
			continue // it was killed
		}
		var id, recipient string
		var amount int64
		_, _ = pgx.ForEachRow(rows, []any{&id, &recipient, &amount}, func() error { // those that it gave
			if asked[id] {
				return nil
			}
			asked[id] = true
			in := map[string]any{"reason": "the stream broke off"}
			if amount%2 == 0 {
				in["amount"] = amount / 3
			}
			creator, key := creators[recipient], id // the next row's are read into the same variables
			running.Go(func() { c.insist(creator, "/api/transactions/"+key+"/refund", key, in, nil) })
			return nil
		})
	}
}

const refundableSQL = `
SELECT id::text, recipient_id::text, amount FROM transactions t
WHERE status = 'succeeded' AND hashtext(id::text) % 5 = 0 AND NOT EXISTS (SELECT FROM refunds r WHERE r.transaction_id = t.id)`

// complain is what some payers do: they go to their bank, which decides for or
// against them, and now and then changes its mind.
func (c *chaos) complain(ctx context.Context) {
	for pause(ctx, 200*time.Millisecond) {
		rows, err := c.db.Query(ctx, complainedOfSQL)
		if err != nil {
			continue // it was killed
		}
		intents, _ := pgx.CollectRows(rows, pgx.RowTo[string]) // those that it gave
		for _, intent := range intents {
			c.command(ctx, "/_sim/payment_intents/"+intent+"/dispute", `{"reason": "fraudulent"}`)
		}
		for _, dispute := range c.stripe.Disputes() {
			switch evidence := []string{"winning_evidence", "losing_evidence"}[rand.IntN(2)]; {
			case dispute.Status == "needs_response":
				c.askStripe(ctx, "/v1/disputes/"+dispute.ID, url.Values{"evidence[uncategorized_text]": {evidence}})
			case dispute.Status == "lost" && changesItsMind(dispute):
				c.command(ctx, "/_sim/disputes/"+dispute.ID+"/reinstate", "")
			}
		}
	}
}

// changesItsMind says whether a dispute that is lost will be won, as every other is.
func changesItsMind(dispute stripesim.Dispute) bool { return dispute.ID[len(dispute.ID)-1]%2 == 0 }

const complainedOfSQL = `
SELECT payment_intent_id FROM transactions t
WHERE status = 'succeeded' AND hashtext(id::text) % 10 = 1 AND NOT EXISTS (SELECT FROM disputes d WHERE d.transaction_id = t.id)`
