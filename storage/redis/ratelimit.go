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
// Far from its limit a key does not cost a trip to Redis each time: a process lets
// a few attempts through on what it heard last, and counts them there with the
// next one. They are at most 1/64 of what was left then, for at most a second. So
// all processes together may let through that much more than a burst at once, each;
// it is counted all the same, so that over time nobody gets more than the rate. A
// key with fewer than 256 attempts left is exact, and so is each smaller limit.
//
// Without Redis each process counts by itself, beginning with a whole burst: as
// many processes as there are allow as many times more.
type RateLimiter struct {
	client    *Client
	breaker   breaker
	credits   credits
	local     localLimiter
	decisions *prometheus.CounterVec
}

// NewRateLimiter counts in a Redis. It is a prometheus.Collector.
func NewRateLimiter(client *Client) *RateLimiter {
	return &RateLimiter{
		client: client, breaker: newBreaker("rate limits", quickTimeout, nil),
		credits: credits{of: map[creditKey]credit{}}, local: localLimiter{full: map[string]int64{}},
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rate_limit_decisions_total", Help: "Attempts, by limit, by whether they were allowed, and by where they were counted: in redis, there with a later one, or in this process while Redis is away.",
		}, []string{"limit", "result", "counted_in"}),
	}
}

// Describe and Collect make it a prometheus.Collector.
func (l *RateLimiter) Describe(out chan<- *prometheus.Desc) { l.decisions.Describe(out) }

// Collect gives the decisions so far.
func (l *RateLimiter) Collect(out chan<- prometheus.Metric) { l.decisions.Collect(out) }

// Times are whole microseconds of Redis's clock: fractions of seconds would lose
// an attempt here and there to rounding. What was let through on credit (ARGV[3],
// since ARGV[4]) is counted whether or not this attempt is allowed.
var allowScript = redis.NewScript(`
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
local full, allowed = math.max(math.max(known, now - ARGV[4]) + ARGV[3], now), 0
if full + ARGV[1] - now <= tonumber(ARGV[2]) then full, allowed = full + ARGV[1], 1 end
if full > now then redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000)) end
return {allowed, full - now}
`)

// Allow counts an attempt, if it is allowed. It always decides: when Redis is
// away, with what this process knows. Keys may be addresses of any kind: only
// their hashes are kept.
func (l *RateLimiter) Allow(ctx context.Context, limit livestream.RateLimit, key string) livestream.RateDecision {
	var (
		cell   = cellOf(limit)
		credit = creditKey{limit.Name, key}
		where  = "redis"
		answer []int64
	)
	known, allowed := l.credits.use(credit, time.Now())
	if allowed {
		l.decisions.WithLabelValues(limit.Name, "allowed", "later").Inc()
		return cell.decision(true, known.aheadAt(time.Now(), cell))
	}
	name := rateLimitKey(limit, key)
	err := l.breaker.call(ctx, func(ctx context.Context) (err error) {
		answer, err = allowScript.Run(ctx, l.client.commands, []string{name}, cell.interval, cell.burst,
			known.pending*cell.interval, time.Since(known.at).Microseconds()).Int64Slice()
		return err
	})
	if err != nil || len(answer) != 2 {
		where = "process"
		answer = l.local.allow(cell, name, time.Now().UnixMicro())
	} else {
		l.credits.heard(credit, cell, answer[1], time.Now())
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

const (
	// creditShare is which part of what is left a process may let through on its
	// own, creditLifetime for how long, and minCredit how little is not worth it.
	creditShare    = 64
	creditLifetime = time.Second
	minCredit      = 4
	// maxCredits bounds how many keys have one. When there are more, all begin anew.
	maxCredits = 50_000
)

type creditKey struct{ limit, key string }

// credit is what a process knows of a key since Redis told it.
type credit struct {
	at      time.Time
	ahead   int64 // until all of the burst is there again, in microseconds as of then
	left    int64 // attempts that may still go through
	pending int64 // those that did, and that Redis has not counted
}

func (c credit) aheadAt(now time.Time, cell cell) int64 {
	return max(c.ahead-now.Sub(c.at).Microseconds(), 0) + c.pending*cell.interval
}

// credits are what a process may let through without asking.
type credits struct {
	mu sync.Mutex
	of map[creditKey]credit
}

// use lets an attempt through, if there is credit for it. Otherwise Redis is to be
// asked, and told of what is pending.
func (c *credits) use(key creditKey, now time.Time) (known credit, allowed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, is := c.of[key]
	if !is {
		return credit{at: now}, false
	}
	if known.left == 0 || now.Sub(known.at) > creditLifetime {
		delete(c.of, key)
		return known, false
	}
	known.left--
	known.pending++
	c.of[key] = known
	return known, true
}

// heard notes what Redis said. Of two who asked at once the later one is believed;
// what the other has let through meanwhile is still pending.
func (c *credits) heard(key creditKey, cell cell, ahead int64, now time.Time) {
	left := max(cell.burst-ahead, 0) / cell.interval / creditShare
	c.mu.Lock()
	defer c.mu.Unlock()
	known, is := c.of[key]
	if left = left - known.pending; left < minCredit {
		left = 0
	}
	switch {
	case left == 0 && known.pending == 0:
		delete(c.of, key)
		return
	case !is && len(c.of) >= maxCredits:
		clear(c.of)
	}
	c.of[key] = credit{at: now, ahead: ahead, left: left, pending: known.pending}
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
