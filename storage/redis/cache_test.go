package redis_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// patient waits for a Redis that shares two cores with a thousand goroutines.
var patient = redis.CacheConfig{Timeout: 5 * time.Second}

// row is a row of a database that says how it was read.
type row struct {
	mu       sync.Mutex
	value    string
	written  livestream.Position
	policies []livestream.ReadPolicy
}

func (r *row) write(value string, at livestream.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.value, r.written = value, at
}

func (r *row) load(ctx context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policies = append(r.policies, livestream.ReadPolicyOf(ctx))
	if r.value == "" {
		return "", livestream.Errorf(livestream.CodeUserNotFound, "there is no such user")
	}
	return r.value, nil
}

func (r *row) loads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.policies)
}

func (r *row) lastPolicy() livestream.ReadPolicy {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policies[len(r.policies)-1]
}

// reading is a context whose reads a replica may answer.
func reading(tb testing.TB) context.Context {
	return livestream.WithReadPolicy(testenv.Context(tb), livestream.ReadPolicy{Replica: true})
}

func newEntry() redis.CacheEntry {
	return redis.CacheEntry{Key: "user:{" + uuid.NewString() + "}", Kind: "user", TTL: time.Minute}
}

func TestCacheLoadsOnceForAThousand(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	var loads atomic.Int64
	errs := make(chan error, 1000)
	start := make(chan struct{})
	for range 2 {
		cache := redis.NewCache(open(t, url), patient)
		for range 500 {
			go func() {
				<-start
				value, err := redis.Get(ctx, cache, entry, func(context.Context) (string, error) {
					loads.Add(1)
					return "ada", nil
				})
				if err == nil && value != "ada" {
					err = errors.New("got " + value)
				}
				errs <- err
			}()
		}
	}
	close(start)
	for range 1000 {
		require.NoError(t, <-errs)
	}
	require.Equal(t, int64(1), loads.Load())
}

func TestCacheLoadsWhenTheLoaderDied(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	users := &row{value: "ada"}
	require.NoError(t, raw(t, url).Set(ctx, entry.Key+":loader", "of a process that was killed", time.Second).Err())
	errs := make(chan error, 2)
	for range 2 {
		cache := redis.NewCache(open(t, url), patient)
		go func() {
			_, err := redis.Get(ctx, cache, entry, users.load)
			errs <- err
		}()
	}
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.Equal(t, 1, users.loads())
}

func TestCacheGoesOnWhenTheFirstCallerHasGone(t *testing.T) {
	t.Parallel()
	ctx, entry := reading(t), newEntry()
	cache := redis.NewCache(open(t, testenv.Redis(t)), patient)
	loading, finish := make(chan struct{}), make(chan struct{})
	load := func(ctx context.Context) (string, error) {
		close(loading)
		<-finish
		return "ada", ctx.Err()
	}
	first, leave := context.WithCancel(ctx)
	gone := make(chan error, 1)
	go func() {
		_, err := redis.Get(first, cache, entry, load)
		gone <- err
	}()
	<-loading
	leave()
	require.ErrorIs(t, <-gone, context.Canceled)
	close(finish)
	value, err := redis.Get(ctx, cache, entry, func(context.Context) (string, error) { return "loaded again", nil })
	require.NoError(t, err)
	require.Equal(t, "ada", value)
}

func TestCacheKeepsNoValueFromBeforeAnInvalidation(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	a, b := redis.NewCache(open(t, url), patient), redis.NewCache(open(t, url), patient)
	loading, finish := make(chan struct{}), make(chan struct{})
	slow := make(chan string, 1)
	go func() {
		value, _ := redis.Get(ctx, a, entry, func(context.Context) (string, error) {
			close(loading)
			<-finish
			return "old", nil
		})
		slow <- value
	}()
	<-loading
	users := &row{value: "new"}
	b.Invalidate(ctx, 100, entry)
	for name, cache := range map[string]*redis.Cache{"the process that loads": a, "another": b} {
		value, err := redis.Get(ctx, cache, entry, users.load)
		require.NoError(t, err)
		require.Equal(t, "new", value, "%s: who asks after the write does not wait for a load from before it", name)
	}
	close(finish)
	require.Equal(t, "old", <-slow, "who asked before the write may see what was there")
	for _, cache := range []*redis.Cache{a, b} {
		value, err := redis.Get(ctx, cache, entry, users.load)
		require.NoError(t, err)
		require.Equal(t, "new", value)
	}
	require.Equal(t, 1, users.loads())
	require.Equal(t, livestream.ReadPolicy{Replica: true, After: 100}, users.lastPolicy(), "a replica must have seen the write")
}

