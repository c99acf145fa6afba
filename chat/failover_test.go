package chat_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// A replica takes over that lacks the last events of the server that died. Everybody
// is told that what they have seen is no longer what there is, whatever they say to
// have seen last, and no id is given twice.
func TestAFailoverThatLosesTheLastEvents(t *testing.T) {
	t.Parallel()
	leader := newServer(t)
	host, port, err := net.SplitHostPort(leader.address)
	require.NoError(t, err)
	follower := newServer(t, "--replicaof", host+" "+port)
	w := newWorldOn(t, testenv.Context(t), "redis://"+leader.address+"/0")
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	nodes := []*node{w.nodeAt(t, fast, redisURL, nil), w.nodeAt(t, fast, redisURL, nil)}
	stream := w.stream(t).ID
	viewers := []*socket{w.chat(t, nodes[0], stream, nil), w.chat(t, nodes[1], stream, nil)}
	both := func(after int64, want ...string) {
		t.Helper()
		for _, s := range viewers {
			require.Equal(t, want, s.texts(after, len(want)))
		}
	}
	w.append(t, stream, numbers(1, 10)...)
	both(0, numbers(1, 10)...)
	epoch := w.chat(t, nodes[0], stream, nil).welcome.Epoch

	operator := driver.NewClient(&driver.Options{Addr: follower.address})
	defer operator.Close()
	require.Eventually(t, func() bool {
		id, _ := operator.Get(w.ctx, "chat:{"+stream.String()+"}:id").Int64() // it is not there yet
		return id == 10
	}, patience, 10*time.Millisecond, "the replica is up to date")
	require.NoError(t, operator.Do(w.ctx, "REPLICAOF", "NO", "ONE").Err())
	w.append(t, stream, "lost 1", "lost 2", "lost 3")
	both(10, "lost 1", "lost 2", "lost 3")
	proxy.Cut()
	leader.stop()
	proxy.To(follower.address)
	proxy.Restore()

	for _, s := range viewers {
		bye := s.closed()
		require.Equal(t, "resync", bye.Code)
		require.True(t, websocket.IsCloseError(asClose(bye.err), 4001), "%v", bye.err)
	}
	cache := w.openRedis(t, "redis://"+follower.address+"/0")
	w.events, w.tickets = redis.NewChat(cache, w.chats), redis.NewTickets(cache)
	viewers = nil
	for i, since := range []int64{13, 10, 8} {
		back := w.chat(t, nodes[i%2], stream, nil, "since", fmt.Sprint(since), "epoch", epoch)
		require.True(t, back.welcome.Gap, since)
		require.False(t, back.welcome.Recovered, since)
		require.NotEqual(t, epoch, back.welcome.Epoch)
		require.Greater(t, back.welcome.ResumeFrom, int64(13))
		viewers = append(viewers, back)
	}
	from := viewers[0].welcome.ResumeFrom
	require.Equal(t, from, viewers[1].welcome.ResumeFrom, "the epoch ended once for all nodes")
	w.append(t, stream, "new 1", "new 2")
	both(from, "new 1", "new 2")
}
