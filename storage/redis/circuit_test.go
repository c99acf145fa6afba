package redis_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// circuitPolicy never forgets a call while a test runs, and tries again after pause.
func circuitPolicy(pause time.Duration) livestream.CircuitPolicy {
	return livestream.CircuitPolicy{Name: "test", Window: time.Hour, Minimum: 20, Rate: 0.1, Pause: pause, Probes: 2, Lease: time.Minute}
}

// newCircuit is the circuit breaker of one process.
func newCircuit(tb testing.TB, url string, policy livestream.CircuitPolicy) *redis.Circuit {
	tb.Helper()
	circuit, err := redis.NewPatientCircuit(open(tb, url), policy)
	require.NoError(tb, err)
	return circuit
}

// call makes n calls that go through and end with a result.
func call(tb testing.TB, circuit *redis.Circuit, n int, result livestream.CallResult) {
	tb.Helper()
	for i := range n {
		done, _ := circuit.Allow(tb.Context())
		require.NotNil(tb, done, "call %d", i)
		done(result)
	}
}

func refused(tb testing.TB, circuit *redis.Circuit) bool {
	tb.Helper()
	done, retryAfter := circuit.Allow(tb.Context())
	if done == nil {
		require.Positive(tb, retryAfter)
		return true
	}
	done(livestream.CallUnknown)
	return false
}

// probe waits until a call may try again.
func probe(tb testing.TB, circuit *redis.Circuit) func(livestream.CallResult) {
	tb.Helper()
	var done func(livestream.CallResult)
	require.Eventually(tb, func() bool { done, _ = circuit.Allow(tb.Context()); return done != nil }, 10*time.Second, 5*time.Millisecond)
	return done
}

func TestCircuitOpensForAllProcesses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		good, bad, unknown int
		open               bool
	}{
		"too few calls to tell":         {9, 10, 0, false},
		"a tenth of twenty":             {18, 2, 0, true},
		"one of twenty":                 {19, 1, 0, false},
		"less than a tenth of thirty":   {28, 2, 0, false},
		"those who gave up say nothing": {17, 2, 50, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Redis(t)
			one, other := newCircuit(t, url, circuitPolicy(time.Hour)), newCircuit(t, url, circuitPolicy(time.Hour))
			call(t, one, c.unknown, livestream.CallUnknown)
			call(t, one, c.good, livestream.CallOK)
			call(t, one, c.bad/2, livestream.CallFailed)
			call(t, other, c.bad-c.bad/2, livestream.CallFailed)
			require.Equal(t, c.open, refused(t, one))
			require.Equal(t, c.open, refused(t, other))
			require.Equal(t, c.open, one.Away(t.Context()) > 50*time.Minute)
		})
	}
}

func TestCircuitClosesWhenItsProbesSucceed(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	one, other := newCircuit(t, url, circuitPolicy(50*time.Millisecond)), newCircuit(t, url, circuitPolicy(50*time.Millisecond))
	call(t, one, 20, livestream.CallFailed)

	probe(t, one)(livestream.CallFailed) // and it is open again
	first := probe(t, other)
	require.True(t, refused(t, one), "one at a time, of all processes")
	first(livestream.CallUnknown)
	second := probe(t, one) // one that said nothing does not count
	second(livestream.CallOK)
	third := probe(t, one)
	require.True(t, refused(t, other), "one success is not enough")
	third(livestream.CallOK)
	call(t, other, 50, livestream.CallOK)
	call(t, one, 1, livestream.CallFailed)
	require.False(t, refused(t, one), "what was before is forgotten")
}

// Of all who come at once when it may be tried again, one goes through.
func TestCircuitSendsOneProbe(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	circuits := []*redis.Circuit{newCircuit(t, url, circuitPolicy(time.Millisecond)), newCircuit(t, url, circuitPolicy(time.Millisecond))}
	call(t, circuits[0], 20, livestream.CallFailed)
	var (
		wait    sync.WaitGroup
		through atomic.Int64
	)
	for _, circuit := range circuits {
		for range 20 {
			wait.Go(func() {
				for range 20 {
					if done, _ := circuit.Allow(t.Context()); done != nil {
						through.Add(1)
					}
				}
			})
		}
	}
	wait.Wait()
	require.Equal(t, int64(1), through.Load())
}

// A process that dies with its probe does not keep the others away.
func TestCircuitGivesUpAProbe(t *testing.T) {
	t.Parallel()
	policy := circuitPolicy(time.Millisecond)
	policy.Lease = 100 * time.Millisecond
	circuit := newCircuit(t, testenv.Redis(t), policy)
	call(t, circuit, 20, livestream.CallFailed)
	probe(t, circuit) // of which nothing is heard again
	probe(t, circuit)(livestream.CallOK)
}

