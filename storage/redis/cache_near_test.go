package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// newNear is a process that holds copies of its own, for longer than a test takes:
// what it shows anew, it shows because of the word of a write.
func newNear(t *testing.T, url string) *redis.Cache {
	t.Helper()
	cache := redis.NewCache(open(t, url), patient)
	cache.HoldNear()
	go cache.KeepNear(t.Context())
	require.Eventually(t, cache.HearsWrites, 20*time.Second, time.Millisecond)
	return cache
}

func TestNearCopiesSaveTheTripToRedis(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	cache, row := newNear(t, url), &row{value: "one"}
	value, err := redis.Get(ctx, cache, entry, row.load)
	require.NoError(t, err)
	require.Equal(t, "one", value)
	require.NoError(t, raw(t, url).Del(ctx, entry.Key).Err())
	value, err = redis.Get(ctx, cache, entry, row.load)
	require.NoError(t, err)
	require.Equal(t, "one", value)
	require.Equal(t, 1, row.loads())
}

func TestNearCopiesGoWithAnyProcessesWrite(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	reader, writer, row := newNear(t, url), newNear(t, url), &row{value: "one"}
	for position, value := range []string{"two", "three", "four"} {
		_, err := redis.Get(ctx, reader, entry, row.load)
		require.NoError(t, err)
		_, err = redis.Get(ctx, writer, entry, row.load)
		require.NoError(t, err)
		row.write(value, livestream.Position(position+1))
		writer.Invalidate(ctx, livestream.Position(position+1), entry)
		own, err := redis.Get(ctx, writer, entry, row.load)
		require.NoError(t, err)
		require.Equal(t, value, own, "at once in the writer's process")
		require.Eventually(t, func() bool {
			got, err := redis.Get(ctx, reader, entry, row.load)
			return err == nil && got == value
		}, 20*time.Second, time.Millisecond)
	}
}

func TestNearCopiesAreNotForWhoWroteLately(t *testing.T) {
	t.Parallel()
	ctx, url, entry := reading(t), testenv.Redis(t), newEntry()
	cache, row := newNear(t, url), &row{value: "one"}
	_, err := redis.Get(ctx, cache, entry, row.load)
	require.NoError(t, err)
	row.write("two", 7)
	require.NoError(t, raw(t, url).Del(ctx, entry.Key).Err()) // the word of it is under way
	after := livestream.WithReadPolicy(ctx, livestream.ReadPolicy{Replica: true, After: 7})
	value, err := redis.Get(after, cache, entry, row.load)
	require.NoError(t, err)
	require.Equal(t, "two", value)
}

func TestNearCopiesGoWithTheConnection(t *testing.T) {
	t.Parallel()
	ctx, entry, url := reading(t), newEntry(), testenv.Redis(t)
	proxy, proxied := testenv.NewProxy(t, url)
	cache, writer, row := newNear(t, proxied), redis.NewCache(open(t, url), patient), &row{value: "one"}
	_, err := redis.Get(ctx, cache, entry, row.load)
	require.NoError(t, err)
	proxy.Cut()
	row.write("two", 1)
	writer.Invalidate(ctx, 1, entry)
	require.Eventually(t, func() bool { return !cache.HearsWrites() }, 20*time.Second, time.Millisecond)
	value, err := redis.Get(ctx, cache, entry, row.load)
	require.NoError(t, err)
	require.Equal(t, "two", value, "the word was lost, and nothing is held without it")
	proxy.Restore()
	require.Eventually(t, cache.HearsWrites, 20*time.Second, time.Millisecond)
}
