package chat_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/chat"
	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

type problem struct {
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Instance  string `json:"instance"`
	RequestID string `json:"request_id"`

	retryAfter string
}

// refused opens a WebSocket that must not open.
func refused(tb testing.TB, address string, header http.Header) problem {
	tb.Helper()
	conn, response, err := websocket.DefaultDialer.Dial(address, header)
	if err == nil {
		conn.Close()
	}
	require.ErrorIs(tb, err, websocket.ErrBadHandshake)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(tb, err)
	var p problem
	require.NoError(tb, json.Unmarshal(content, &p), string(content))
	require.Equal(tb, "application/problem+json", response.Header.Get("Content-Type"))
	require.Equal(tb, response.StatusCode, p.Status)
	require.NotEmpty(tb, p.Title)
	require.NotEmpty(tb, p.Detail)
	require.NotEmpty(tb, p.RequestID)
	require.Equal(tb, response.Header.Get("X-Request-ID"), p.RequestID)
	u, err := url.Parse(address)
	require.NoError(tb, err)
	require.Equal(tb, u.Path, p.Instance)
	p.retryAfter = response.Header.Get("Retry-After")
	return p
}

// rawDial is a connection below what the client knows.
func rawDial(tb testing.TB, dialer websocket.Dialer, address string, header http.Header) *websocket.Conn {
	tb.Helper()
	conn, response, err := dialer.Dial(address, header)
	require.NoError(tb, err)
	response.Body.Close()
	tb.Cleanup(func() { conn.Close() })
	return conn
}

func TestPagesOfOtherSitesMayNotConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, chat.Config{AllowedOrigins: []string{"https://live.example", "http://localhost:3000"}})
	member, stream := w.member(t), w.stream(t)
	for _, origins := range [][]string{
		{"null"}, {""}, {"https://evil.example"}, {"http://live.example"}, {"https://live.example:8443"}, {"https://live.example.evil.example"},
		{"https://live.example", "https://live.example"}, {"https://live.example", "https://evil.example"}, {"https://live.example/"}, {n.http.URL},
	} {
		header := http.Header{"Origin": origins}
		p := refused(t, n.address("/ws/streams/"+stream.ID.String()+"/chat", nil), header)
		require.Equal(t, 403, p.Status, origins)
		require.Equal(t, "origin_not_allowed", p.Code)
		ticket := w.ticket(t, member, livestream.TicketNotifications, uuid.Nil)
		p = refused(t, n.address("/ws/notifications", url.Values{"ticket": {ticket}}), header)
		require.Equal(t, 403, p.Status, origins)
	}
	for _, header := range []http.Header{nil, {"Origin": {"https://live.example"}}, {"Origin": {"http://localhost:3000"}}} {
		dialer := websocket.Dialer{Subprotocols: []string{"livestream.v1"}}
		conn := rawDial(t, dialer, n.address("/ws/streams/"+stream.ID.String()+"/chat", nil), header)
		require.Equal(t, "livestream.v1", conn.Subprotocol())
	}
}

func TestABadTicketFailsTheUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, other := w.node(t, fast), w.node(t, fast)
	member, stream, elsewhere := w.member(t), w.stream(t), w.stream(t)
	room, inbox := "/ws/streams/"+stream.ID.String()+"/chat", "/ws/notifications"
	used := w.ticket(t, member, livestream.TicketChat, stream.ID)
	w.dial(t, other.address(room, url.Values{"ticket": {used}}))
	usedInbox := w.ticket(t, member, livestream.TicketNotifications, uuid.Nil)
	w.dial(t, other.address(inbox, url.Values{"ticket": {usedInbox}}))
	gone := w.login(t, member.User)
	w.logout(t, gone)
	for name, c := range map[string]struct{ path, ticket string }{
		"unknown":                        {room, "guessed"},
		"empty":                          {room, ""},
		"used":                           {room, used},
		"another stream's":               {room, w.ticket(t, member, livestream.TicketChat, elsewhere.ID)},
		"for notifications":              {room, w.ticket(t, member, livestream.TicketNotifications, uuid.Nil)},
		"of a login that ended":          {room, w.ticket(t, gone, livestream.TicketChat, stream.ID)},
		"unknown, inbox":                 {inbox, "guessed"},
		"empty, inbox":                   {inbox, ""},
		"used, inbox":                    {inbox, usedInbox},
		"for a chat, inbox":              {inbox, w.ticket(t, member, livestream.TicketChat, stream.ID)},
		"of a login that ended, inbox":   {inbox, w.ticket(t, gone, livestream.TicketNotifications, uuid.Nil)},
		"the wrong one is used up by it": {room, w.ticket(t, member, livestream.TicketNotifications, uuid.Nil)},
	} {
		p := refused(t, n.address(c.path, url.Values{"ticket": {c.ticket}}), nil)
		require.Equal(t, 401, p.Status, name)
		require.Equal(t, "invalid_ticket", p.Code, name)
	}
	p := refused(t, n.address(inbox, nil), nil)
	require.Equal(t, 401, p.Status, "an inbox needs a ticket")
	foreign := w.ticket(t, member, livestream.TicketChat, elsewhere.ID)
	refused(t, n.address(room, url.Values{"ticket": {foreign}}), nil)
	p = refused(t, n.address("/ws/streams/"+elsewhere.ID.String()+"/chat", url.Values{"ticket": {foreign}}), nil)
	require.Equal(t, 401, p.Status, "one use, wherever it was")
}

