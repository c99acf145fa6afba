package redis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

func say(tb testing.TB, chat *redis.Chat, stream uuid.UUID, nonce, text string) (livestream.ChatEvent, bool) {
	tb.Helper()
	event, first, err := chat.Append(testenv.Context(tb), livestream.NewChatEvent{
		StreamID: stream, Nonce: nonce, Type: livestream.ChatMessage, Body: map[string]string{"text": text},
	})
	require.NoError(tb, err)
	return event, first
}

func ids(events []livestream.ChatEvent) []int64 {
	list := []int64{}
	for _, e := range events {
		list = append(list, e.ID)
	}
	return list
}

// listener records what a node hears.
type listener struct {
	*redis.Subscriber
	mu     sync.Mutex
	heard  map[string][]string // payloads by channel
	resets int
}

func listen(tb testing.TB, client *redis.Client) *listener {
	l := &listener{Subscriber: redis.NewSubscriber(client), heard: map[string][]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx, func(channel, payload string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.heard[channel] = append(l.heard[channel], payload)
		}, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.resets++
		})
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

func (l *listener) on(channel string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.heard[channel]...)
}

func (l *listener) wasReset() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resets
}

// Many nodes write at once: the ids have no gaps, and what is published comes in
// the order of the history.
func TestOrderAndHistoryAgree(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	client := open(t, url)
	chat, other := redis.NewChat(client), redis.NewChat(open(t, url))
	node := listen(t, client)
	require.NoError(t, node.Add(ctx, redis.ChatChannel(stream)))
	const writers, each = 8, 50
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			last := int64(0)
			for i := range each {
				event, first := say(t, []*redis.Chat{chat, other}[w%2], stream, fmt.Sprintf("%d-%d", w, i), "text")
				if !first || event.ID <= last {
					t.Errorf("event %d came after %d, first %v", event.ID, last, first)
				}
				last = event.ID
			}
		})
	}
	running.Wait()
	history, gap, err := chat.Since(ctx, stream, 0)
	require.NoError(t, err)
	require.False(t, gap)
	require.Len(t, history, writers*each)
	for i, e := range history {
		require.Equal(t, int64(i+1), e.ID)
		var body struct {
			ID         int64
			Type, Text string
		}
		require.NoError(t, json.Unmarshal(e.JSON, &body))
		require.Equal(t, e.ID, body.ID)
		require.Equal(t, "message", body.Type)
		require.Equal(t, "text", body.Text)
	}
	channel := redis.ChatChannel(stream)
	require.Eventually(t, func() bool { return len(node.on(channel)) == len(history) }, 10*time.Second, 10*time.Millisecond)
	for i, payload := range node.on(channel) {
		require.Equal(t, string(history[i].JSON), payload)
	}
}

func TestANonceIsSaidOnce(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	client := open(t, url)
	chat, node := redis.NewChat(client), listen(t, client)
	require.NoError(t, node.Add(ctx, redis.ChatChannel(stream)))
	said, first := say(t, chat, stream, "n", "hello")
	require.True(t, first)
	for i := range 1_100 { // more than the history keeps
		say(t, chat, stream, fmt.Sprint(i), "noise")
	}
	again, first := say(t, chat, stream, "n", "another text")
	require.False(t, first)
	require.Equal(t, said, again, "the first one's id and text, even when its history is gone")
	elsewhere, first := say(t, chat, uuid.New(), "n", "hello")
	require.True(t, first, "a nonce is a stream's")
	require.Equal(t, int64(1), elsewhere.ID)
	next, _ := say(t, chat, stream, "m", "last")
	require.Equal(t, int64(1_102), next.ID, "the repetition took no id")
	channel := redis.ChatChannel(stream)
	require.Eventually(t, func() bool { return len(node.on(channel)) == 1_102 }, 10*time.Second, 10*time.Millisecond, "and was not published")
	ttl, err := raw(t, url).TTL(ctx, channel+":nonce:n").Result()
	require.NoError(t, err)
	require.Greater(t, ttl, 5*time.Minute, "for at least 5 minutes")
}

func TestAnEventWithoutANonceIsSaidEachTime(t *testing.T) {
	t.Parallel()
	chat, stream := redis.NewChat(open(t, testenv.Redis(t))), uuid.New()
	for want := range int64(3) {
		event, first := say(t, chat, stream, "", "same")
		require.True(t, first)
		require.Equal(t, want+1, event.ID)
	}
}

func TestSinceAndLast(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	chat := redis.NewChat(open(t, url))
	since := func(id int64) ([]int64, bool) {
		t.Helper()
		events, gap, err := chat.Since(ctx, stream, id)
		require.NoError(t, err)
		return ids(events), gap
	}
	last := func(n int) []int64 {
		t.Helper()
		events, err := chat.Last(ctx, stream, n)
		require.NoError(t, err)
		return ids(events)
	}
	got, gap := since(0)
	require.Empty(t, got)
	require.False(t, gap, "nothing was said: nothing was missed")
	require.Empty(t, last(5))
	for i := range 3 {
		say(t, chat, stream, fmt.Sprint(i), "text")
	}
	got, gap = since(0)
	require.Equal(t, []int64{1, 2, 3}, got)
	require.False(t, gap)
	got, gap = since(2)
	require.Equal(t, []int64{3}, got)
	require.False(t, gap)
	got, gap = since(3)
	require.Empty(t, got)
	require.False(t, gap)
	_, gap = since(4)
	require.True(t, gap, "that has never been")
	require.Equal(t, []int64{2, 3}, last(2))
	require.Equal(t, []int64{1, 2, 3}, last(100))

	for i := range 1_000 {
		say(t, chat, stream, fmt.Sprint("more", i), "text")
	}
	got, gap = since(3)
	require.Len(t, got, 1_000)
	require.False(t, gap, "the history reaches back just so far")
	got, gap = since(2)
	require.Empty(t, got, "all or nothing")
	require.True(t, gap)

	// Redis loses its data.
	require.NoError(t, raw(t, url).FlushDB(ctx).Err())
	_, gap = since(1_003)
	require.True(t, gap)
	event, _ := say(t, chat, stream, "after", "text")
	require.Equal(t, int64(1), event.ID)
	_, gap = since(1_003)
	require.True(t, gap)
	id, err := chat.LastID(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, int64(1), id)
}

func TestOnlyObjectsAreEvents(t *testing.T) {
	t.Parallel()
	chat := redis.NewChat(open(t, testenv.Redis(t)))
	for _, body := range []any{"text", []int{1}, nil, func() {}} {
		_, _, err := chat.Append(testenv.Context(t), livestream.NewChatEvent{StreamID: uuid.New(), Type: livestream.ChatMessage, Body: body})
		require.Error(t, err)
	}
	event, _, err := chat.Append(testenv.Context(t), livestream.NewChatEvent{StreamID: uuid.New(), Type: livestream.ChatTip, Body: struct{}{}})
	require.NoError(t, err)
	require.JSONEq(t, `{"id": 1, "type": "tip"}`, string(event.JSON))
}
