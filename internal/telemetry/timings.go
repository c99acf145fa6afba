package telemetry

import (
	"context"
	"sync"
	"time"
)

// Timings is where the time of a request went. Calls that ran side by side count
// once: each figure is the time during which the request waited for at least one
// such call, so that none is longer than the request itself.
type Timings struct {
	// Database is the time in Postgres: the wait for a connection, the query, and
	// reading its rows.
	Database time.Duration
	// External is the time in Temporal, S3 and Stripe, up to the head of the
	// answer. The bytes of a media file that is passed on to a client do not count:
	// they flow as fast as the client takes them.
	External time.Duration
	// Redis is the time in Redis. It is in neither of the others: a cache that is
	// slow must not look like a database, or a payment provider, that is.
	Redis time.Duration
}

type timingsKey struct{}

type timings struct{ database, external, redis stopwatch }

// WithTimings makes a context in which calls add up their time.
func WithTimings(ctx context.Context) context.Context {
	return context.WithValue(ctx, timingsKey{}, &timings{})
}

// TimingsOf gives what has added up so far, calls under way included; zeros when
// the context was not made by WithTimings. It is safe for concurrent use.
func TimingsOf(ctx context.Context) Timings {
	t := timingsOf(ctx)
	if t == nil {
		return Timings{}
	}
	now := time.Now()
	return Timings{Database: t.database.read(now), External: t.external.read(now), Redis: t.redis.read(now)}
}

func timingsOf(ctx context.Context) *timings {
	t, _ := ctx.Value(timingsKey{}).(*timings)
	return t
}

func (t *timings) ofDatabase() *stopwatch {
	if t == nil {
		return nil
	}
	return &t.database
}

func (t *timings) ofExternal() *stopwatch {
	if t == nil {
		return nil
	}
	return &t.external
}

func (t *timings) ofRedis() *stopwatch {
	if t == nil {
		return nil
	}
	return &t.redis
}

// stopwatch runs while at least one of those who started it has not stopped it.
// A nil one measures nothing.
type stopwatch struct {
	mu      sync.Mutex
	running int
	since   time.Time
	total   time.Duration
}

func (s *stopwatch) start(now time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == 0 {
		s.since = now
	}
	s.running++
}

func (s *stopwatch) stop(now time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.running == 0 {
		s.total += now.Sub(s.since)
	}
}

func (s *stopwatch) read(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == 0 {
		return s.total
	}
	return s.total + now.Sub(s.since)
}
