package chat_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/chat"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// announce appends an event that is not a message, as the API does.
func (w *world) announce(tb testing.TB, stream uuid.UUID, kind livestream.ChatEventType, body any) {
	tb.Helper()
	_, _, err := w.events.Append(w.ctx, livestream.NewChatEvent{StreamID: stream, Type: kind, Body: body})
	require.NoError(tb, err)
}

// ban does what the API does.
func (w *world) ban(tb testing.TB, stream livestream.Stream, user uuid.UUID, until *time.Time) {
	tb.Helper()
	require.NoError(tb, w.chats.Ban(w.ctx, livestream.ChatBan{StreamID: stream.ID, UserID: user, By: stream.UserID, Until: until}))
	w.announce(tb, stream.ID, livestream.ChatUserBanned, livestream.ChatBannedBody{UserID: user, Until: until})
}

func (w *world) settings(tb testing.TB, stream uuid.UUID, patch livestream.ChatSettingsPatch) {
	tb.Helper()
	settings, err := w.chats.SetSettings(w.ctx, stream, patch)
	require.NoError(tb, err)
	w.announce(tb, stream, livestream.ChatSettingsEvent, settings.Public())
}

// until reads events up to one of a type.
func (s *socket) until(kind string) string {
	s.tb.Helper()
	for {
		if event := s.next(); event.Type == kind {
			return string(event.JSON)
		}
	}
}

// outcome says something until it is answered otherwise than before, because a
// change reaches the nodes within a second.
func (s *socket) outcome(want string) refusal {
	s.tb.Helper()
	began := time.Now()
	for i := 0; ; i++ {
		nonce := fmt.Sprint(want, i)
		s.say("text", nonce)
		for {
			event := s.next()
			var r struct {
				refusal
				Type string
			}
			require.NoError(s.tb, event.Decode(&r))
			if r.Nonce != nonce {
				continue
			}
			if r.Type == want || r.Code == want {
				return r.refusal
			}
			break
		}
		require.Less(s.tb, time.Since(began), patience, "no %s", want)
		time.Sleep(20 * time.Millisecond) // between two attempts: each is a message, of which a member may send so many
	}
}

// A ban closes the member's sockets on all nodes, keeps them from writing, and ends
// by itself, on nodes that were started since too.
func TestABanClosesSocketsAndEndsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := []*node{w.node(t, fast), w.node(t, fast)}
	stream, bob := w.stream(t), w.member(t)
	closing := []*socket{w.chat(t, nodes[0], stream.ID, bob), w.chat(t, nodes[1], stream.ID, bob)}
	other := w.chat(t, nodes[0], stream.ID, w.member(t))
	until := time.Now().Add(4 * time.Second).UTC()
	w.ban(t, stream, bob.ID, &until)
	for _, s := range closing {
		bye := s.closed()
		require.Equal(t, "banned", bye.Code)
		require.True(t, websocket.IsCloseError(asClose(bye.err), 4003), "%v", bye.err)
	}
	require.Contains(t, other.until("user_banned"), bob.ID.String())
	nodes = append(nodes, w.node(t, fast))
	for _, n := range nodes {
		back := w.chat(t, n, stream.ID, bob)
		got := back.outcome("banned")
		require.Greater(t, got.RetryAfter, 0.0)
		require.LessOrEqual(t, got.RetryAfter, 4.0)
	}
	back := w.chat(t, nodes[2], stream.ID, bob)
	back.outcome("message")
	require.False(t, time.Now().Before(until))

	w.ban(t, stream, bob.ID, nil)
	require.Equal(t, "banned", back.closed().Code)
	// This one is closed too when it is opened before its node has read of the ban.
	require.Eventually(t, func() bool {
		back = w.chat(t, nodes[0], stream.ID, bob)
		if back.Send(w.ctx, map[string]string{"type": "message", "text": "text", "nonce": "n"}) != nil {
			return false
		}
		for {
			event, err := back.read()
			if err != nil {
				return false
			}
			var r refusal
			require.NoError(t, event.Decode(&r))
			if r.Nonce == "n" {
				return r.Code == "banned" && r.RetryAfter == 0
			}
		}
	}, patience, 20*time.Millisecond, "for ever")
	require.NoError(t, w.chats.Unban(w.ctx, stream.ID, bob.ID))
	w.announce(t, stream.ID, livestream.ChatUserUnbanned, livestream.ChatUnbannedBody{UserID: bob.ID})
	back.outcome("message")
}

