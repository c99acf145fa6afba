package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Circuit is a circuit breaker that all processes share: what one of them sees
// fail, all of them leave alone. Closed, it counts calls over a rolling window and
// opens when too many of them fail. Open, it refuses calls for a while. Half-open, it
// lets one call at a time through, of all processes together, until some have
// succeeded in a row, which closes it, or one has failed, which opens it again.
//
// Without Redis each process goes by what it sees itself.
type Circuit struct {
	client *Client
	policy livestream.CircuitPolicy
	redis  breaker
	local  *gobreaker.TwoStepCircuitBreaker[any]
	calls  *prometheus.CounterVec
	opened prometheus.Counter
	gauges map[string]*prometheus.Desc
}

// NewCircuit keeps a circuit breaker in a Redis. It is a prometheus.Collector.
func NewCircuit(client *Client, policy livestream.CircuitPolicy) (*Circuit, error) {
	if policy.Rate <= 0 || policy.Rate > 1 || policy.Minimum < 1 || policy.Probes < 1 || policy.Window < time.Second || policy.Pause <= 0 || policy.Lease <= 0 {
		return nil, fmt.Errorf("redis: the circuit breaker %s cannot be like this: %+v", policy.Name, policy)
	}
	labels := prometheus.Labels{"circuit": policy.Name}
	gauge := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, labels) }
	return &Circuit{
		client: client, policy: policy, redis: newBreaker("circuit breaker "+policy.Name, quickTimeout, nil),
		local: gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Name: policy.Name, Interval: policy.Window, BucketPeriod: policy.Window / circuitBuckets, Timeout: policy.Pause, MaxRequests: uint32(policy.Probes),
			ReadyToTrip: func(c gobreaker.Counts) bool {
				done := c.TotalSuccesses + c.TotalFailures
				return int(done) >= policy.Minimum && float64(c.TotalFailures) >= policy.Rate*float64(done)
			},
			IsExcluded: func(err error) bool { return errors.Is(err, errCallUnknown) },
		}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "circuit_calls_total", ConstLabels: labels,
			Help: "Calls of a service behind a circuit breaker, by result: ok, failed, unknown (the caller gave up), refused (not made, because those before it failed).",
		}, []string{"result"}),
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "circuit_opened_total", ConstLabels: labels, Help: "How often a call of this process opened the circuit breaker.",
		}),
		gauges: map[string]*prometheus.Desc{
			"state":    gauge("circuit_state", "0 closed, 1 half-open, 2 open; of all processes together."),
			"calls":    gauge("circuit_window_calls", "Calls of all processes in the rolling window."),
			"failures": gauge("circuit_window_failures", "Those of them that failed: divided by the calls they are the error rate."),
		},
	}, nil
}

const (
	// circuitBuckets is into how many parts the window is divided: one at a time is
	// forgotten.
	circuitBuckets = 10
	// circuitMemory is how long an idle circuit breaker is remembered.
	circuitMemory = time.Hour
)

// A circuit breaker is one hash: generation, which each change of state raises, so
// that a call is counted only in the state that it was made in; open_until, which
// there is only when it is not closed; probe_until and passed of the half-open state;
// and calls:N and failed:N of each part N of the window. Times are milliseconds of
// Redis's clock.
const circuitScript = `
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function number(field) return tonumber(redis.call('HGET', KEYS[1], field) or '0') end
local generation, open_until = number('generation'), number('open_until')
local function window(size, buckets)
	local sums, fields = {calls = 0, failed = 0}, redis.call('HGETALL', KEYS[1])
	for i = 1, #fields, 2 do
		local what, part = string.match(fields[i], '^(%a+):(%d+)$')
		if what and tonumber(part) <= math.floor(now / size) - buckets then
			redis.call('HDEL', KEYS[1], fields[i])
		elseif what then
			sums[what] = sums[what] + fields[i + 1]
		end
	end
	return sums
end
`

// It answers {allowed, generation, probe, wait}. Without a lease it only looks.
var circuitAllowScript = redis.NewScript(circuitScript + `
if open_until == 0 then return {1, generation, 0, 0} end
local wait = math.max(open_until, number('probe_until')) - now
if wait > 0 then return {0, generation, 0, wait} end
if ARGV[1] ~= '' then redis.call('HSET', KEYS[1], 'probe_until', now + ARGV[1]) end
return {1, generation, 1, 0}
`)

// It answers 1 when this call opened the circuit breaker.
var circuitReportScript = redis.NewScript(circuitScript + `
local told, probe, result = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3]
local size, buckets, minimum, rate, pause, probes, memory = unpack(ARGV, 4)
if told ~= generation then return 0 end
local function become(...)
	redis.call('DEL', KEYS[1])
	redis.call('HSET', KEYS[1], 'generation', generation + 1, ...)
	redis.call('PEXPIRE', KEYS[1], memory)
end
if probe then
	if result == 'failed' then
		become('open_until', now + pause)
		return 1
	elseif result == 'unknown' then
		redis.call('HDEL', KEYS[1], 'probe_until')
	elseif redis.call('HINCRBY', KEYS[1], 'passed', 1) >= tonumber(probes) then
		become()
	else
		redis.call('HDEL', KEYS[1], 'probe_until')
	end
	return 0
end
if result == 'unknown' then return 0 end
local part = math.floor(now / size)
redis.call('HINCRBY', KEYS[1], 'calls:' .. part, 1)
if result == 'failed' then redis.call('HINCRBY', KEYS[1], 'failed:' .. part, 1) end
redis.call('PEXPIRE', KEYS[1], memory)
local sums = window(size, buckets)
if result == 'failed' and sums.calls >= tonumber(minimum) and sums.failed >= rate * sums.calls then
	become('open_until', now + pause)
	return 1
end
return 0
`)

