package chat_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/chat"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// N3: what is said on one node arrives on the other, everywhere in one order.
func TestTwoNodesServeOneStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node(t, fast), w.node(t, fast)
	stream := w.stream(t)
	owner, err := w.users.ByID(w.ctx, stream.UserID)
	require.NoError(t, err)
	ada := w.member(t)
	readers := []*socket{w.chat(t, a, stream.ID, nil), w.chat(t, b, stream.ID, nil)}
	writers := []*socket{w.chat(t, a, stream.ID, ada), w.chat(t, b, stream.ID, w.login(t, owner))}
	require.Equal(t, map[string]any{"slow_mode_seconds": 0.0, "followers_only": false, "follower_min_age_seconds": 0.0}, readers[0].welcome.Settings)

	writers[0].say("  hello\u0301 ", "n-1")
	for _, s := range append(readers, writers...) {
		m := s.message()
		require.Equal(t, int64(1), m.ID)
		require.Equal(t, "hell\u00f3", m.Text, "normalised, without blanks around it")
		require.Equal(t, "n-1", m.Nonce)
		require.Equal(t, ada.ID, m.User.ID)
		require.Equal(t, ada.Username, m.User.Username)
		require.Equal(t, ada.DisplayName, m.User.DisplayName)
		require.Empty(t, m.User.Roles)
		require.WithinDuration(t, time.Now(), m.SentAt, time.Minute)
	}
	writers[1].say("<script>alert(1)</script>", "")
	for _, s := range append(readers, writers...) {
		m := s.message()
		require.Equal(t, "<script>alert(1)</script>", m.Text, "text is data")
		require.Equal(t, []string{"owner"}, m.User.Roles)
	}

	const each = 200
	var running sync.WaitGroup
	for i, s := range writers {
		running.Go(func() {
			for n := range each {
				s.say(fmt.Sprintf("%d-%d", i, n), fmt.Sprint(n))
			}
		})
	}
	running.Wait()
	want := readers[0].texts(2, 2*each)
	for _, s := range append(readers[1:], writers...) {
		require.Equal(t, want, s.texts(2, 2*each))
	}
	next := [2]int{}
	for _, text := range want {
		writer, number, _ := strings.Cut(text, "-")
		i, _ := strconv.Atoi(writer)
		require.Equal(t, strconv.Itoa(next[i]), number, "each one's own order is kept")
		next[i]++
	}
}

// M3: a client that comes back gets exactly what it missed.
func TestComingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node(t, fast), w.node(t, fast)
	stream := w.stream(t).ID
	w.append(t, stream, numbers(1, 5)...)

	plain := w.chat(t, a, stream, nil)
	require.Equal(t, welcome{ConnectionID: plain.welcome.ConnectionID, ResumeFrom: 5, Epoch: plain.welcome.Epoch, Settings: plain.welcome.Settings}, plain.welcome, "joining replays nothing")
	last := w.chat(t, a, stream, nil, "last", "2")
	require.False(t, last.welcome.Gap)
	require.Equal(t, int64(3), last.welcome.ResumeFrom)
	require.Equal(t, []string{"4", "5"}, last.texts(3, 2))
	all := w.chat(t, b, stream, nil, "last", "100")
	require.Equal(t, numbers(1, 5), all.texts(0, 5))
	back := w.chat(t, b, stream, nil, "since", "2")
	require.True(t, back.welcome.Recovered)
	require.False(t, back.welcome.Gap)
	require.Equal(t, int64(2), back.welcome.ResumeFrom)
	require.Equal(t, numbers(3, 3), back.texts(2, 3))
	current := w.chat(t, a, stream, nil, "since", "5")
	require.True(t, current.welcome.Recovered)
	start := w.chat(t, a, stream, nil, "since", "0")
	require.True(t, start.welcome.Recovered)
	require.Equal(t, numbers(1, 5), start.texts(0, 5))
	never := w.chat(t, a, stream, nil, "since", "77")
	require.True(t, never.welcome.Gap)
	require.False(t, never.welcome.Recovered)
	require.Equal(t, int64(5), never.welcome.ResumeFrom)

	w.append(t, stream, "6")
	for _, s := range []*socket{plain, last, all, back, current, start, never} {
		require.Equal(t, []string{"6"}, s.texts(5, 1), "and goes on without a seam")
	}

	w.append(t, stream, numbers(7, 1_010)...)
	gap := w.chat(t, b, stream, nil, "since", "5")
	require.True(t, gap.welcome.Gap, "that is no longer kept")
	require.False(t, gap.welcome.Recovered)
	from := int(gap.welcome.ResumeFrom) // as far as this node has come
	require.LessOrEqual(t, from, 1_016)
	w.append(t, stream, "on")
	require.Equal(t, append(numbers(from+1, 1_016-from), "on"), gap.texts(int64(from), 1_017-from))
}

