package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

func TestAChannelIsHeardFromAddToRemove(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	client := open(t, url)
	chat, node, channel := redis.NewChat(client, kept(0)), listen(t, client), redis.ChatChannel(stream)
	say(t, chat, stream, "", "before")
	want := 0
	// Leaving and coming back at once is what a viewer does who reloads the page.
	for range 50 {
		require.NoError(t, node.Add(ctx, channel))
		say(t, chat, stream, "", "while it listens")
		want++
		require.Eventually(t, func() bool { return len(node.on(channel)) == want }, 10*time.Second, time.Millisecond)
		require.NoError(t, node.Remove(ctx, channel))
	}
	require.Eventually(t, func() bool {
		return raw(t, url).PubSubShardNumSub(ctx, channel).Val()[channel] == 0
	}, 10*time.Second, 10*time.Millisecond)
	say(t, chat, stream, "", "after")
	require.Len(t, node.on(channel), want)
	require.Zero(t, node.wasReset())
}

func TestManyChannelsAreAddedAtOnce(t *testing.T) {
	t.Parallel()
	client, ctx := open(t, testenv.Redis(t)), testenv.Context(t)
	chat, node := redis.NewChat(client, kept(0)), listen(t, client)
	var running sync.WaitGroup
	streams := make([]uuid.UUID, 200)
	for i := range streams {
		streams[i] = uuid.New()
		running.Go(func() {
			if err := node.Add(ctx, redis.ChatChannel(streams[i])); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, stream := range streams {
		say(t, chat, stream, "", "text")
	}
	for _, stream := range streams {
		require.Eventually(t, func() bool { return len(node.on(redis.ChatChannel(stream))) == 1 }, 10*time.Second, 5*time.Millisecond)
	}
}

// After a cut, the channels are heard again and the node is told that it may have
// missed something; what is published from then on arrives.
func TestASubscriberSurvivesACut(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*testenv.Proxy) (restore func()){
		"cut":    func(p *testenv.Proxy) func() { p.Cut(); return p.Restore },
		"frozen": func(p *testenv.Proxy) func() { p.Freeze(); return p.Thaw },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct, ctx := testenv.Redis(t), testenv.Context(t)
			proxy, url := testenv.NewProxy(t, direct)
			chat, node := redis.NewChat(open(t, direct), kept(0)), listen(t, open(t, url))
			streams := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
			for _, stream := range streams {
				require.NoError(t, node.Add(ctx, redis.ChatChannel(stream)))
			}
			restore := fail(proxy)
			for _, stream := range streams {
				say(t, chat, stream, "", "nobody hears it")
			}
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			requireCode(t, livestream.CodeUnavailable, node.Add(short, redis.ChatChannel(uuid.New())))
			restore()
			// Chats and news have a connection each, and each says when it is back.
			require.Eventually(t, func() bool { return node.wasReset() > 0 }, 30*time.Second, 20*time.Millisecond)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for _, stream := range streams {
				channel, deadline := redis.ChatChannel(stream), time.Now().Add(20*time.Second)
				for n := 0; len(node.on(channel)) == 0; n++ {
					require.True(t, time.Now().Before(deadline), "it is not heard again")
					say(t, chat, stream, fmt.Sprint(n), "heard")
					<-tick.C
				}
			}
		})
	}
}

// swallow is an address before a server's, and a switch after which the
// connections so far stay open and carry nothing: their other end is gone without
// a word. New ones work.
func swallow(tb testing.TB, address string) (url string, gone func()) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	tb.Cleanup(func() { listener.Close() })
	var age atomic.Int64
	pump := func(to, from net.Conn, born int64) {
		defer to.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if age.Load() == born {
				if _, err := to.Write(buffer[:n]); err != nil {
					return
				}
			}
		}
	}
	options, err := driver.ParseURL(address)
	require.NoError(tb, err)
	go func() {
		for {
			down, err := listener.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", options.Addr)
			if err != nil {
				down.Close()
				continue
			}
			born := age.Load()
			go pump(up, down, born)
			go pump(down, up, born)
		}
	}()
	return strings.Replace(address, options.Addr, listener.Addr().String(), 1), func() { age.Add(1) }
}

// A connection whose other end is gone without a word is found out and replaced.
func TestASilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	direct, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	url, gone := swallow(t, direct)
	chat, node, channel := redis.NewChat(open(t, direct), kept(0)), listen(t, open(t, url)), redis.ChatChannel(stream)
	require.NoError(t, node.Add(ctx, channel))
	gone()
	say(t, chat, stream, "", "nobody hears it")
	require.Eventually(t, func() bool { return node.wasReset() > 0 }, 30*time.Second, 20*time.Millisecond)
	say(t, chat, stream, "", "heard")
	require.Eventually(t, func() bool { return len(node.on(channel)) > 0 }, 30*time.Second, 20*time.Millisecond)
}

func TestWhatConcernsEveryNode(t *testing.T) {
	t.Parallel()
	url, ctx := testenv.Redis(t), testenv.Context(t)
	client := open(t, url)
	tell := redis.NewNotifications(client)
	nodes := []*listener{listen(t, client), listen(t, open(t, url))}
	user, family := uuid.New(), uuid.New()
	push := livestream.NotificationPush{Key: "new_follower:" + uuid.NewString(), User: &user}
	heard := func(l *listener) (pushed, loggedOut bool) {
		for _, channel := range []string{"notifications", "logouts"} {
			for _, payload := range l.on(channel) {
				h := redis.ReadNotification(channel, payload)
				if h != nil && h.Push != nil && h.Push.Key == push.Key {
					pushed = *h.Push.User == user
				}
				loggedOut = loggedOut || (h != nil && h.Logout != nil && *h.Logout == family)
			}
		}
		return pushed, loggedOut
	}
	for _, node := range nodes {
		// Subscribing takes a moment; a push before it is not heard, but is in the inbox.
		require.Eventually(t, func() bool {
			err := errors.Join(tell.Publish(ctx, push), tell.PublishLogout(ctx, family))
			pushed, loggedOut := heard(node)
			return err == nil && pushed && loggedOut
		}, 10*time.Second, 20*time.Millisecond)
	}
}

func TestWhatCannotBeReadIsIgnored(t *testing.T) {
	t.Parallel()
	require.Nil(t, redis.ReadNotification("notifications", "{"))
	require.Nil(t, redis.ReadNotification("logouts", "not an id"))
	require.Nil(t, redis.ReadNotification("chat:{x}", "{}"))
}