// Many write and read at once, with replicas that lag: the one who has written
// reads it, or what came later.
func TestCacheShowsEveryWriteToWhoMadeIt(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	var (
		log    atomic.Int64 // the last position, which is the value too
		failed atomic.Int64
		wait   sync.WaitGroup
	)
	for range 8 {
		cache := redis.NewCache(open(t, url), patient)
		wait.Go(func() {
			for range 100 {
				mine := log.Add(1)
				cache.Invalidate(ctx, livestream.Position(mine), entry)
				value, err := redis.Get(ctx, cache, entry, func(ctx context.Context) (int64, error) {
					return int64(livestream.ReadPolicyOf(ctx).After), nil // as far back as a replica may be
				})
				if err != nil || value < mine {
					failed.Add(1)
				}
			}
		})
	}
	wait.Wait()
	require.Zero(t, failed.Load())
}

func TestCacheRemembersAnEarlierPositionToo(t *testing.T) {
	t.Parallel()
	ctx, entry := reading(t), newEntry()
	cache := redis.NewCache(open(t, testenv.Redis(t)), patient)
	users := &row{value: "ada"}
	cache.Invalidate(ctx, 200, entry)
	cache.Invalidate(ctx, 100, entry) // of a slower process
	_, err := redis.Get(ctx, cache, entry, users.load)
	require.NoError(t, err)
	require.Equal(t, livestream.Position(200), users.lastPolicy().After)
}

func TestCacheReadsThePrimaryAfterAWriteAtAnUnknownPosition(t *testing.T) {
	t.Parallel()
	ctx, entry := reading(t), newEntry()
	cache := redis.NewCache(open(t, testenv.Redis(t)), patient)
	users := &row{value: "ada"}
	cache.Invalidate(ctx, redis.PositionUnknown, entry)
	for range 2 {
		_, err := redis.Get(ctx, cache, entry, users.load)
		require.NoError(t, err)
	}
	require.Equal(t, []livestream.ReadPolicy{{}}, users.policies, "once, from the primary")
}

func TestCacheRemembersThatThereIsNoSuchThing(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	users := &row{}
	a, b := redis.NewCache(open(t, url), patient), redis.NewCache(open(t, url), patient)
	for _, cache := range []*redis.Cache{a, b, a} {
		_, err := redis.Get(ctx, cache, entry, users.load)
		requireCode(t, livestream.CodeUserNotFound, err)
		require.ErrorContains(t, err, "there is no such user")
	}
	require.Equal(t, 1, users.loads())
	require.LessOrEqual(t, raw(t, url).PTTL(ctx, entry.Key).Val(), 5500*time.Millisecond)

	users.write("ada", 1)
	a.Invalidate(ctx, 1, entry)
	value, err := redis.Get(ctx, b, entry, users.load)
	require.NoError(t, err)
	require.Equal(t, "ada", value)
}

func TestCacheKeepsNoOtherError(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	cache := redis.NewCache(open(t, url), patient)
	_, err := redis.Get(ctx, cache, entry, func(context.Context) (string, error) {
		return "", livestream.Unavailable("the database", errors.New("cut"))
	})
	requireCode(t, livestream.CodeUnavailable, err)
	value, err := redis.Get(ctx, cache, entry, func(context.Context) (string, error) { return "ada", nil })
	require.NoError(t, err, "and nobody waits for the one who failed")
	require.Equal(t, "ada", value)
}

