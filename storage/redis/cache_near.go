package redis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// channelInvalidations carries the keys of entries that a write invalidated.
	channelInvalidations = "cache:invalidations"
	// nearLifetime is the lag that a replica may have. It is the bound only when the
	// word of a write is lost: otherwise a copy goes when the write is made.
	nearLifetime = time.Second
	// maxNear bounds the copies, at some kilobyte each. When there are more, all
	// begin anew: what is asked for often is soon there again.
	maxNear = 10_000
)

// near are copies in this process, of what was in Redis or in the database a moment
// ago. They save the trip to Redis, which costs more than all the rest of a read.
//
// They are held only while this process hears of every write; see KeepNear.
type near struct {
	mu       sync.RWMutex
	lifetime time.Duration
	hears    bool
	received uint64 // grows with each word of a write
	copies   map[string]nearEntry
}

type nearEntry struct {
	value any
	until time.Time
}

// nearCopy gives a copy to readers who have written nothing lately: one who has may
// be here sooner than the word of it. The value is shared and is not to be changed.
func nearCopy[T any](ctx context.Context, c *Cache, entry CacheEntry) (value T, ok bool) {
	if livestream.ReadPolicyOf(ctx).After != 0 {
		return value, false
	}
	c.near.mu.RLock()
	defer c.near.mu.RUnlock()
	found, is := c.near.copies[entry.Key]
	if !is || !time.Now().Before(found.until) {
		return value, false
	}
	value, ok = found.value.(T)
	return value, ok
}

// heard is what a read that begins now has heard.
func (n *near) heard() uint64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.received
}

// keep holds what a read gave, unless something was written since it began: it may
// be what the read did not see.
func (n *near) keep(heard uint64, entry CacheEntry, value any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.hears || n.received != heard {
		return
	}
	if len(n.copies) >= maxNear {
		clear(n.copies)
	}
	n.copies[entry.Key] = nearEntry{value, time.Now().Add(n.lifetime)}
}

func (n *near) drop(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.received++
	delete(n.copies, key)
}

// hear begins or ends to hold copies.
func (n *near) hear(hears bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.received++
	n.hears = hears
	n.copies = map[string]nearEntry{}
}

// KeepNear holds copies in this process too, until ctx ends: for one that reads the
// same all the time. Each write of any process is heard here within the time that a
// message takes; a copy is never held for more than a second. While Redis is away
// there are none.
func (c *Cache) KeepNear(ctx context.Context) {
	pubsub := c.client.pubsub.Subscribe(ctx, channelInvalidations)
	defer pubsub.Close() //nolint:errcheck // nothing is heard any more, whatever it says
	defer c.near.hear(false)
	for ctx.Err() == nil {
		got, err := next(ctx, pubsub)
		if err != nil {
			c.near.hear(false)
			select {
			case <-time.After(receivePause):
			case <-ctx.Done():
			}
			continue
		}
		switch m := got.(type) {
		case *redis.Subscription:
			c.near.hear(true)
		case *redis.Message:
			c.near.drop(m.Payload)
		}
	}
}
