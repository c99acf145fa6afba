package redis

import (
	"time"

	"github.com/sony/gobreaker/v2"

	livestream "github.com/livestream-pro/livestream-pro"
)

// UsesRedis says whether a cache asks Redis, whether or not it believes it yet.
func (c *Cache) UsesRedis() bool { return c.breaker.circuit.State() == gobreaker.StateClosed }

// HoldNear makes a process hold its own copies for longer than any test takes.
func (c *Cache) HoldNear() { c.near.lifetime = time.Hour }

// HearsWrites says whether copies are held in this process.
func (c *Cache) HearsWrites() bool {
	c.near.mu.RLock()
	defer c.near.mu.RUnlock()
	return c.near.hears
}

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

// NewPatientCircuit waits longer for a Redis that shares a busy machine.
func NewPatientCircuit(client *Client, policy livestream.CircuitPolicy) (*Circuit, error) {
	c, err := NewCircuit(client, policy)
	if err == nil {
		c.redis.timeout = 10 * time.Second
	}
	return c, err
}
