package redis_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// S1: counts are the sum over all nodes, atomic, and keep their peak.
func TestViewersOfTwoNodes(t *testing.T) {
	t.Parallel()
	presence, ctx := redis.NewPresence(open(t, testenv.Redis(t))), testenv.Context(t)
	stream, other := uuid.New(), uuid.New()
	set := func(node string, count int) int64 {
		t.Helper()
		totals, err := presence.SetViewers(ctx, node, map[uuid.UUID]int{stream: count})
		require.NoError(t, err)
		return totals[stream]
	}
	require.Equal(t, int64(3), set("a", 3))
	require.Equal(t, int64(8), set("b", 5))
	require.Equal(t, int64(8), set("a", 3), "telling again changes nothing")
	require.Equal(t, int64(6), set("a", 1))
	counts, err := presence.Viewers(ctx, stream, other)
	require.NoError(t, err)
	require.Equal(t, int64(6), counts[stream])
	require.Zero(t, counts[other])
	require.Equal(t, int64(5), set("a", 0))
	require.Equal(t, int64(0), set("b", 0))
	peak, err := presence.Peak(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, int64(8), peak)
	peak, err = presence.Peak(ctx, other)
	require.NoError(t, err)
	require.Zero(t, peak)
	none, err := presence.Viewers(ctx)
	require.NoError(t, err)
	require.Empty(t, none)
}

// S1: a node that dies does not leave its viewers counted, and Redis forgets the
// stream when nobody tells of it any more.
func TestADeadNodeStopsCounting(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	presence := redis.NewPresence(open(t, url))
	began := time.Now()
	_, err := presence.SetViewers(ctx, "dead", map[uuid.UUID]int{stream: 7})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		totals, err := presence.SetViewers(ctx, "alive", map[uuid.UUID]int{stream: 2})
		counts, readErr := presence.Viewers(ctx, stream)
		return err == nil && readErr == nil && totals[stream] == 2 && counts[stream] == 2
	}, 30*time.Second, 200*time.Millisecond)
	require.Greater(t, time.Since(began), redis.PresenceLifetime-2*time.Second)
	key := "stream:{" + stream.String() + "}:viewers"
	require.Eventually(t, func() bool { return raw(t, url).Exists(ctx, key).Val() == 0 }, 30*time.Second, 200*time.Millisecond)
}
