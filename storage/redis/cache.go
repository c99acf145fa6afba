package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	livestream "github.com/livestream-pro/livestream-pro"
)

// CacheConfig says how much a process may ask of the database and how long it
// waits for Redis.
type CacheConfig struct {
	// MaxLoads is how many loads run at once; the others wait for their turn.
	// Default 32. It is what protects the database while Redis is away.
	MaxLoads int
	// Timeout bounds one call to Redis. Default 250 ms. A longer one makes reads
	// slower when Redis hangs, a shorter one takes a pause for a failure.
	Timeout time.Duration
}

func (c CacheConfig) withDefaults() CacheConfig {
	if c.MaxLoads == 0 {
		c.MaxLoads = 32
	}
	if c.Timeout == 0 {
		c.Timeout = quickTimeout
	}
	return c
}

const (
	// notFoundTTL is how long it is remembered that there is no such thing.
	notFoundTTL = 5 * time.Second
	// loaderLifetime is how long the others wait for a loader that may have died.
	loaderLifetime = time.Second
	// pollEvery is how often they look for what it loaded.
	pollEvery = 10 * time.Millisecond
	// loadTimeout bounds a load, which goes on when the one who began it has gone.
	loadTimeout = 10 * time.Second
	// invalidationLifetime is how long an invalidation is remembered: longer than
	// any load takes, and than any replica that is read from is behind.
	invalidationLifetime = time.Minute
	// trustPause is how long the copies are not read after Redis was away. The
	// other processes say meanwhile what they wrote while it was.
	trustPause = time.Second
)

// PositionUnknown is the position of a write about which the database could not be
// asked: for a while, what it touched is loaded from the primary.
const PositionUnknown = livestream.Position(math.MaxUint64)

// CacheEntry is one copy: where it is and for how long.
type CacheEntry struct {
	// Key has a hash tag, so that the keys that belong to it share its slot.
	Key string
	// Kind tells entries apart in metrics: "user", not which one.
	Kind string
	// TTL is shortened or lengthened by up to a tenth, so that entries that were
	// loaded together do not expire together.
	TTL time.Duration
}

// after holds the last invalidation: the position of the write and a token of its
// own, as "%016x:token".
func (e CacheEntry) after() string { return e.Key + ":after" }

// loader is the lock of the process that loads.
func (e CacheEntry) loader() string { return e.Key + ":loader" }

// Cache keeps copies of what is read often from the database, for all processes.
// Without Redis it loads, a bounded number at a time.
//
// Only reads whose policy allows a replica are answered from it: what must be true
// now (permissions, money, what a write is based on) is read under the zero policy
// and passes it by. See docs/decisions/0010-cache.md.
type Cache struct {
	client    *Client
	breaker   breaker
	flights   singleflight.Group
	loads     chan struct{} // one for each load under way
	debts     debts
	near      near
	trustFrom atomic.Int64 // in Unix nanoseconds
	metrics   cacheMetrics
}

// NewCache keeps copies in a Redis. It is a prometheus.Collector.
func NewCache(client *Client, config CacheConfig) *Cache {
	config = config.withDefaults()
	c := &Cache{client: client, loads: make(chan struct{}, config.MaxLoads)}
	c.breaker = newBreaker("cache", config.Timeout, func() { c.trustFrom.Store(time.Now().Add(trustPause).UnixNano()) })
	c.near.lifetime = nearLifetime
	c.debts.owed = map[string]debt{}
	c.metrics = newCacheMetrics(&c.debts)
	return c
}

// Get gives an entry: the copy, or else what load reads from the database, of
// which it keeps a copy. A load runs once for all who wait for it, in whichever
// process; its context carries the policy by which it must read. That there is no
// such thing (an error with a code that ends in _not_found) is remembered too.
func Get[T any](ctx context.Context, c *Cache, entry CacheEntry, load func(ctx context.Context) (T, error)) (T, error) {
	var value T
	if c.passedBy(ctx, entry) {
		return load(ctx)
	}
	if value, ok := nearCopy[T](ctx, c, entry); ok {
		c.metrics.count([]CacheEntry{entry}, "near")
		return value, nil
	}
	heard := c.near.heard()
	copies, err := c.read(ctx, []CacheEntry{entry}, func(ctx context.Context) ([]any, error) {
		value, err := load(ctx)
		return []any{value}, err
	})
	if err == nil {
		err = decode(copies[0], &value)
	}
	if errors.Is(err, errUnreadable) {
		c.drop(ctx, entry)
		return load(ctx)
	}
	if err == nil {
		c.near.keep(heard, entry, value)
	}
	return value, err
}

// GetPair is Get for two entries that one load fills and that are invalidated
// apart. Their keys share a slot. An unknown thing is remembered under the first.
func GetPair[A, B any](ctx context.Context, c *Cache, first, second CacheEntry, load func(ctx context.Context) (A, B, error)) (A, B, error) {
	var (
		a A
		b B
	)
	if c.passedBy(ctx, first, second) {
		return load(ctx)
	}
	nearFirst, is := nearCopy[A](ctx, c, first)
	if nearSecond, both := nearCopy[B](ctx, c, second); is && both {
		c.metrics.count([]CacheEntry{first, second}, "near")
		return nearFirst, nearSecond, nil
	}
	heard := c.near.heard()
	copies, err := c.read(ctx, []CacheEntry{first, second}, func(ctx context.Context) ([]any, error) {
		a, b, err := load(ctx)
		return []any{a, b}, err
	})
	if err == nil {
		err = errors.Join(decode(copies[0], &a), decode(copies[1], &b))
	}
	if errors.Is(err, errUnreadable) {
		c.drop(ctx, first, second)
		return load(ctx)
	}
	if err == nil {
		c.near.keep(heard, first, a)
		c.near.keep(heard, second, b)
	}
	return a, b, err
}

