package stripe_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// connectGuarded is a client whose breaker tries again after pause.
func connectGuarded(tb testing.TB, address string, pause time.Duration) *stripe.Client {
	tb.Helper()
	client, err := stripe.NewWithPause(stripe.Config{SecretKey: "sk_test_x", BaseURL: address}, pause)
	require.NoError(tb, err)
	return client
}

// pay charges a card n times; each is to end with code.
func pay(tb testing.TB, client *stripe.Client, n int, code livestream.Code) {
	tb.Helper()
	for range n {
		_, err := client.Charge(tb.Context(), newCharge("pm_card_visa"))
		require.Equal(tb, code, livestream.CodeOf(err), "%v", err)
	}
}

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
			_, err := client.Charge(t.Context(), newCharge("pm_card_visa"))
			if !c.open {
				require.NoError(t, err)
				return
			}
			require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
			_, err = client.FindCharge(t.Context(), newCharge("").TransactionID)
			require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
			require.Equal(t, came, simulator.Requests(), "Stripe is left alone")
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
		_, err := client.Charge(t.Context(), newCharge("pm_card_visa"))
		require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
		return simulator.Requests() > came
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, came+1, simulator.Requests())

	// Once it succeeds, all go through.
	simulator.SetFaults(stripesim.Faults{})
	require.Eventually(t, func() bool {
		_, err := client.Charge(t.Context(), newCharge("pm_card_visa"))
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
			_, err := client.Charge(t.Context(), newCharge("pm_card_chargeDeclined"))
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
			go func() { _, err := client.Charge(ctx, newCharge("pm_card_visa")); done <- err }()
			require.Eventually(t, func() bool { return simulator.Requests() == n+1 }, 10*time.Second, time.Millisecond)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}
		simulator.SetFaults(stripesim.Faults{})
		pay(t, client, 1, "")
	})
}