// It answers {state, calls, failures}.
var circuitStateScript = redis.NewScript(circuitScript + `
local sums = window(ARGV[1], ARGV[2])
local state = 0
if open_until > now then state = 2 elseif open_until > 0 then state = 1 end
return {state, sums.calls, sums.failed}
`)

// Allow lets a call through, whose result is to be told to done. When it does not,
// done is nil, and another call may go through after retryAfter.
func (c *Circuit) Allow(ctx context.Context) (done func(livestream.CallResult), retryAfter time.Duration) {
	answer, err := c.ask(ctx, c.policy.Lease.Milliseconds())
	if err != nil {
		return c.allowLocally()
	}
	if answer[0] == 0 {
		c.calls.WithLabelValues("refused").Inc()
		return nil, c.wait(answer)
	}
	return func(result livestream.CallResult) {
		c.calls.WithLabelValues(string(result)).Inc()
		c.report(context.WithoutCancel(ctx), answer[1], answer[2], result)
	}, 0
}

// Away is how long calls will be refused; zero when one may go through.
func (c *Circuit) Away(ctx context.Context) time.Duration {
	answer, err := c.ask(ctx, "")
	switch {
	case err == nil:
		return c.wait(answer)
	case c.local.State() == gobreaker.StateOpen:
		return c.policy.Pause
	}
	return 0
}

func (c *Circuit) ask(ctx context.Context, lease any) (answer []int64, err error) {
	err = c.redis.call(ctx, func(ctx context.Context) (err error) {
		answer, err = circuitAllowScript.Run(ctx, c.client.commands, c.keys(), lease).Int64Slice()
		return err
	})
	if err == nil && len(answer) != 4 {
		err = fmt.Errorf("the circuit breaker answers %v", answer)
	}
	return answer, err
}

func (c *Circuit) wait(answer []int64) time.Duration {
	return min(time.Duration(answer[3])*time.Millisecond, c.policy.Pause)
}

// report tells the others. When Redis has gone away meanwhile, a result is lost, and
// a probe's lease ends.
func (c *Circuit) report(ctx context.Context, generation, probe int64, result livestream.CallResult) {
	p := c.policy
	_ = c.redis.call(ctx, func(ctx context.Context) error { // see above
		opened, err := circuitReportScript.Run(ctx, c.client.commands, c.keys(), generation, probe, string(result),
			(p.Window / circuitBuckets).Milliseconds(), circuitBuckets, p.Minimum, p.Rate, p.Pause.Milliseconds(), p.Probes, circuitMemory.Milliseconds()).Int64()
		if opened == 1 {
			c.opened.Inc()
		}
		return err
	})
}

// What the local circuit breaker is told.
var errCallUnknown, errCallFailed = errors.New("unknown"), errors.New("failed")

func (c *Circuit) allowLocally() (func(livestream.CallResult), time.Duration) {
	done, err := c.local.Allow()
	if err != nil {
		c.calls.WithLabelValues("refused").Inc()
		return nil, c.policy.Pause
	}
	return func(result livestream.CallResult) {
		c.calls.WithLabelValues(string(result)).Inc()
		before := c.local.State()
		done(map[livestream.CallResult]error{livestream.CallFailed: errCallFailed, livestream.CallUnknown: errCallUnknown}[result])
		if before != gobreaker.StateOpen && c.local.State() == gobreaker.StateOpen {
			c.opened.Inc()
		}
	}, 0
}

func (c *Circuit) keys() []string { return []string{"circuit:" + c.policy.Name} }

// Describe and Collect make it a prometheus.Collector.
func (c *Circuit) Describe(out chan<- *prometheus.Desc) {
	c.calls.Describe(out)
	c.opened.Describe(out)
	for _, gauge := range c.gauges {
		out <- gauge
	}
}

// Collect asks Redis how things stand; without it, this process's own view counts.
func (c *Circuit) Collect(out chan<- prometheus.Metric) {
	c.calls.Collect(out)
	c.opened.Collect(out)
	var answer []int64
	err := c.redis.call(context.Background(), func(ctx context.Context) (err error) {
		answer, err = circuitStateScript.Run(ctx, c.client.commands, c.keys(), (c.policy.Window / circuitBuckets).Milliseconds(), circuitBuckets).Int64Slice()
		return err
	})
	if err != nil || len(answer) != 3 {
		counts := c.local.Counts()
		answer = []int64{int64(c.local.State()), int64(counts.TotalSuccesses + counts.TotalFailures), int64(counts.TotalFailures)}
	}
	for i, name := range []string{"state", "calls", "failures"} {
		out <- prometheus.MustNewConstMetric(c.gauges[name], prometheus.GaugeValue, float64(answer[i]))
	}
}
