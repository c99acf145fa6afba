package redis

import (
	"time"

	"github.com/sony/gobreaker/v2"
)

// UsesRedis says whether a cache asks Redis, whether or not it believes it yet.
func (c *Cache) UsesRedis() bool { return c.breaker.circuit.State() == gobreaker.StateClosed }

// LocalKeys is how many keys a limiter remembers by itself.
func (l *RateLimiter) LocalKeys() int {
	l.local.mu.Lock()
	defer l.local.mu.Unlock()
	return len(l.local.full)
}

// NewPatientRateLimiter waits longer for a Redis that shares a busy machine.
func NewPatientRateLimiter(client *Client) *RateLimiter {
	l := NewRateLimiter(client)
	l.breaker.timeout = 10 * time.Second
	return l
}