// Modes hold on every node, for all but those who moderate.
func TestModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node(t, fast), w.node(t, fast)
	stream, bob, mod := w.stream(t), w.member(t), w.member(t)
	owner, err := w.users.ByID(w.ctx, stream.UserID)
	require.NoError(t, err)
	require.NoError(t, w.chats.AddModerator(w.ctx, stream.UserID, mod.ID))
	bobs := []*socket{w.chat(t, a, stream.ID, bob), w.chat(t, b, stream.ID, bob)}
	free := []*socket{w.chat(t, a, stream.ID, w.login(t, owner)), w.chat(t, b, stream.ID, mod)}
	require.Equal(t, []any{}, free[0].welcome.Settings["blocked_terms"])
	require.NotContains(t, bobs[0].welcome.Settings, "blocked_terms")
	set := func(patch livestream.ChatSettingsPatch) { w.settings(t, stream.ID, patch) }

	slow, none := 60, 0
	set(livestream.ChatSettingsPatch{SlowModeSeconds: &slow})
	got := bobs[0].outcome("slow_mode")
	require.Greater(t, got.RetryAfter, 50.0)
	require.Greater(t, bobs[1].outcome("slow_mode").RetryAfter, 50.0, "on the other node too")
	for _, s := range free {
		s.outcome("message")
		s.outcome("message")
	}
	set(livestream.ChatSettingsPatch{SlowModeSeconds: &none})
	bobs[1].outcome("message")

	terms := []string{"TEXT"}
	set(livestream.ChatSettingsPatch{BlockedTerms: &terms})
	for _, s := range bobs {
		s.outcome("blocked_term")
	}
	for _, s := range free {
		s.outcome("message")
	}
	terms = nil
	set(livestream.ChatSettingsPatch{BlockedTerms: &terms})
	bobs[0].outcome("message")

	only, age := true, 3600
	set(livestream.ChatSettingsPatch{FollowersOnly: &only})
	bobs[0].outcome("followers_only")
	_, err = w.follows.Follow(w.ctx, bob.ID, stream.UserID)
	require.NoError(t, err)
	bobs[1].outcome("message")
	set(livestream.ChatSettingsPatch{FollowerMinAgeSeconds: &age})
	require.Greater(t, bobs[1].outcome("followers_only").RetryAfter, 3000.0)
	for _, s := range free {
		s.outcome("message")
	}
	late := w.chat(t, a, stream.ID, nil)
	require.Equal(t, map[string]any{"slow_mode_seconds": 0.0, "followers_only": true, "follower_min_age_seconds": 3600.0}, late.welcome.Settings)
}

// Roles are shown as they are at the moment of each message.
func TestRolesAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream, mod := w.stream(t), w.member(t)
	owner, err := w.users.ByID(w.ctx, stream.UserID)
	require.NoError(t, err)
	viewer := w.chat(t, n, stream.ID, nil)
	said := func(s *socket) []string {
		s.say("text", "")
		return viewer.message().User.Roles
	}
	require.Equal(t, []string{"owner"}, said(w.chat(t, n, stream.ID, w.login(t, owner))))
	s := w.chat(t, n, stream.ID, mod)
	require.Empty(t, said(s))
	require.NoError(t, w.chats.AddModerator(w.ctx, stream.UserID, mod.ID))
	require.NoError(t, w.tell.PublishModerators(w.ctx, stream.UserID))
	require.Eventually(t, func() bool { return len(said(s)) == 1 }, patience, 20*time.Millisecond)
	require.Equal(t, []string{"moderator"}, said(s))
	require.NoError(t, w.chats.RemoveModerator(w.ctx, stream.UserID, mod.ID))
	require.NoError(t, w.tell.PublishModerators(w.ctx, stream.UserID))
	require.Eventually(t, func() bool { return len(said(s)) == 0 }, patience, 20*time.Millisecond)
}

func TestADeletedMessageIsNotToldAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t).ID
	viewer := w.chat(t, n, stream, nil)
	w.append(t, stream, "1", "2", "3")
	w.announce(t, stream, livestream.ChatMessageDeleted, livestream.ChatDeletedBody{MessageID: 2})
	require.JSONEq(t, `{"id": 4, "type": "message_deleted", "message_id": 2}`, viewer.until("message_deleted"))
	for _, query := range [][]string{{"since", "0"}, {"last", "10"}} {
		late := w.chat(t, n, stream, nil, query...)
		require.Equal(t, "1", late.message().Text)
		require.Equal(t, "3", late.message().Text)
		require.Equal(t, "message_deleted", late.next().Type)
	}
}

// What was said is kept in Postgres, also when that was away meanwhile: chat goes on.
func TestHistoryIsWrittenLaterWhenPostgresIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, address := testenv.NewProxy(t, w.databaseURL)
	n := w.nodeOn(t, fast, w.redisURL, nil, w.openDB(t, postgres.Config{URL: address, ConnectTimeout: 2 * time.Second}))
	stream := w.stream(t).ID
	s := w.chat(t, n, stream, w.member(t))
	kept := func(want ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			events, err := w.chats.Messages(w.ctx, stream, 1<<62, 100)
			require.NoError(t, err)
			texts := []string{}
			for _, e := range events {
				record, err := livestream.ReadChatRecord(e)
				require.NoError(t, err)
				texts = append([]string{record.Text}, texts...)
			}
			return fmt.Sprint(texts) == fmt.Sprint(want)
		}, 40*time.Second, 100*time.Millisecond, "%v", want)
	}
	s.say("1", "")
	require.Equal(t, []string{"1"}, s.texts(0, 1))
	kept("1")
	proxy.Cut()
	s.say("2", "")
	s.say("3", "")
	require.Equal(t, []string{"2", "3"}, s.texts(1, 2), "nobody notices")
	proxy.Restore()
	kept("1", "2", "3")
}

// A member and an address have so many connections, and no more.
func TestConnectionsOfAMemberAndOfAnAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, chat.Config{MaxPerUser: 2, MaxPerAddress: 3, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	stream, bob := w.stream(t).ID, w.member(t)
	path := "/ws/streams/" + stream.String() + "/chat"
	first := w.chat(t, n, stream, bob)
	w.chat(t, n, stream, bob)
	ticket := w.ticket(t, bob, livestream.TicketChat, stream)
	p := refused(t, n.address(path, url.Values{"ticket": {ticket}}), nil)
	require.Equal(t, 429, p.Status)
	require.Equal(t, "rate_limited", p.Code)
	require.NotEmpty(t, p.retryAfter)
	w.chat(t, n, stream, nil)
	require.Equal(t, 429, refused(t, n.address(path, nil), nil).Status)
	from := func(address string) http.Header { return http.Header{"X-Forwarded-For": {"203.0.113.9, " + address}} }
	rawDial(t, websocket.Dialer{}, n.address(path, nil), from("198.51.100.1"))
	_ = first.Close()
	require.Eventually(t, func() bool {
		conn, response, err := websocket.DefaultDialer.Dial(n.address(path, nil), nil)
		if err != nil {
			response.Body.Close()
			return false
		}
		conn.Close()
		return true
	}, patience, 20*time.Millisecond, "who leaves makes room")
	direct := w.node(t, chat.Config{MaxPerAddress: 1})
	w.chat(t, direct, stream, nil)
	require.Equal(t, 429, refused(t, direct.address(path, nil), from("198.51.100.2")).Status, "what is not trusted is not believed")
}
