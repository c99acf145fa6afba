package stripe_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// connectGuarded is a client whose breaker, in a Redis of the test's own, tries
// again after pause.
func connectGuarded(tb testing.TB, address string, pause time.Duration) *stripe.Client {
	tb.Helper()
	return connectWith(tb, address, openRedis(tb, testenv.Redis(tb)), pause, 10_000)
}

func openRedis(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	cache, err := redis.Open(tb.Context(), redis.Config{URL: url})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = cache.Close() })
	return cache
}

// connectWith is one process of those that share a Redis.
func connectWith(tb testing.TB, address string, cache *redis.Client, pause time.Duration, callsPerSecond int) *stripe.Client {
	tb.Helper()
	circuit, err := redis.NewCircuit(cache, livestream.CircuitPolicy{
		Name: "stripe", Window: time.Hour, Minimum: 20, Rate: 0.1, Pause: pause, Probes: 1, Lease: time.Minute,
	})
	require.NoError(tb, err)
	client, err := stripe.New(stripe.Config{
		SecretKey: "sk_test_x", BaseURL: address, Breaker: circuit, Limiter: redis.NewRateLimiter(cache), CallsPerSecond: callsPerSecond,
	})
	require.NoError(tb, err)
	return client
}

// pay begins a payment n times; each is to end with code.
func pay(tb testing.TB, client *stripe.Client, n int, code livestream.Code) {
	tb.Helper()
	for range n {
		_, err := client.CreateIntent(tb.Context(), newCharge())
		require.Equal(tb, code, livestream.CodeOf(err), "%v", err)
	}
}

// S4: it opens at an error rate of 10 %.
func TestBreakerOpensAtATenth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		good, bad int
		open      bool
	}{
		"too few calls to tell":    {9, 10, false},
		"a tenth of twenty":        {18, 2, true},
		"one of twenty":            {19, 1, false},
		"a tenth of thirty":        {27, 3, true},
		"less than a tenth":        {28, 3, false},
		"all, as soon as it knows": {0, 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulator, address := simulate(t)
			client := connectGuarded(t, address, time.Hour)
			pay(t, client, c.good, "")
			simulator.SetFaults(stripesim.Faults{RateLimited: 1})
			pay(t, client, c.bad, livestream.CodeUnavailable)
			simulator.SetFaults(stripesim.Faults{})
			came := simulator.Requests()
			_, err := client.CreateIntent(t.Context(), newCharge())
			if !c.open {
				require.NoError(t, err)
				require.Zero(t, client.Away(t.Context()))
				return
			}
			require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
			_, err = client.PaymentIntent(t.Context(), "pi_x")
			require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
			require.Equal(t, came, simulator.Requests(), "Stripe is left alone")
			require.ErrorIs(t, err, livestream.ErrCircuitOpen)
			var unavailable *livestream.Error
			require.ErrorAs(t, err, &unavailable)
			require.Greater(t, unavailable.RetryAfter, 50*time.Minute, "and it says until when")
			require.Greater(t, client.Away(t.Context()), 50*time.Minute)
		})
	}
}