func TestCacheIsPassedByForThePrimary(t *testing.T) {
	t.Parallel()
	url, entry := testenv.Redis(t), newEntry()
	cache := redis.NewCache(open(t, url), patient)
	users := &row{value: "old"}
	_, err := redis.Get(reading(t), cache, entry, users.load)
	require.NoError(t, err)
	users.write("new", 1) // by somebody who tells nobody
	value, err := redis.Get(testenv.Context(t), cache, entry, users.load)
	require.NoError(t, err)
	require.Equal(t, "new", value)
	require.Equal(t, livestream.ReadPolicy{}, users.lastPolicy())
}

func TestCachePairsAreLoadedTogetherAndInvalidatedApart(t *testing.T) {
	t.Parallel()
	ctx, entry := reading(t), newEntry()
	counts := redis.CacheEntry{Key: entry.Key + ":follower_count", Kind: "follower_count", TTL: time.Hour}
	cache := redis.NewCache(open(t, testenv.Redis(t)), patient)
	loads := 0
	get := func() (string, int) {
		name, count, err := redis.GetPair(ctx, cache, entry, counts, func(context.Context) (string, int, error) {
			loads++
			return "ada", loads, nil
		})
		require.NoError(t, err)
		return name, count
	}
	for _, want := range []int{1, 1} {
		name, count := get()
		require.Equal(t, "ada", name)
		require.Equal(t, want, count)
	}
	cache.Invalidate(ctx, 1, counts)
	_, count := get()
	require.Equal(t, 2, count)
	cache.Invalidate(ctx, 2, entry)
	_, count = get()
	require.Equal(t, 3, count)
}

func TestCacheSpreadsExpiry(t *testing.T) {
	t.Parallel()
	ctx, url := reading(t), testenv.Redis(t)
	cache, r := redis.NewCache(open(t, url), patient), raw(t, url)
	seen := map[int64]bool{}
	for range 20 {
		entry := newEntry()
		_, err := redis.Get(ctx, cache, entry, (&row{value: "ada"}).load)
		require.NoError(t, err)
		ttl := r.PTTL(ctx, entry.Key).Val()
		require.Greater(t, ttl, 50*time.Second)
		require.LessOrEqual(t, ttl, 66*time.Second)
		seen[ttl.Milliseconds()/500] = true
	}
	require.Greater(t, len(seen), 5, "they do not expire together")
}

func TestCacheReplacesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, copy := range []string{"+{", "+[]", "-", "-{", "?", "+"} {
		t.Run(copy, func(t *testing.T) {
			t.Parallel()
			ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
			cache := redis.NewCache(open(t, url), patient)
			require.NoError(t, raw(t, url).Set(ctx, entry.Key, copy, time.Minute).Err())
			users := &row{value: "ada"}
			for range 3 {
				value, err := redis.Get(ctx, cache, entry, users.load)
				require.NoError(t, err)
				require.Equal(t, "ada", value)
			}
			require.Equal(t, 2, users.loads(), "the third read has a copy again")
		})
	}
}

func TestCacheWithoutRedisLoadsAFewAtATime(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*testenv.Proxy){"cut": (*testenv.Proxy).Cut, "frozen": (*testenv.Proxy).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := reading(t)
			proxy, url := testenv.NewProxy(t, testenv.Redis(t))
			cache := redis.NewCache(open(t, url), redis.CacheConfig{MaxLoads: 4})
			registry := prometheus.NewPedanticRegistry()
			require.NoError(t, registry.Register(cache))
			away(proxy)
			var (
				running, most atomic.Int64
				wait          sync.WaitGroup
			)
			errs, release := make(chan error, 300), make(chan struct{})
			for range 300 {
				wait.Go(func() {
					_, err := redis.Get(ctx, cache, newEntry(), func(context.Context) (string, error) {
						now := running.Add(1)
						defer running.Add(-1)
						for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
						}
						<-release
						return "ada", nil
					})
					errs <- err
				})
			}
			require.Eventually(t, func() bool { return running.Load() == 4 }, 10*time.Second, time.Millisecond)
			close(release)
			wait.Wait()
			for range 300 {
				require.NoError(t, <-errs)
			}
			require.LessOrEqual(t, most.Load(), int64(4))
			before := metric(t, registry, "cache_errors_total", "user")
			for range 100 {
				_, err := redis.Get(ctx, cache, newEntry(), (&row{value: "ada"}).load)
				require.NoError(t, err)
			}
			require.Less(t, metric(t, registry, "cache_errors_total", "user")-before, 10.0, "they do not all wait for Redis")

			if name == "cut" {
				proxy.Restore()
			} else {
				proxy.Thaw()
			}
			users, entry := &row{value: "ada"}, newEntry()
			require.Eventually(t, func() bool {
				before := users.loads()
				_, err := redis.Get(ctx, cache, entry, users.load)
				require.NoError(t, err)
				return before > 0 && users.loads() == before
			}, 20*time.Second, 20*time.Millisecond, "the cache is used again")
		})
	}
}

