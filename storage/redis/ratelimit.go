package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// RateLimiter counts attempts for all processes together, by the generic cell
// rate algorithm: of each key it keeps one time, the one at which all of its burst
// is there again.
//
// Without Redis each process counts by itself, beginning with a whole burst: as
// many processes as there are allow as many times more.
type RateLimiter struct {
	client    *Client
	breaker   breaker
	local     localLimiter
	decisions *prometheus.CounterVec
}

// NewRateLimiter counts in a Redis. It is a prometheus.Collector.
func NewRateLimiter(client *Client) *RateLimiter {
	return &RateLimiter{
		client: client, breaker: newBreaker("rate limits", quickTimeout, nil), local: localLimiter{full: map[string]int64{}},
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rate_limit_decisions_total", Help: "Attempts, by limit, by whether they were allowed, and by where they were counted.",
		}, []string{"limit", "result", "counted_in"}),
	}
}

// Describe and Collect make it a prometheus.Collector.
func (l *RateLimiter) Describe(out chan<- *prometheus.Desc) { l.decisions.Describe(out) }

// Collect gives the decisions so far.
func (l *RateLimiter) Collect(out chan<- prometheus.Metric) { l.decisions.Collect(out) }

// Times are whole microseconds of Redis's clock: fractions of seconds would lose
// an attempt here and there to rounding.
var allowScript = redis.NewScript(`
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
if full + ARGV[1] - now > tonumber(ARGV[2]) then return {0, full - now} end
full = full + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return {1, full - now}
`)

// Allow counts an attempt, if it is allowed. It always decides: when Redis is
// away, with what this process knows. Keys may be addresses of any kind: only
// their hashes are kept.
func (l *RateLimiter) Allow(ctx context.Context, limit livestream.RateLimit, key string) livestream.RateDecision {
	var (
		cell   = cellOf(limit)
		name   = rateLimitKey(limit, key)
		where  = "redis"
		answer []int64
	)
	err := l.breaker.call(ctx, func(ctx context.Context) (err error) {
		answer, err = allowScript.Run(ctx, l.client.commands, []string{name}, cell.interval, cell.burst).Int64Slice()
		return err
	})
	if err != nil || len(answer) != 2 {
		where = "process"
		answer = l.local.allow(cell, name, time.Now().UnixMicro())
	}
	decision := cell.decision(answer[0] == 1, answer[1])
	result := "refused"
	if decision.Allowed {
		result = "allowed"
	}
	l.decisions.WithLabelValues(limit.Name, result, where).Inc()
	return decision
}

func rateLimitKey(limit livestream.RateLimit, key string) string {
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf("rate:%s:{%s}", limit.Name, hex.EncodeToString(sum[:16]))
}

// cell is a limit in microseconds: what one attempt costs, and what a whole burst
// does.
type cell struct{ interval, burst int64 }

func cellOf(limit livestream.RateLimit) cell {
	interval := max(limit.Per.Microseconds()/int64(max(limit.Rate, 1)), 1)
	return cell{interval, interval * int64(max(limit.Burst, 1))}
}

// decision says what an attempt means to the one who made it. ahead is how long
// it takes until all of the burst is there again.
func (c cell) decision(allowed bool, ahead int64) livestream.RateDecision {
	decision := livestream.RateDecision{
		Allowed: allowed, Remaining: int(max(c.burst-ahead, 0) / c.interval), ResetAfter: time.Duration(ahead) * time.Microsecond,
	}
	if !allowed {
		decision.RetryAfter = time.Duration(ahead+c.interval-c.burst) * time.Microsecond
	}
	return decision
}

// maxLocalKeys bounds what a process remembers while Redis is away.
const maxLocalKeys = 100_000

// localLimiter does in this process what the script does in Redis.
type localLimiter struct {
	mu   sync.Mutex
	full map[string]int64
}

func (l *localLimiter) allow(cell cell, key string, now int64) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := max(l.full[key], now)
	if full+cell.interval-now > cell.burst {
		return []int64{0, full - now}
	}
	if _, known := l.full[key]; !known && len(l.full) >= maxLocalKeys {
		l.forget(now)
	}
	full += cell.interval
	l.full[key] = full
	return []int64{1, full - now}
}

// forget makes room: those whose burst is whole lose nothing by it, and when all
// are in use, some get theirs back.
func (l *localLimiter) forget(now int64) {
	for key, full := range l.full {
		if full <= now {
			delete(l.full, key)
		}
	}
	for key := range l.full {
		if len(l.full) < maxLocalKeys*9/10 {
			return
		}
		delete(l.full, key)
	}
}