// What was begun before it opened says nothing of how it is since.
func TestCircuitIgnoresCallsOfAnotherTime(t *testing.T) {
	t.Parallel()
	circuit := newCircuit(t, testenv.Redis(t), circuitPolicy(time.Millisecond))
	var late []func(livestream.CallResult)
	for range 30 {
		done, _ := circuit.Allow(t.Context())
		late = append(late, done)
	}
	call(t, circuit, 20, livestream.CallFailed)
	late[0](livestream.CallOK)
	probe(t, circuit)(livestream.CallOK)
	probe(t, circuit)(livestream.CallOK)
	for _, done := range late[1:] {
		done(livestream.CallFailed)
	}
	require.False(t, refused(t, circuit))
}

func TestCircuitForgetsOldCalls(t *testing.T) {
	t.Parallel()
	policy := circuitPolicy(time.Hour)
	policy.Window = time.Second
	url := testenv.Redis(t)
	circuit := newCircuit(t, url, policy)
	call(t, circuit, 19, livestream.CallFailed)
	require.Eventually(t, func() bool { return figure(t, circuit, "circuit_window_calls") == 0 }, 20*time.Second, 20*time.Millisecond)
	call(t, circuit, 1, livestream.CallFailed)
	require.False(t, refused(t, circuit), "one of one, which is too few to tell")
	fields, err := raw(t, url).HKeys(t.Context(), "circuit:test").Result()
	require.NoError(t, err)
	require.LessOrEqual(t, len(fields), 4, "and they take no room")
}

// figure is a metric of a circuit breaker.
func figure(tb testing.TB, circuit *redis.Circuit, name string) float64 {
	tb.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(tb, registry.Register(circuit))
	families, err := registry.Gather()
	require.NoError(tb, err)
	for _, family := range families {
		if family.GetName() == name {
			metric := family.GetMetric()[0]
			return metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	require.Fail(tb, "there is no metric "+name)
	return 0
}

func TestCircuitWithoutRedis(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*testenv.Proxy){"cut": (*testenv.Proxy).Cut, "frozen": (*testenv.Proxy).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, url := testenv.NewProxy(t, testenv.Redis(t))
			circuit, err := redis.NewCircuit(open(t, url), circuitPolicy(time.Hour))
			require.NoError(t, err)
			away(proxy)
			call(t, circuit, 20, livestream.CallFailed)
			require.True(t, refused(t, circuit), "this process goes by what it sees")
			require.Positive(t, circuit.Away(t.Context()))
			if name == "cut" {
				proxy.Restore()
			} else {
				proxy.Thaw()
			}
			require.Eventually(t, func() bool { return !refused(t, circuit) }, 20*time.Second, 50*time.Millisecond, "Redis is asked again, where nothing failed")
		})
	}
}

func TestCircuitIsMeasured(t *testing.T) {
	t.Parallel()
	circuit := newCircuit(t, testenv.Redis(t), circuitPolicy(time.Hour))
	call(t, circuit, 18, livestream.CallOK)
	call(t, circuit, 1, livestream.CallFailed)
	require.Zero(t, figure(t, circuit, "circuit_state"))
	require.InDelta(t, 19, figure(t, circuit, "circuit_window_calls"), 0)
	require.InDelta(t, 1, figure(t, circuit, "circuit_window_failures"), 0)
	require.Zero(t, figure(t, circuit, "circuit_opened_total"))
	call(t, circuit, 1, livestream.CallFailed)
	require.True(t, refused(t, circuit))
	require.InDelta(t, 2, figure(t, circuit, "circuit_state"), 0)
	require.Zero(t, figure(t, circuit, "circuit_window_calls"))
	require.InDelta(t, 1, figure(t, circuit, "circuit_opened_total"), 0)
}

func TestCircuitPolicyIsChecked(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*livestream.CircuitPolicy){
		"a rate of nothing":  func(p *livestream.CircuitPolicy) { p.Rate = 0 },
		"a rate above one":   func(p *livestream.CircuitPolicy) { p.Rate = 10 },
		"no minimum":         func(p *livestream.CircuitPolicy) { p.Minimum = 0 },
		"no probes":          func(p *livestream.CircuitPolicy) { p.Probes = 0 },
		"no pause":           func(p *livestream.CircuitPolicy) { p.Pause = 0 },
		"a window too short": func(p *livestream.CircuitPolicy) { p.Window = time.Millisecond },
		"no lease":           func(p *livestream.CircuitPolicy) { p.Lease = 0 },
	} {
		policy := circuitPolicy(time.Second)
		spoil(&policy)
		_, err := redis.NewCircuit(open(t, testenv.Redis(t)), policy)
		require.Error(t, err, name)
	}
}

// A caller who has gone does not take its result along.
func TestCircuitHearsOfCallersWhoHaveGone(t *testing.T) {
	t.Parallel()
	circuit := newCircuit(t, testenv.Redis(t), circuitPolicy(time.Hour))
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done, _ := circuit.Allow(ctx)
		require.NotNil(t, done)
		cancel()
		done(livestream.CallFailed)
	}
	require.True(t, refused(t, circuit))
}
