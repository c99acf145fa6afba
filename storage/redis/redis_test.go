package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

func open(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	client, err := redis.Open(context.Background(), redis.Config{URL: url})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// raw is Redis as its operator sees it.
func raw(tb testing.TB, url string) *driver.Client {
	tb.Helper()
	options, err := driver.ParseURL(url)
	require.NoError(tb, err)
	client := driver.NewClient(options)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func requireCode(tb testing.TB, code livestream.Code, err error) {
	tb.Helper()
	require.Error(tb, err)
	require.Equal(tb, code, livestream.CodeOf(err), "%v", err)
}

func TestABadURLKeepsItsPassword(t *testing.T) {
	t.Parallel()
	_, err := redis.Open(context.Background(), redis.Config{URL: "http://:secret@host"})
	require.ErrorContains(t, err, "redis://host:6379/0")
	require.NotContains(t, err.Error(), "secret")
}

// A Redis that is away, or hangs, is found out soon: what needs it says so, and
// works again by itself.
func TestARedisThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	proxy, url := testenv.NewProxy(t, testenv.Redis(t))
	client, ctx, stream := open(t, url), testenv.Context(t), uuid.New()
	everything := map[string]func() error{
		"ping": func() error { return client.Ping(ctx) },
		"append": func() error {
			_, _, err := redis.NewChat(client, kept(0)).Append(ctx, livestream.NewChatEvent{StreamID: stream, Type: livestream.ChatMessage, Body: struct{}{}})
			return err
		},
		"since": func() error {
			_, _, _, err := redis.NewChat(client, kept(0)).Since(ctx, stream, livestream.ChatPosition{})
			return err
		},
		"last":     func() error { _, err := redis.NewChat(client, kept(0)).Last(ctx, stream, 0, 1); return err },
		"position": func() error { _, err := redis.NewChat(client, kept(0)).Position(ctx, stream); return err },
		"set viewers": func() error {
			_, err := redis.NewPresence(client).SetViewers(ctx, "node", map[uuid.UUID]livestream.ChatViewers{stream: {Count: 1}})
			return err
		},
		"viewers": func() error { _, err := redis.NewPresence(client).Viewers(ctx, stream); return err },
		"peak":    func() error { _, err := redis.NewPresence(client).Peak(ctx, stream); return err },
		"issue":   func() error { _, err := redis.NewTickets(client).Issue(ctx, livestream.Ticket{}); return err },
		"push":    func() error { return redis.NewNotifications(client).Publish(ctx, livestream.NotificationPush{}) },
		"logout":  func() error { return redis.NewNotifications(client).PublishLogout(ctx, uuid.New()) },
		"progress": func() error {
			_, err := redis.NewArchives(client).Report(ctx, stream, "unit", 1)
			return err
		},
	}
	for name, call := range everything {
		require.NoError(t, call(), name)
	}
	proxy.Cut()
	for name, call := range everything {
		t.Log(name)
		requireCode(t, livestream.CodeUnavailable, call())
	}
	_, err := redis.NewTickets(client).Redeem(ctx, "token")
	requireCode(t, livestream.CodeUnavailable, err)
	proxy.Restore()
	for name, call := range everything {
		require.Eventually(t, func() bool { return call() == nil }, 10*time.Second, 50*time.Millisecond, name)
	}
	proxy.Freeze()
	requireCode(t, livestream.CodeUnavailable, client.Ping(ctx))
}

func TestArchivesAddUpTheirSteps(t *testing.T) {
	t.Parallel()
	archives, ctx, archive := redis.NewArchives(open(t, testenv.Redis(t))), testenv.Context(t), uuid.New()
	for _, step := range []struct {
		unit          string
		seconds, want float64
	}{{"chunk_0", 10, 10}, {"chunk_1", 5.5, 15.5}, {"chunk_0", 2, 7.5}, {"chunk_1", 5.5, 7.5}} {
		sum, err := archives.Report(ctx, archive, step.unit, step.seconds)
		require.NoError(t, err)
		require.InDelta(t, step.want, sum, 0.001, "a step that begins anew replaces what it said")
	}
	sum, err := archives.Report(ctx, uuid.New(), "chunk_0", 1)
	require.NoError(t, err)
	require.InDelta(t, 1, sum, 0.001, "archives do not mix")
}