func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := "/ws/streams/" + w.stream(t).ID.String() + "/chat"
	for address, want := range map[string]problem{
		n.address("/ws/streams/"+uuid.NewString()+"/chat", nil):                     {Status: 404, Code: "stream_not_found"},
		n.address("/ws/streams/none/chat", nil):                                     {Status: 400, Code: "invalid_request"},
		n.address("/ws/streams/urn:uuid:"+uuid.NewString()+"/chat", nil):            {Status: 400, Code: "invalid_request"},
		n.address(stream, url.Values{"since": {"x"}}):                               {Status: 400, Code: "invalid_request"},
		n.address(stream, url.Values{"since": {""}}):                                {Status: 400, Code: "invalid_request"},
		n.address(stream, url.Values{"since": {"-1"}}):                              {Status: 400, Code: "invalid_request"},
		n.address(stream, url.Values{"since": {"1.5"}}):                             {Status: 400, Code: "invalid_request"},
		n.address(stream, url.Values{"since": {"99999999999999999999"}}):            {Status: 400, Code: "invalid_request"},
		n.address(stream, url.Values{"last": {"101"}}):                              {Status: 400, Code: "invalid_request"},
		n.address(stream, url.Values{"last": {"-1"}}):                               {Status: 400, Code: "invalid_request"},
		n.address("/ws/notifications", url.Values{"since": {"x"}, "ticket": {"x"}}): {Status: 400, Code: "invalid_request"},
		n.address("/ws/none", nil):                                                  {Status: 404, Code: "not_found"},
	} {
		p := refused(t, address, nil)
		require.Equal(t, want.Status, p.Status, address)
		require.Equal(t, want.Code, p.Code, address)
	}
	response, err := http.Get(n.http.URL + stream)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusUpgradeRequired, response.StatusCode)

	header := http.Header{"X-Request-Id": {"mine-1"}}
	p := refused(t, n.address("/ws/none", nil), header)
	require.Equal(t, "mine-1", p.RequestID)
}

func TestARoomThatRestsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := chat.New(chat.Config{FlushInterval: 101 * time.Millisecond}, w.deps(t, w.redisURL, w.db, prometheus.NewRegistry()))
	require.ErrorContains(t, err, "100ms")
}

func TestANodeIsFullAtItsLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, chat.Config{MaxConnections: 2})
	stream := w.stream(t).ID
	first := w.chat(t, n, stream, nil)
	w.chat(t, n, stream, nil)
	p := refused(t, n.address("/ws/streams/"+stream.String()+"/chat", nil), nil)
	require.Equal(t, 503, p.Status)
	require.Equal(t, "unavailable", p.Code)
	require.NotEmpty(t, p.retryAfter)
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool {
		opened, err := client.Dial(w.ctx, n.address("/ws/streams/"+stream.String()+"/chat", nil))
		if err != nil {
			return false
		}
		_ = opened.Close()
		return true
	}, patience, 20*time.Millisecond, "who leaves makes room")
}

func TestALogoutClosesWhatItsLoginOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node(t, fast), w.node(t, fast)
	stream, member := w.stream(t).ID, w.member(t)
	other := w.login(t, member.User)
	closing := []*socket{w.chat(t, a, stream, member), w.chat(t, b, stream, member), w.inbox(t, a, member), w.inbox(t, b, member)}
	staying := w.chat(t, a, stream, other)
	viewer := w.chat(t, b, stream, nil)
	w.logout(t, member)
	for _, s := range closing {
		bye := s.closed()
		require.Equal(t, "logged_out", bye.Code)
		require.True(t, websocket.IsCloseError(asClose(bye.err), 4003), "%v", bye.err)
	}
	staying.say("still here", "")
	require.Equal(t, "still here", staying.message().Text, "another login of the same member stays")
	require.Equal(t, "still here", viewer.message().Text)
}

// A logout that a node cannot hear is made up for when it hears again.
func TestALogoutDuringACutClosesToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	n := w.nodeAt(t, fast, redisURL, nil)
	stream, member := w.stream(t).ID, w.member(t)
	leaving, staying := w.chat(t, n, stream, member), w.chat(t, n, stream, w.member(t))
	proxy.Cut()
	w.logout(t, member)
	proxy.Restore()
	require.Equal(t, "logged_out", leaving.closed().Code)
	staying.say("still here", "")
	require.Equal(t, "still here", staying.message().Text)
}

func asClose(err error) error {
	for {
		if _, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // it is unwrapped here
			return err
		}
		wrapped, ok := err.(interface{ Unwrap() error }) //nolint:errorlint // as above
		if !ok {
			return err
		}
		err = wrapped.Unwrap()
	}
}