func TestCacheForgetsNoWriteThatWasMadeWithoutRedis(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	proxyA, urlA := testenv.NewProxy(t, url)
	proxyB, urlB := testenv.NewProxy(t, url)
	a, b := redis.NewCache(open(t, urlA), patient), redis.NewCache(open(t, urlB), patient)
	users := &row{value: "old"}
	get := func(cache *redis.Cache) string {
		value, err := redis.Get(ctx, cache, entry, users.load)
		require.NoError(t, err)
		return value
	}
	require.Equal(t, "old", get(a))
	require.Equal(t, "old", get(b))

	proxyA.Cut()
	proxyB.Cut()
	users.write("new", 100)
	a.Invalidate(ctx, 100, entry)
	require.Equal(t, "new", get(a))
	require.Equal(t, livestream.Position(100), users.lastPolicy().After, "the process knows what it owes")
	require.Equal(t, "new", get(b))

	// The writer is the last to reach Redis again, where the old value still is.
	proxyB.Restore()
	require.Eventually(t, func() bool {
		require.Equal(t, "new", get(b))
		return b.UsesRedis()
	}, 20*time.Second, 10*time.Millisecond)
	proxyA.Restore()
	for name, cache := range map[string]*redis.Cache{"the writer": a, "another": b} {
		require.Eventually(t, func() bool {
			before := users.loads()
			require.Equal(t, "new", get(cache), name)
			return users.loads() == before
		}, 20*time.Second, 10*time.Millisecond, "%s uses the cache again", name)
	}
}

func TestCacheCountsItsReads(t *testing.T) {
	t.Parallel()
	ctx, entry := reading(t), newEntry()
	cache := redis.NewCache(open(t, testenv.Redis(t)), patient)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(cache))
	users, nobody := &row{value: "ada"}, newEntry()
	for range 3 {
		_, _ = redis.Get(ctx, cache, entry, users.load)
		_, _ = redis.Get(ctx, cache, nobody, (&row{}).load)
	}
	_, _ = redis.Get(testenv.Context(t), cache, entry, users.load)
	cache.Invalidate(ctx, 1, entry)
	for result, want := range map[string]float64{"miss": 2, "hit": 2, "negative": 2, "primary": 1, "away": 0} {
		require.InDelta(t, want, metric(t, registry, "cache_reads_total", "user", result), 0, result)
	}
	require.InDelta(t, 2, metric(t, registry, "cache_loads_total", "user"), 0)
	require.InDelta(t, 1, metric(t, registry, "cache_invalidations_total", "user"), 0)
	require.InDelta(t, 0, metric(t, registry, "cache_invalidations_owed"), 0)
}

// metric reads a figure by its name and the values of its labels; 0 when it was
// never counted.
func metric(tb testing.TB, registry *prometheus.Registry, name string, labels ...string) float64 {
	tb.Helper()
	families, err := registry.Gather()
	require.NoError(tb, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var values []string
			for _, label := range m.GetLabel() {
				values = append(values, label.GetValue())
			}
			if family.GetName() == name && strings.Join(values, " ") == strings.Join(labels, " ") {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