func TestBreakerTriesAgain(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	client := connectGuarded(t, address, 50*time.Millisecond)
	simulator.SetFaults(stripesim.Faults{RateLimited: 1})
	pay(t, client, 20, livestream.CodeUnavailable)
	came := simulator.Requests()

	// After the pause a single call goes through. It fails, and the breaker stays
	// open.
	require.Eventually(t, func() bool {
		_, err := client.CreateIntent(t.Context(), newCharge())
		require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
		return simulator.Requests() > came
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, came+1, simulator.Requests())

	// Once it succeeds, all go through.
	simulator.SetFaults(stripesim.Faults{})
	require.Eventually(t, func() bool {
		_, err := client.CreateIntent(t.Context(), newCharge())
		return err == nil
	}, 10*time.Second, 5*time.Millisecond)
	pay(t, client, 30, "")
}

// While the first call after the pause is under way, no other goes through.
func TestBreakerSendsOneProbe(t *testing.T) {
	t.Parallel()
	var broken, came atomic.Int64
	broken.Store(1)
	proceed := make(chan struct{})
	client := connectGuarded(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		if broken.Load() == 0 {
			<-proceed
		}
		w.WriteHeader(http.StatusInternalServerError)
	})), time.Millisecond)
	for came.Load() < 20 {
		_, err := client.PaymentIntent(t.Context(), "pi_x")
		require.Error(t, err)
	}
	broken.Store(0)
	before, probe := came.Load(), make(chan error, 1)
	go func() {
		for came.Load() == before {
			if _, err := client.PaymentIntent(t.Context(), "pi_x"); came.Load() > before {
				probe <- err
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return came.Load() == before+1 }, 10*time.Second, time.Millisecond)
	for range 50 {
		_, err := client.PaymentIntent(t.Context(), "pi_x")
		require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
	}
	require.Equal(t, before+1, came.Load())
	close(proceed)
	require.Error(t, <-probe)
}

// What is not Stripe's fault leaves the breaker closed.
func TestBreakerIgnores(t *testing.T) {
	t.Parallel()
	t.Run("declines and refusals", func(t *testing.T) {
		t.Parallel()
		_, address := simulate(t)
		client := connectGuarded(t, address, time.Hour)
		for range 30 {
			open := opened(t, client)
			_, err := client.Confirm(t.Context(), open.ID, "pm_card_chargeDeclined", "confirm "+open.ID)
			require.NoError(t, err)
			_, err = client.PaymentIntent(t.Context(), "pi_none")
			require.Equal(t, livestream.Code("resource_missing"), livestream.CodeOf(err))
		}
		pay(t, client, 1, "")
	})
	t.Run("a key that is in use", func(t *testing.T) {
		t.Parallel()
		var came atomic.Int64
		client := connectGuarded(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			came.Add(1)
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"error":{"type":"idempotency_error"}}`))
		})), time.Hour)
		pay(t, client, 30, livestream.CodeUnavailable)
		require.Equal(t, int64(30), came.Load())
	})
	t.Run("callers who give up", func(t *testing.T) {
		t.Parallel()
		simulator, address := simulate(t)
		client := connectGuarded(t, address, time.Hour)
		simulator.SetFaults(stripesim.Faults{LatencyMS: 200})
		for n := range 30 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { _, err := client.CreateIntent(ctx, newCharge()); done <- err }()
			require.Eventually(t, func() bool { return simulator.Requests() == n+1 }, 10*time.Second, time.Millisecond)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}
		simulator.SetFaults(stripesim.Faults{})
		pay(t, client, 1, "")
	})
}

// All processes together make no more calls than they may: those above it wait for
// their turn, and when that takes too long they are told when to come again.
func TestCallsStayBelowStripesLimit(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	url := testenv.Redis(t)
	const perSecond = 20
	var (
		wait       sync.WaitGroup
		made, told atomic.Int64
		finished   atomic.Bool
		otherwise  = make(chan error, 60)
	)
	for range 2 {
		client := connectWith(t, address, openRedis(t, url), time.Hour, perSecond)
		for range 30 {
			wait.Go(func() {
				for !finished.Load() {
					_, err := client.PaymentIntent(t.Context(), "pi_none")
					var unavailable *livestream.Error
					switch {
					case livestream.CodeOf(err) == "resource_missing":
						made.Add(1)
					case errors.As(err, &unavailable) && unavailable.RetryAfter > 0 && unavailable.RetryAfter < 3*time.Second:
						told.Add(1)
					default:
						otherwise <- err
						return
					}
				}
			})
		}
	}
	require.Eventually(t, func() bool { return told.Load() > 20 && made.Load() > 2*perSecond || len(otherwise) > 0 }, 30*time.Second, 10*time.Millisecond)
	finished.Store(true)
	wait.Wait()
	require.Empty(t, otherwise)
	require.Less(t, simulator.BusiestSecond(), 2*perSecond, "sixty would make thousands")
}