// M5: a drain refuses new connections, says when to come back, closes, and ends.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, other := w.node(t, fast), w.node(t, fast)
	stream := w.stream(t).ID
	var leaving []*socket
	for range 10 {
		leaving = append(leaving, w.chat(t, n, stream, nil), w.inbox(t, n, w.member(t)))
	}
	staying := w.chat(t, other, stream, w.member(t))
	require.Equal(t, http.StatusOK, status(t, n, "/health"))
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		n.Drain(w.ctx)
	}()
	after := map[int64]bool{}
	for _, s := range leaving {
		bye := s.closed()
		require.Equal(t, "draining", bye.Code)
		require.GreaterOrEqual(t, bye.ReconnectAfterMS, int64(1_000))
		require.Less(t, bye.ReconnectAfterMS, int64(10_000))
		require.True(t, websocket.IsCloseError(asClose(bye.err), websocket.CloseGoingAway), "%v", bye.err)
		after[bye.ReconnectAfterMS] = true
	}
	require.Greater(t, len(after), 10, "they do not come back at once")
	select {
	case <-drained:
	case <-time.After(patience):
		t.Fatal("the drain does not end")
	}
	require.Equal(t, http.StatusServiceUnavailable, status(t, n, "/health"))
	p := refused(t, n.address("/ws/streams/"+stream.String()+"/chat", nil), nil)
	require.Equal(t, 503, p.Status)
	require.NotEmpty(t, p.retryAfter)
	staying.say("the other node goes on", "")
	staying.message()
}

// A client that hangs does not hold up a drain for longer than it may last.
func TestADrainEndsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	rawDial(t, websocket.Dialer{}, n.address("/ws/streams/"+w.stream(t).ID.String()+"/chat", nil), nil)
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	n.Drain(ctx)
}

func status(tb testing.TB, n *node, path string) int {
	tb.Helper()
	response, err := http.Get(n.http.URL + path)
	require.NoError(tb, err)
	defer response.Body.Close()
	return response.StatusCode
}

func TestReadyTellsOfEachDependency(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	n := w.nodeAt(t, fast, redisURL, nil)
	read := func() (int, string, map[string]string) {
		response, err := http.Get(n.http.URL + "/ready")
		require.NoError(t, err)
		defer response.Body.Close()
		var out struct {
			Status string
			Checks map[string]struct {
				Status    string
				LatencyMS *float64 `json:"latency_ms"`
			}
		}
		require.NoError(t, json.NewDecoder(response.Body).Decode(&out))
		checks := map[string]string{}
		for name, c := range out.Checks {
			require.NotNil(t, c.LatencyMS)
			checks[name] = c.Status
		}
		return response.StatusCode, out.Status, checks
	}
	code, state, checks := read()
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok", state)
	require.Equal(t, map[string]string{"postgres": "ok", "redis": "ok"}, checks)
	proxy.Cut()
	code, state, checks = read()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "down", state)
	require.Equal(t, map[string]string{"postgres": "ok", "redis": "down"}, checks)
	require.Equal(t, http.StatusOK, status(t, n, "/health"), "it lives")

	p := refused(t, n.address("/ws/streams/"+w.stream(t).ID.String()+"/chat", nil), nil)
	require.Equal(t, 503, p.Status)
	require.NotEmpty(t, p.retryAfter)
	require.False(t, strings.ContainsAny(p.Detail, ":/"), "no host is named: %s", p.Detail)
}

// Connections that close leave nothing behind. It runs alone, because it counts
// the goroutines of the process.
func TestNothingLeaks(t *testing.T) {
	w := newWorld(t)
	n := w.node(t, fast)
	members := []*member{w.member(t), w.member(t)}
	var streams []uuid.UUID
	for range 4 {
		streams = append(streams, w.stream(t).ID)
	}
	open := func(count int) {
		var running sync.WaitGroup
		for i := range count {
			address := n.address("/ws/streams/"+streams[i%4].String()+"/chat", nil)
			if i%5 == 0 {
				ticket := w.ticket(t, members[i%2], livestream.TicketNotifications, uuid.Nil)
				address = n.address("/ws/notifications", url.Values{"ticket": {ticket}})
			}
			running.Go(func() {
				s, err := client.Dial(w.ctx, address)
				if err != nil {
					t.Error(err)
					return
				}
				if i%3 > 0 { // some leave before they were welcomed
					if _, err := s.Next(w.ctx); err != nil {
						t.Error(err)
					}
				}
				_ = s.Close()
			})
		}
		running.Wait()
	}
	open(20) // pools and caches fill up
	settled := func(limit int) func() bool {
		return func() bool { return runtime.NumGoroutine() <= limit }
	}
	var before int
	require.Eventually(t, func() bool {
		was := before
		before = runtime.NumGoroutine()
		return was == before
	}, patience, 500*time.Millisecond)
	open(200)
	require.Eventually(t, settled(before+5), patience, 50*time.Millisecond)
}
