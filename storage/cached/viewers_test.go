package cached_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/cached"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

func TestViewersAreShownAMomentLater(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	client, err := redis.Open(ctx, redis.Config{URL: testenv.Redis(t)})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	presence := redis.NewPresence(client)
	viewers, one, none := cached.NewViewers(presence), uuid.New(), uuid.New()
	for _, count := range []int{3, 5, 2} {
		_, err := presence.SetViewers(ctx, "node", map[uuid.UUID]livestream.ChatViewers{one: {Count: count}})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			counts, err := viewers.Counts(ctx, one, none)
			return err == nil && counts[one].Now == int64(count) && counts[none] == livestream.ViewerCount{}
		}, 20*time.Second, 10*time.Millisecond)
	}
	counts, err := viewers.Counts(ctx, one)
	require.NoError(t, err)
	require.Equal(t, livestream.ViewerCount{Now: 2, Peak: 5}, counts[one])
}
