package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	steer "github.com/livestream-pro/livestream-pro/workflows/client"
)

// A Redis that hangs keeps those who are connected from hearing at once, and nothing
// else: ten ranges are told in the time that a few calls to it would take.
func TestAFanOutDoesNotWaitForRedis(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	db, err := postgres.Open(ctx, postgres.Config{URL: testenv.Database(t)})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	var ids []uuid.UUID
	for _, name := range []string{"ada", "bob"} {
		user, err := postgres.NewUsers(db).Create(ctx, livestream.NewUser{
			ID: uuid.Must(uuid.NewV7()), Username: name, Email: name + "@example.com", DisplayName: name, PasswordHash: "hash",
		})
		require.NoError(t, err)
		ids = append(ids, user.ID)
	}
	_, err = postgres.NewFollows(db).Follow(ctx, ids[1], ids[0])
	require.NoError(t, err)
	now := time.Now().UTC()
	stream, err := postgres.NewStreams(db).Create(ctx, livestream.NewStream{ID: uuid.Must(uuid.NewV7()), UserID: ids[0], Title: "t", Ingest: livestream.IngestExternal}, now)
	require.NoError(t, err)

	proxy, url := testenv.NewProxy(t, testenv.Redis(t))
	cache, err := redis.Open(ctx, redis.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { cache.Close() })
	require.NoError(t, cache.Ping(ctx))
	proxy.Freeze()
	away, err := client.NewLazyClient(client.Options{}) // nobody has a browser, so it is not asked
	require.NoError(t, err)
	t.Cleanup(away.Close)
	steps := &activities.Notifications{
		Store: postgres.NewNotifications(db), Push: redis.NewNotifications(cache), Browsers: steer.NewBrowsers(steer.New(away), postgres.NewPushSubscriptions(db)),
	}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(steps)
	within, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: within})
	live := livestream.GoLive{StreamID: stream.ID, CreatorID: ids[0], Title: stream.Title, Before: now}
	for range 10 {
		value, err := env.ExecuteActivity(steps.NotifyRange, live, livestream.FollowerRange{Upto: ids[1], Count: 1})
		require.NoError(t, err)
		var told livestream.RangeResult
		require.NoError(t, value.Get(&told))
		require.EqualValues(t, 1, told.Notified)
	}
}
