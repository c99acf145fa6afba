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
	l := &listener{Subscriber: redis.NewSubscriber(context.Background(), client), heard: map[string][]string{}}
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

// kept is up to which event a chat is kept elsewhere.
type kept int64

func (k kept) LastID(context.Context, uuid.UUID) (int64, error) { return int64(k), nil }

// Many nodes write at once: the ids have no gaps, and what is published comes in
// the order of the history.
func TestOrderAndHistoryAgree(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	client := open(t, url)
	chat, other := redis.NewChat(client, kept(0)), redis.NewChat(open(t, url), kept(0))
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
	history, _, gap, err := chat.Since(ctx, stream, livestream.ChatPosition{})
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
	chat, node := redis.NewChat(client, kept(0)), listen(t, client)
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
	chat, stream := redis.NewChat(open(t, testenv.Redis(t)), kept(0)), uuid.New()
	for want := range int64(3) {
		event, first := say(t, chat, stream, "", "same")
		require.True(t, first)
		require.Equal(t, want+1, event.ID)
	}
}

func TestSinceAndLast(t *testing.T) {
	t.Parallel()
	url, ctx, stream := testenv.Redis(t), testenv.Context(t), uuid.New()
	chat := redis.NewChat(open(t, url), kept(0))
	since := func(id int64) ([]int64, bool) {
		t.Helper()
		events, _, gap, err := chat.Since(ctx, stream, livestream.ChatPosition{ID: id})
		require.NoError(t, err)
		return ids(events), gap
	}
	last := func(n int) []int64 {
		t.Helper()
		events, err := chat.Last(ctx, stream, 0, n)
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

	at, err := chat.Position(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, int64(1_003), at.ID)
	_, _, wrong, err := chat.Since(ctx, stream, livestream.ChatPosition{Epoch: "another", ID: 1_003})
	require.NoError(t, err)
	require.True(t, wrong, "ids of another epoch say nothing")

	// Redis loses its data: ids go on beyond what is kept elsewhere.
	require.NoError(t, raw(t, url).FlushDB(ctx).Err())
	_, gap = since(1_003)
	require.True(t, gap)
	chat = redis.NewChat(open(t, url), kept(990))
	event, _ := say(t, chat, stream, "after", "text")
	require.Equal(t, int64(1_000_991), event.ID)
	_, gap = since(1_003)
	require.True(t, gap)
	now, err := chat.Position(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, event.ID, now.ID)
	require.NotEqual(t, at.Epoch, now.Epoch)
}

// A server takes over that lacks the last events: whoever knows of them begins an
// epoch, and nobody takes later events for those that were lost.
func TestAnEpochEndsOnce(t *testing.T) {
	t.Parallel()
	ctx, stream := testenv.Context(t), uuid.New()
	chat := redis.NewChat(open(t, testenv.Redis(t)), kept(0))
	say(t, chat, stream, "1", "text")
	was, err := chat.Position(ctx, stream)
	require.NoError(t, err)
	require.NotEmpty(t, was.Epoch)
	known := livestream.ChatPosition{Epoch: was.Epoch, ID: 4}
	require.NoError(t, chat.NewEpoch(ctx, stream, known))
	now, err := chat.Position(ctx, stream)
	require.NoError(t, err)
	require.NotEqual(t, was.Epoch, now.Epoch)
	require.Greater(t, now.ID, int64(4))
	require.NoError(t, chat.NewEpoch(ctx, stream, known), "another node says so too")
	again, err := chat.Position(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, now, again)
	_, _, gap, err := chat.Since(ctx, stream, known)
	require.NoError(t, err)
	require.True(t, gap)
	next, _ := say(t, chat, stream, "2", "text")
	require.Equal(t, now.ID+1, next.ID)
}

// History is claimed, read and noted as saved; what is not finished is claimed again,
// and nothing leaves Redis before it is kept.
func TestHistoryIsClaimedUntilItIsSaved(t *testing.T) {
	t.Parallel()
	ctx, stream := testenv.Context(t), uuid.New()
	chat := redis.NewChat(open(t, testenv.Redis(t)), kept(0))
	for i := range 1_500 { // more than is replayed
		say(t, chat, stream, fmt.Sprint(i), "text")
	}
	claim, err := chat.Claim(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{stream}, claim.Streams)
	other, err := chat.Claim(ctx, 10)
	require.NoError(t, err)
	require.Empty(t, other.Streams, "it is claimed")
	unsaved, err := chat.Unsaved(ctx, claim, 1_000)
	require.NoError(t, err)
	require.Len(t, unsaved[stream], 1_000)
	require.Equal(t, int64(1), unsaved[stream][0].ID)
	require.NoError(t, chat.Saved(ctx, claim, map[uuid.UUID]int64{stream: 1_000}, map[uuid.UUID]bool{stream: true}))

	claim, err = chat.Claim(ctx, 10)
	require.NoError(t, err)
	unsaved, err = chat.Unsaved(ctx, claim, 1_000)
	require.NoError(t, err)
	require.Len(t, unsaved[stream], 500)
	say(t, chat, stream, "late", "while it is written")
	require.NoError(t, chat.Saved(ctx, claim, map[uuid.UUID]int64{stream: 1_500}, nil))
	claim, err = chat.Claim(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{stream}, claim.Streams, "what was said meanwhile")
	unsaved, err = chat.Unsaved(ctx, claim, 1_000)
	require.NoError(t, err)
	require.Len(t, unsaved[stream], 1)
	require.NoError(t, chat.Saved(ctx, claim, map[uuid.UUID]int64{stream: 1_501}, nil))
	claim, err = chat.Claim(ctx, 10)
	require.NoError(t, err)
	require.Empty(t, claim.Streams)
	say(t, chat, stream, "last", "text")
	events, err := chat.Last(ctx, stream, 0, 5_000)
	require.NoError(t, err)
	require.Len(t, events, 1_000, "what is kept elsewhere leaves")
}

// Pace is one member's in one chat, on whatever node they write.
func TestPace(t *testing.T) {
	t.Parallel()
	ctx, url, stream := testenv.Context(t), testenv.Redis(t), uuid.New()
	nodes := []*redis.Chat{redis.NewChat(open(t, url), kept(0)), redis.NewChat(open(t, url), kept(0))}
	write := func(node int, stream uuid.UUID, pace livestream.ChatPace) *livestream.ChatTooFast {
		t.Helper()
		_, _, err := nodes[node].Append(ctx, livestream.NewChatEvent{StreamID: stream, Type: livestream.ChatMessage, Body: struct{}{}, Pace: &pace})
		var tooFast *livestream.ChatTooFast
		if err != nil {
			require.ErrorAs(t, err, &tooFast)
		}
		return tooFast
	}
	ada, bob := uuid.New(), uuid.New()
	few := livestream.ChatPace{UserID: ada, Every: time.Minute, Burst: 2}
	require.Nil(t, write(0, stream, few))
	require.Nil(t, write(1, stream, few))
	refused := write(0, stream, few)
	require.NotNil(t, refused)
	require.False(t, refused.Slow)
	require.Greater(t, refused.RetryAfter, 50*time.Second)
	require.LessOrEqual(t, refused.RetryAfter, time.Minute)
	require.Nil(t, write(0, uuid.New(), few), "elsewhere they may")
	slow := livestream.ChatPace{UserID: bob, Slow: 30 * time.Second}
	require.Nil(t, write(0, stream, slow))
	refused = write(1, stream, slow)
	require.NotNil(t, refused)
	require.True(t, refused.Slow)
	require.Greater(t, refused.RetryAfter, 20*time.Second)
	require.Nil(t, write(1, stream, livestream.ChatPace{UserID: bob}), "slow mode was switched off")
}

func TestOnlyObjectsAreEvents(t *testing.T) {
	t.Parallel()
	chat := redis.NewChat(open(t, testenv.Redis(t)), kept(0))
	for _, body := range []any{"text", []int{1}, nil, func() {}} {
		_, _, err := chat.Append(testenv.Context(t), livestream.NewChatEvent{StreamID: uuid.New(), Type: livestream.ChatMessage, Body: body})
		require.Error(t, err)
	}
	event, _, err := chat.Append(testenv.Context(t), livestream.NewChatEvent{StreamID: uuid.New(), Type: livestream.ChatTip, Body: struct{}{}})
	require.NoError(t, err)
	require.JSONEq(t, `{"id": 1, "type": "tip"}`, string(event.JSON))
}
