package redis_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// anHour makes limits that nothing comes back of while a test runs.
func anHour(rate, burst int) livestream.RateLimit {
	return livestream.RateLimit{Name: "test", Rate: rate, Per: time.Hour, Burst: burst}
}

func TestRateLimiterIsExactOverProcesses(t *testing.T) {
	t.Parallel()
	ctx, url := testenv.Context(t), testenv.Redis(t)
	var (
		allowed atomic.Int64
		wait    sync.WaitGroup
	)
	for range 2 {
		limiter := redis.NewPatientRateLimiter(open(t, url))
		for range 10 {
			wait.Go(func() {
				for range 20 {
					if limiter.Allow(ctx, anHour(100, 100), "user:ada").Allowed {
						allowed.Add(1)
					}
				}
			})
		}
	}
	wait.Wait()
	require.Equal(t, int64(100), allowed.Load())
}

// What processes let through without asking is bounded while it is not counted, and
// counted in the end.
func TestRateLimiterCountsWhatWentOnCredit(t *testing.T) {
	t.Parallel()
	ctx, url := testenv.Context(t), testenv.Redis(t)
	const burst, processes = 6400, 3
	limiters := make([]*redis.RateLimiter, processes)
	for i := range limiters {
		limiters[i] = redis.NewPatientRateLimiter(open(t, url))
	}
	allowed := 0
	for i := range burst * 2 {
		if limiters[i%processes].Allow(ctx, anHour(burst, burst), "user:ada").Allowed {
			allowed++
		}
	}
	require.GreaterOrEqual(t, allowed, burst)
	require.LessOrEqual(t, allowed, burst+processes*burst/64)
	for _, limiter := range limiters {
		require.False(t, limiter.Allow(ctx, anHour(burst, burst), "user:ada").Allowed)
	}
}

func TestRateLimiterIsExactOnCreditForOneProcess(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	limiter := redis.NewPatientRateLimiter(open(t, testenv.Redis(t)))
	const burst = 1200
	for left := burst - 1; left >= 0; left-- {
		decision := limiter.Allow(ctx, anHour(burst, burst), "user:ada")
		require.True(t, decision.Allowed)
		require.InDelta(t, left, decision.Remaining, 1, "something may have come back meanwhile")
	}
	require.False(t, limiter.Allow(ctx, anHour(burst, burst), "user:ada").Allowed)
}

func TestRateLimiterSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	// Rates whose parts of an hour are no whole seconds, or no whole microseconds.
	for _, rate := range []int{1, 7, 300, 1200} {
		limiter := redis.NewPatientRateLimiter(open(t, testenv.Redis(t)))
		limit := anHour(rate, min(rate, 5))
		for left := limit.Burst - 1; left >= 0; left-- {
			decision := limiter.Allow(ctx, limit, "user:ada")
			require.True(t, decision.Allowed)
			require.Equal(t, left, decision.Remaining, "rate %d", rate)
			require.Zero(t, decision.RetryAfter)
			used := time.Duration(limit.Burst-left) * time.Hour / time.Duration(rate)
			require.InDelta(t, used.Seconds(), decision.ResetAfter.Seconds(), 1.5)
		}
		decision := limiter.Allow(ctx, limit, "user:ada")
		require.False(t, decision.Allowed)
		require.Zero(t, decision.Remaining)
		require.InDelta(t, (time.Hour / time.Duration(rate)).Seconds(), decision.RetryAfter.Seconds(), 1.5)
		require.True(t, limiter.Allow(ctx, limit, "user:bob").Allowed, "others are not concerned")
	}
}

func TestRateLimiterGivesBackWithTime(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	limiter := redis.NewPatientRateLimiter(open(t, testenv.Redis(t)))
	limit := livestream.RateLimit{Name: "test", Rate: 10, Per: time.Second, Burst: 1}
	require.True(t, limiter.Allow(ctx, limit, "user:ada").Allowed)
	require.Eventually(t, func() bool { return limiter.Allow(ctx, limit, "user:ada").Allowed }, 10*time.Second, 10*time.Millisecond)
}

func TestRateLimiterKeepsNoAddresses(t *testing.T) {
	t.Parallel()
	ctx, url := testenv.Context(t), testenv.Redis(t)
	limiter := redis.NewPatientRateLimiter(open(t, url))
	limiter.Allow(ctx, anHour(10, 10), "account:ada@example.com")
	limiter.Allow(ctx, anHour(10, 10), "address:192.0.2.1")
	keys, err := raw(t, url).Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 2)
	for _, key := range keys {
		require.False(t, strings.Contains(key, "ada") || strings.Contains(key, "192"), key)
	}
}

func TestRateLimiterCountsByItselfWithoutRedis(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*testenv.Proxy){"cut": (*testenv.Proxy).Cut, "frozen": (*testenv.Proxy).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testenv.Context(t)
			proxy, url := testenv.NewProxy(t, testenv.Redis(t))
			limiter := redis.NewRateLimiter(open(t, url))
			away(proxy)
			for left := 9; left >= 0; left-- {
				decision := limiter.Allow(ctx, anHour(10, 10), "user:ada")
				require.True(t, decision.Allowed)
				require.Equal(t, left, decision.Remaining, "a burst of the process's own")
			}
			decision := limiter.Allow(ctx, anHour(10, 10), "user:ada")
			require.False(t, decision.Allowed)
			require.Positive(t, decision.RetryAfter)
			if name == "cut" {
				proxy.Restore()
			} else {
				proxy.Thaw()
			}
			require.Eventually(t, func() bool { return limiter.Allow(ctx, anHour(10, 10), "user:ada").Allowed },
				20*time.Second, 50*time.Millisecond, "Redis is asked again, where nothing was counted")
		})
	}
}

func TestRateLimiterForgetsWhenManyComeWithoutRedis(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	proxy, url := testenv.NewProxy(t, testenv.Redis(t))
	limiter := redis.NewRateLimiter(open(t, url))
	proxy.Cut()
	for i := range 210_000 {
		require.True(t, limiter.Allow(ctx, anHour(10, 10), fmt.Sprintf("address:%d", i)).Allowed)
	}
	require.Less(t, limiter.LocalKeys(), 100_001)
}