// Whenever somebody joins or leaves while others talk, the ids that they see have
// no holes and come once.
func TestJoiningWhileOthersTalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := []*node{w.node(t, chat.Config{FlushInterval: time.Millisecond}), w.node(t, chat.Config{FlushInterval: time.Millisecond})}
	stream := w.stream(t).ID
	w.append(t, stream, "first")
	ctx, cancel := context.WithCancel(w.ctx)
	var talking, joining sync.WaitGroup
	talking.Go(func() {
		pace := time.NewTicker(4 * time.Millisecond) // the history must reach back a few rounds
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			w.append(t, stream, "talk")
		}
	})
	for i := range 12 {
		joining.Go(func() {
			since := int64(0)
			for round := range 12 {
				query := [][]string{{"since", fmt.Sprint(since)}, {"last", "3"}, nil}[(round*i)%3]
				s := w.chat(t, nodes[(i+round)%2], stream, nil, query...)
				if s.welcome.Gap {
					t.Errorf("gap after %d", since)
				}
				last := s.welcome.ResumeFrom
				for range 20 {
					m := s.message()
					if m.ID != last+1 {
						t.Errorf("event %d came after %d, joined with %v", m.ID, last, query)
					}
					last = m.ID
				}
				since = last
				_ = s.Close()
			}
		})
	}
	joining.Wait()
	cancel()
	talking.Wait()
}

func TestANonceMakesAResendHarmless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node(t, fast), w.node(t, fast)
	stream, ada, bob := w.stream(t).ID, w.member(t), w.member(t)
	viewer, other := w.chat(t, b, stream, nil), w.chat(t, b, stream, bob)
	first := w.chat(t, a, stream, ada)
	first.say("once", "n")
	said := first.message()
	_ = first.Close()
	again := w.chat(t, b, stream, ada, "since", fmt.Sprint(said.ID))
	again.say("once", "n")
	require.Equal(t, said, again.message(), "the asker gets the first event again")
	other.say("once", "n")
	require.Equal(t, said, other.message())
	require.Equal(t, said.ID+1, other.message().ID, "another's nonce is another one")
	require.Equal(t, []string{"once", "once"}, viewer.texts(0, 2), "others see each once")
}

func TestWhatMayNotBeSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t).ID
	ticket := w.ticket(t, w.member(t), livestream.TicketChat, stream)
	raw := rawDial(t, websocket.Dialer{}, n.address("/ws/streams/"+stream.String()+"/chat", url.Values{"ticket": {ticket}}), nil)
	read := func() (event refusal) {
		t.Helper()
		var frame struct{ Events []refusal }
		require.NoError(t, raw.SetReadDeadline(time.Now().Add(patience)))
		require.NoError(t, raw.ReadJSON(&frame))
		require.Len(t, frame.Events, 1)
		return frame.Events[0]
	}
	read() // the welcome
	for frame, want := range map[string]refusal{
		`{"type":"message","text":"` + strings.Repeat("x", 501) + `","nonce":"n"}`: {Code: "too_long", Nonce: "n"},
		`{"type":"message","text":"","nonce":"n"}`:                                 {Code: "empty", Nonce: "n"},
		`{"type":"message","text":" \t\n ","nonce":"n"}`:                           {Code: "empty", Nonce: "n"},
		`{"type":"message","nonce":"n"}`:                                           {Code: "empty", Nonce: "n"},
		`{"type":"message","text":"a\u0000b","nonce":"n"}`:                         {Code: "malformed", Nonce: "n"},
		`{"type":"message","text":"\ud800","nonce":"n"}`:                           {Code: "malformed", Nonce: "n"},
		`{"type":"ban","text":"x","nonce":"n"}`:                                    {Code: "malformed", Nonce: "n"},
		`{"type":"message","text":"x","nonce":"` + strings.Repeat("n", 65) + `"}`:  {Code: "malformed"},
		`{"type":"message","text":"x","roles":["owner"]}`:                          {Code: "malformed"},
		`{"type":"message","text":"x"}}`:                                           {Code: "malformed"},
		`{"type":"message","text":"x"} {}`:                                         {Code: "malformed"},
		`{"type":"message","text":7}`:                                              {Code: "malformed"},
		`[]`:                                                                       {Code: "malformed"},
		`null`:                                                                     {Code: "malformed"},
		``:                                                                         {Code: "malformed"},
		`hello`:                                                                    {Code: "malformed"},
		"\"\xff":                                                                   {Code: "malformed"},
	} {
		require.NoError(t, raw.WriteMessage(websocket.TextMessage, []byte(frame)))
		got := read()
		require.Equal(t, want.Code, got.Code, frame)
		require.Equal(t, want.Nonce, got.Nonce, frame)
		require.Zero(t, got.RetryAfter, frame)
	}
	require.NoError(t, raw.WriteMessage(websocket.BinaryMessage, []byte(`{"type":"message","text":"x"}`)))
	require.Equal(t, "malformed", read().Code, "frames are text")

	s := w.chat(t, n, stream, w.member(t))
	require.Zero(t, s.welcome.ResumeFrom, "nothing of it was said")
	long := strings.Repeat("\U0001f600", 500)
	s.say(long, "")
	require.Equal(t, long, s.message().Text, "characters are counted, not bytes")

	viewer := w.chat(t, n, stream, nil)
	viewer.say("hello", "n")
	got := viewer.refusal()
	require.Equal(t, "read_only", got.Code)
	require.Equal(t, "n", got.Nonce)
	inbox := w.inbox(t, n, w.member(t))
	inbox.say("hello", "n")
	require.Equal(t, "read_only", inbox.refusal().Code)
}

func TestAFrameThatIsTooLargeEndsTheConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	s := w.chat(t, n, w.stream(t).ID, w.member(t))
	s.say(strings.Repeat("x", 9<<10), "")
	require.True(t, websocket.IsCloseError(asClose(s.closed().err), websocket.CloseMessageTooBig))
}

func TestWritingTooFast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, chat.Config{MessagesPerSecond: 0.4}) // with a burst of 2
	stream := w.stream(t).ID
	s, other := w.chat(t, n, stream, w.member(t)), w.chat(t, n, stream, w.member(t))
	s.say("1", "a")
	s.say("2", "b")
	require.Equal(t, []string{"1", "2"}, s.texts(0, 2))
	s.say("3", "c")
	got := s.refusal()
	require.Equal(t, "rate_limited", got.Code)
	require.Equal(t, "c", got.Nonce)
	require.Greater(t, got.RetryAfter, 0.0)
	require.LessOrEqual(t, got.RetryAfter, 2.5)
	require.NoError(t, s.Send(w.ctx, "rubbish"))
	require.Equal(t, "rate_limited", s.refusal().Code, "rubbish counts too")
	other.say("4", "")
	require.Equal(t, []string{"1", "2", "4"}, other.texts(0, 3), "others may")
	require.Eventually(t, func() bool {
		s.say("5", "")
		event := s.next()
		for event.Type == "message" && !strings.Contains(string(event.JSON), `"5"`) {
			event = s.next()
		}
		return event.Type == "message"
	}, patience, 500*time.Millisecond, "later it may again")
}

func TestAnEndedStreamIsReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t).ID
	s := w.chat(t, n, stream, w.member(t))
	s.say("before", "")
	s.message()
	_, err := w.streams.Finish(w.ctx, stream, time.Now(), 0, 0)
	require.NoError(t, err)
	_, _, err = w.events.Append(w.ctx, livestream.NewChatEvent{
		StreamID: stream, Nonce: "ended", Type: livestream.ChatStreamStatus, Body: livestream.ChatStreamBody{Status: livestream.StreamEnded},
	})
	require.NoError(t, err)
	event := s.next()
	require.Equal(t, "stream", event.Type)
	require.Equal(t, int64(2), event.ID)
	require.JSONEq(t, `{"id": 2, "type": "stream", "status": "ended"}`, string(event.JSON))
	s.say("after", "n")
	require.Equal(t, "read_only", s.refusal().Code)
	late := w.chat(t, w.node(t, fast), stream, w.member(t), "last", "10")
	require.Equal(t, int64(1), late.message().ID, "it can still be read")
	require.Equal(t, "stream", late.next().Type)
	late.say("after", "n")
	require.Equal(t, "read_only", late.refusal().Code)
}

// Redis is cut off and comes back: connections stay, senders are told, and nothing
// that was said meanwhile is missing.
func TestACutLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	cut, whole := w.nodeAt(t, fast, redisURL, nil), w.node(t, fast)
	stream, ada := w.stream(t).ID, w.member(t)
	viewers := []*socket{w.chat(t, cut, stream, nil), w.chat(t, cut, stream, ada), w.chat(t, whole, stream, nil)}
	w.append(t, stream, "1")
	for _, s := range viewers {
		require.Equal(t, []string{"1"}, s.texts(0, 1))
	}
	proxy.Cut()
	viewers[1].say("lost?", "n")
	got := viewers[1].refusal()
	require.Equal(t, "unavailable", got.Code)
	require.Equal(t, "n", got.Nonce)
	require.Greater(t, got.RetryAfter, 0.0)
	w.append(t, stream, numbers(2, 700)...) // more than a room keeps for itself
	proxy.Restore()
	for _, s := range viewers {
		require.Equal(t, numbers(2, 700), s.texts(1, 700))
	}
	viewers[1].say("not lost", "n")
	for _, s := range viewers {
		require.Equal(t, []string{"not lost"}, s.texts(701, 1))
	}
}

// An event that a node did not hear is read from the history when the next one
// comes.
func TestAnEventThatWasNotHeardIsNotMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t).ID
	viewer := w.chat(t, n, stream, nil)
	w.append(t, stream, "1")
	options, err := driver.ParseURL(w.redisURL)
	require.NoError(t, err)
	operator := driver.NewClient(options)
	defer operator.Close()
	channel := "chat:{" + stream.String() + "}"
	require.NoError(t, operator.Incr(w.ctx, channel+":id").Err())
	require.NoError(t, operator.XAdd(w.ctx, &driver.XAddArgs{
		Stream: channel + ":history", ID: "2-0", Values: []string{"e", `{"id":2,"type":"message","text":"2"}`},
	}).Err())
	w.append(t, stream, "3")
	require.Equal(t, numbers(1, 3), viewer.texts(0, 3))
}

// Redis comes back without its data: viewers are told that they may have missed
// something, and the chat goes on.
func TestARedisThatLosesItsData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	n := w.nodeAt(t, fast, redisURL, nil)
	stream := w.stream(t).ID
	viewer := w.chat(t, n, stream, nil)
	w.append(t, stream, numbers(1, 20)...)
	viewer.texts(0, 20)
	proxy.Cut()
	options, err := driver.ParseURL(w.redisURL)
	require.NoError(t, err)
	operator := driver.NewClient(options)
	defer operator.Close()
	require.NoError(t, operator.FlushDB(w.ctx).Err())
	w.append(t, stream, "new")
	proxy.Restore()
	bye := viewer.closed()
	require.Equal(t, "resync", bye.Code)
	require.True(t, websocket.IsCloseError(asClose(bye.err), 4001), "%v", bye.err)
	back := w.chat(t, n, stream, nil, "since", "20")
	require.True(t, back.welcome.Gap)
	require.Equal(t, int64(1), back.welcome.ResumeFrom)
	w.append(t, stream, "newer")
	require.Equal(t, []string{"newer"}, back.texts(1, 1))
}

