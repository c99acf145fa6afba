package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// settleEvery is how often a process tries to do what it owes. It must be well
	// below trustPause.
	settleEvery = 250 * time.Millisecond
	// settleAtOnce bounds one attempt.
	settleAtOnce = 500
	// maxDebts bounds what a process remembers, at some 150 bytes each. What is
	// beyond it lives until it expires.
	maxDebts = 100_000
)

// The copy goes, and so does the lock, so that nobody waits for a load whose
// result will not be kept. A later position is not replaced by an earlier one,
// whose process was slower; the token is new all the same, so that no load that is
// under way is kept.
var invalidateScript = redis.NewScript(`
local position = ARGV[1]
local known = string.sub(redis.call('GET', KEYS[2]) or '', 1, 16)
if known > position then position = known end
redis.call('SET', KEYS[2], position .. ':' .. ARGV[2], 'PX', ARGV[3])
redis.call('PUBLISH', ARGV[4], KEYS[1])
return redis.call('DEL', KEYS[1], KEYS[3])
`)

// Invalidate says that a write changed entries: it is called once the write is
// committed, with a position that the log had then or later. Whoever reads after
// it returns does not see what was there before the write.
//
// While Redis is away this is owed: it is done as soon as Redis answers, this
// process does not read those entries from the cache until then, and the others
// wait a little before they do.
func (c *Cache) Invalidate(ctx context.Context, position livestream.Position, entries ...CacheEntry) {
	if len(entries) == 0 {
		return
	}
	for _, entry := range entries {
		c.metrics.invalidations.WithLabelValues(entry.Kind).Inc()
	}
	err := c.call(ctx, entries, func(ctx context.Context) error { return c.invalidate(ctx, position, entries) })
	// Only now: a read from before may have kept what it found.
	defer func() {
		for _, entry := range entries {
			c.near.drop(entry.Key)
		}
	}()
	if err == nil {
		return
	}
	if c.debts.add(position, entries) {
		go c.settle(context.WithoutCancel(ctx))
	}
}

func (c *Cache) invalidate(ctx context.Context, position livestream.Position, entries []CacheEntry) error {
	pipe := c.client.commands.Pipeline()
	for _, entry := range entries {
		invalidateScript.Eval(ctx, pipe, []string{entry.Key, entry.after(), entry.loader()},
			fmt.Sprintf("%016x", uint64(position)), uuid.NewString(), invalidationLifetime.Milliseconds(), channelInvalidations)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// settle does what is owed, and ends when nothing is or the client is closed.
func (c *Cache) settle(ctx context.Context) {
	for {
		time.Sleep(settleEvery)
		for {
			some := c.debts.some()
			if len(some) == 0 {
				break
			}
			if err := c.pay(ctx, some); errors.Is(err, redis.ErrClosed) {
				return
			} else if err != nil {
				break
			}
		}
		if c.debts.end() {
			return
		}
	}
}

func (c *Cache) pay(ctx context.Context, some map[string]debt) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for position, entries := range byPosition(some) {
		if err := c.invalidate(ctx, position, entries); err != nil {
			return err
		}
	}
	c.debts.paid(some)
	return nil
}

func byPosition(some map[string]debt) map[livestream.Position][]CacheEntry {
	entries := map[livestream.Position][]CacheEntry{}
	for _, debt := range some {
		entries[debt.position] = append(entries[debt.position], debt.entry)
	}
	return entries
}

// debt is an invalidation that could not be done.
type debt struct {
	entry    CacheEntry
	position livestream.Position
	serial   uint64
}

// debts are what this process owes, by key.
type debts struct {
	mu       sync.Mutex
	owed     map[string]debt
	serial   uint64
	settling bool
}

// add says whether somebody has to begin to settle.
func (d *debts) add(position livestream.Position, entries []CacheEntry) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, entry := range entries {
		known, is := d.owed[entry.Key]
		if !is && len(d.owed) >= maxDebts {
			continue
		}
		d.serial++
		d.owed[entry.Key] = debt{entry, max(known.position, position), d.serial}
	}
	begin := !d.settling
	d.settling = true
	return begin
}

// of says whether one of the entries is owed, and the last position of those that
// are.
func (d *debts) of(entries []CacheEntry) (after livestream.Position, owed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, entry := range entries {
		if known, is := d.owed[entry.Key]; is {
			after, owed = max(after, known.position), true
		}
	}
	return after, owed
}

func (d *debts) some() map[string]debt {
	d.mu.Lock()
	defer d.mu.Unlock()
	some := map[string]debt{}
	for key, debt := range d.owed {
		if len(some) == settleAtOnce {
			break
		}
		some[key] = debt
	}
	return some
}

// paid forgets debts, but for those that were made again meanwhile.
func (d *debts) paid(some map[string]debt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, debt := range some {
		if d.owed[key].serial == debt.serial {
			delete(d.owed, key)
		}
	}
}

// end says whether nothing is owed any more.
func (d *debts) end() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settling = len(d.owed) > 0
	return !d.settling
}

func (d *debts) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.owed)
}
