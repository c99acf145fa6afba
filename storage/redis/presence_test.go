package redis_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
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
		totals, err := presence.SetViewers(ctx, node, map[uuid.UUID]livestream.ChatViewers{stream: {Count: count}})
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

// The streams that are watched come most viewers first, page by page, without those
// that nobody watches any more.
func TestWatched(t *testing.T) {
	t.Parallel()
	presence, ctx := redis.NewPresence(open(t, testenv.Redis(t))), testenv.Context(t)
	viewers, ids := map[uuid.UUID]livestream.ChatViewers{}, []uuid.UUID{}
	for i := range 25 {
		id := uuid.New()
		ids = append(ids, id)
		viewers[id] = livestream.ChatViewers{Count: i / 3}
	}
	_, err := presence.SetViewers(ctx, "a", viewers)
	require.NoError(t, err)
	var all []livestream.WatchedStream
	var after *livestream.Cursor
	for {
		page, err := presence.Watched(ctx, after, 4)
		require.NoError(t, err)
		all = append(all, page...)
		if len(page) < 4 {
			break
		}
		after = &livestream.Cursor{Number: page[3].Viewers, ID: page[3].ID}
	}
	require.Len(t, all, 22)
	seen := map[uuid.UUID]bool{}
	for i, stream := range all {
		require.Equal(t, int64(viewers[stream.ID].Count), stream.Viewers)
		require.False(t, seen[stream.ID])
		seen[stream.ID] = true
		if i > 0 {
			require.LessOrEqual(t, stream.Viewers, all[i-1].Viewers)
		}
	}
	_, err = presence.SetViewers(ctx, "a", map[uuid.UUID]livestream.ChatViewers{ids[24]: {}})
	require.NoError(t, err)
	page, err := presence.Watched(ctx, nil, 1)
	require.NoError(t, err)
	require.NotEqual(t, ids[24], page[0].ID)
}

// S1: a node that dies does not leave its viewers counted, and Redis forgets the
// stream when nobody tells of it any more.
func TestADeadNodeStopsCounting(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	presence := redis.NewPresence(open(t, url))
	began := time.Now()
	_, err := presence.SetViewers(ctx, "dead", map[uuid.UUID]livestream.ChatViewers{stream: {Count: 7, Opened: []livestream.ChatConnection{{ID: "c", Since: began}}}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		totals, err := presence.SetViewers(ctx, "alive", map[uuid.UUID]livestream.ChatViewers{stream: {Count: 2, Opened: []livestream.ChatConnection{{ID: "d", UserID: stream, Since: began}}}})
		counts, readErr := presence.Viewers(ctx, stream)
		return err == nil && readErr == nil && totals[stream] == 2 && counts[stream] == 2
	}, 30*time.Second, 200*time.Millisecond)
	require.Greater(t, time.Since(began), redis.PresenceLifetime-2*time.Second)
	connections := "stream:{" + stream.String() + "}:connections"
	open, err := raw(t, url).HGetAll(ctx, connections).Result()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"d": "alive " + stream.String() + " " + began.UTC().Format(time.RFC3339)}, open, "its connections are gone too")
	key := "stream:{" + stream.String() + "}:viewers"
	require.Eventually(t, func() bool { return raw(t, url).Exists(ctx, key).Val() == 0 }, 30*time.Second, 200*time.Millisecond)
}