// A client that does not read is closed with a code that says to come back, and
// what it then read has no holes.
func TestASlowReaderComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.nodeAt(t, chat.Config{FlushInterval: time.Nanosecond}, w.redisURL, func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
	})
	stream := w.stream(t).ID
	dialer := websocket.Dialer{NetDial: func(network, address string) (net.Conn, error) {
		d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
		}}
		return d.Dial(network, address)
	}}
	conn := rawDial(t, dialer, n.address("/ws/streams/"+stream.String()+"/chat", nil), nil)
	quick := w.chat(t, w.node(t, fast), stream, nil)
	const messages = 900
	text := strings.Repeat("x", 500)
	for range messages {
		w.append(t, stream, text)
	}
	quick.texts(0, messages)
	var err error
	last, byes := int64(0), 0
	for err == nil {
		var frame struct {
			Events []struct {
				ID   int64
				Type string
				Code string
			}
		}
		if err = conn.ReadJSON(&frame); err != nil {
			break
		}
		for _, e := range frame.Events {
			switch e.Type {
			case "message":
				require.Equal(t, last+1, e.ID)
				last = e.ID
			case "bye":
				require.Equal(t, "too_slow", e.Code)
				byes++
			}
		}
	}
	require.True(t, websocket.IsCloseError(err, 4001), "%v", err)
	require.Equal(t, 1, byes)
	require.Less(t, last, int64(messages))
	back := w.chat(t, n, stream, nil, "since", fmt.Sprint(last))
	require.True(t, back.welcome.Recovered)
	back.texts(last, messages-int(last))
}

// S1: exact over two nodes, a member once a node, fresh within moments.
func TestViewersAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node(t, fast), w.node(t, fast)
	stream, ada := w.stream(t).ID, w.member(t)
	counted := func(want int64) {
		t.Helper()
		require.Eventually(t, func() bool {
			counts, err := w.presence.Viewers(w.ctx, stream)
			return err == nil && counts[stream] == want
		}, patience, 50*time.Millisecond, "%d viewers", want)
	}
	first := w.chat(t, a, stream, nil)
	counted(1)
	others := []*socket{w.chat(t, a, stream, nil), w.chat(t, a, stream, ada), w.chat(t, a, stream, ada), w.chat(t, b, stream, nil)}
	counted(4)
	told := make(chan int64, 100)
	go func() {
		defer close(told)
		for {
			event, err := first.Next(w.ctx)
			var body struct{ Count int64 }
			if err != nil || event.Decode(&body) != nil {
				return
			}
			if event.Type == "viewer_count" && event.ID == 0 {
				told <- body.Count
			}
		}
	}()
	deadline := time.After(patience)
	for count := int64(0); count != 4; {
		select {
		case count = <-told:
		case <-deadline:
			t.Fatal("viewers were not told")
		}
	}
	for _, s := range others {
		_ = s.Close()
	}
	counted(1)
	b.stop()
	a.stop()
	counted(0)
	peak, err := w.presence.Peak(w.ctx, stream)
	require.NoError(t, err)
	require.Equal(t, int64(4), peak)
}

// A node hears only the streams that it has viewers of.
func TestANodeLeavesAStreamWithItsLastViewer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t).ID
	options, err := driver.ParseURL(w.redisURL)
	require.NoError(t, err)
	operator := driver.NewClient(options)
	defer operator.Close()
	channel := "chat:{" + stream.String() + "}"
	listeners := func() int64 { return operator.PubSubShardNumSub(w.ctx, channel).Val()[channel] }
	require.Zero(t, listeners())
	for range 20 {
		s, other := w.chat(t, n, stream, nil), w.chat(t, n, stream, nil)
		require.Equal(t, int64(1), listeners())
		_ = s.Close()
		_ = other.Close()
	}
	require.Eventually(t, func() bool { return listeners() == 0 }, patience, 20*time.Millisecond)
}