// passedBy says whether a read wants the primary's word.
func (c *Cache) passedBy(ctx context.Context, entries ...CacheEntry) bool {
	if livestream.ReadPolicyOf(ctx).Replica {
		return false
	}
	c.metrics.count(entries, "primary")
	return true
}

// errUnreadable is a copy that another version of the product wrote.
var errUnreadable = errors.New("a copy cannot be read")

func (c *Cache) drop(ctx context.Context, entries ...CacheEntry) {
	c.metrics.errors.WithLabelValues(entries[0].Kind).Inc()
	c.Invalidate(ctx, 0, entries...)
}

type loadFunc func(ctx context.Context) ([]any, error)

// read gives the entries' copies, or what a load gave in their form: what comes
// from the cache and what does not look the same.
func (c *Cache) read(ctx context.Context, entries []CacheEntry, load loadFunc) ([]string, error) {
	after, owed := c.debts.of(entries)
	if owed {
		return c.loadAlone(ctx, entries, after, load)
	}
	found, err := c.look(ctx, entries)
	if ctx.Err() != nil {
		return nil, gaveUp(ctx)
	}
	if err != nil || time.Now().UnixNano() < c.trustFrom.Load() {
		return c.loadAlone(ctx, entries, 0, load)
	}
	c.metrics.countFound(entries, found)
	if found.complete() {
		return found.copies, notFound(found.copies[0])
	}
	// Who looked after an invalidation does not wait for a load from before it.
	flight := entries[0].Key + " " + strings.Join(found.afters, " ")
	return c.share(ctx, flight, func(ctx context.Context) ([]string, error) { return c.fill(ctx, entries, found, load) })
}

// loadAlone is a read without Redis. Those who ask for the same share a load, if
// they have seen as much.
func (c *Cache) loadAlone(ctx context.Context, entries []CacheEntry, after livestream.Position, load loadFunc) ([]string, error) {
	c.metrics.count(entries, "away")
	flight := fmt.Sprintf("%s alone after %d, %d", entries[0].Key, livestream.ReadPolicyOf(ctx).After, after)
	return c.share(ctx, flight, func(ctx context.Context) ([]string, error) { return c.load(ctx, entries, after, load) })
}

// share runs fn once for all who wait for it in this process. It goes on when the
// first of them has gone.
func (c *Cache) share(ctx context.Context, flight string, fn func(ctx context.Context) ([]string, error)) ([]string, error) {
	done := c.flights.DoChan(flight, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		return fn(ctx)
	})
	select {
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		copies, _ := result.Val.([]string)
		return copies, notFound(copies[0])
	case <-ctx.Done():
		return nil, gaveUp(ctx)
	}
}

// fill loads what is missing, unless another process does: then it waits for what
// that one loads, and for no longer than it may take when it is alive.
func (c *Cache) fill(ctx context.Context, entries []CacheEntry, seen found, load loadFunc) ([]string, error) {
	token, patience := uuid.NewString(), time.Now().Add(2*loaderLifetime)
	for {
		found, mine, err := c.claim(ctx, entries, token)
		switch {
		case err != nil:
			return c.load(ctx, entries, seen.position(), load)
		case found.complete():
			return found.copies, nil
		case mine || time.Now().After(patience):
			copies, err := c.load(ctx, entries, found.position(), load)
			c.store(ctx, entries, found, token, copies)
			return copies, err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return nil, gaveUp(ctx)
		}
	}
}

// load reads from the database what has at least the given position, when it is
// its turn.
func (c *Cache) load(ctx context.Context, entries []CacheEntry, after livestream.Position, load loadFunc) ([]string, error) {
	select {
	case c.loads <- struct{}{}:
		defer func() { <-c.loads }()
	case <-ctx.Done():
		return nil, gaveUp(ctx)
	}
	policy := livestream.ReadPolicyOf(ctx)
	policy.After = max(policy.After, after)
	if policy.After == PositionUnknown {
		policy = livestream.ReadPolicy{}
	}
	c.metrics.loads.WithLabelValues(entries[0].Kind).Inc()
	values, err := load(livestream.WithReadPolicy(ctx, policy))
	if err != nil {
		if e := (*livestream.Error)(nil); errors.As(err, &e) && strings.HasSuffix(string(e.Code), "_not_found") {
			return encodeNotFound(entries, e)
		}
		return nil, err
	}
	copies := make([]string, len(values))
	for i, value := range values {
		content, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write a copy: %w", err)
		}
		copies[i] = isThere + string(content)
	}
	return copies, nil
}

func gaveUp(ctx context.Context) error {
	err := fmt.Errorf("wait for a load: %w", ctx.Err())
	if errors.Is(err, context.Canceled) {
		return err
	}
	return livestream.Unavailable("the database", err)
}
