package chat_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/chat"
	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// patience is what a test waits for anything.
const patience = 20 * time.Second

// world is a database and a Redis with nodes on them.
type world struct {
	ctx           context.Context
	redisURL      string
	databaseURL   string
	users         *postgres.Users
	logins        *postgres.Sessions
	streams       *postgres.Streams
	follows       *postgres.Follows
	notifications *postgres.Notifications
	chats         *postgres.Chats
	db            *postgres.DB
	events        *redis.Chat
	tickets       *redis.Tickets
	tell          *redis.Notifications
	presence      *redis.Presence
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	return newWorldOn(tb, testenv.Context(tb), testenv.Redis(tb))
}

// newWorldOn is newWorld with a Redis that a test can tamper with.
func newWorldOn(tb testing.TB, ctx context.Context, redisURL string) *world {
	tb.Helper()
	w := &world{ctx: ctx, redisURL: redisURL, databaseURL: testenv.Database(tb)}
	w.db = w.openDB(tb, postgres.Config{URL: w.databaseURL})
	cache := w.openRedis(tb, w.redisURL)
	w.users, w.logins, w.streams = postgres.NewUsers(w.db), postgres.NewSessions(w.db), postgres.NewStreams(w.db)
	w.chats = postgres.NewChats(w.db)
	w.follows, w.notifications = postgres.NewFollows(w.db), postgres.NewNotifications(w.db)
	w.events, w.tickets, w.tell, w.presence = redis.NewChat(cache, w.chats), redis.NewTickets(cache), redis.NewNotifications(cache), redis.NewPresence(cache)
	return w
}

func (w *world) openDB(tb testing.TB, config postgres.Config) *postgres.DB {
	tb.Helper()
	db, err := postgres.Open(w.ctx, config)
	require.NoError(tb, err)
	tb.Cleanup(db.Close)
	return db
}

func (w *world) openRedis(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	cache, err := redis.Open(w.ctx, redis.Config{URL: url})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = cache.Close() })
	return cache
}

// node is one chat process.
type node struct {
	*chat.Server
	http    *httptest.Server
	metrics *prometheus.Registry
	stop    func()
}

func (n *node) address(path string, query url.Values) string {
	return "ws" + strings.TrimPrefix(n.http.URL, "http") + path + "?" + query.Encode()
}

func (w *world) node(tb testing.TB, config chat.Config) *node {
	tb.Helper()
	return w.nodeAt(tb, config, w.redisURL, nil)
}

// fast lets tests write as much as they like.
var fast = chat.Config{MessagesPerSecond: 10_000}

// nodeAt is a node whose Redis and connections a test can tamper with.
func (w *world) nodeAt(tb testing.TB, config chat.Config, redisURL string, accepted func(net.Conn)) *node {
	tb.Helper()
	return w.nodeOn(tb, config, redisURL, accepted, w.db)
}

// nodeOn is nodeAt with a database of its own.
func (w *world) nodeOn(tb testing.TB, config chat.Config, redisURL string, accepted func(net.Conn), db *postgres.DB) *node {
	tb.Helper()
	metrics := prometheus.NewRegistry()
	server, err := chat.New(config, w.deps(tb, redisURL, db, metrics))
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { server.Run(ctx) })
	n := &node{Server: server, http: httptest.NewUnstartedServer(server), metrics: metrics}
	if accepted != nil {
		n.http.Listener = tampered{n.http.Listener, accepted}
	}
	n.http.Start()
	n.stop = sync.OnceFunc(func() {
		at, giveUp := context.WithTimeout(context.Background(), patience)
		defer giveUp()
		server.Drain(at)
		cancel()
		running.Wait()
		n.http.Close()
	})
	tb.Cleanup(n.stop)
	return n
}

// deps are what a node works with.
func (w *world) deps(tb testing.TB, redisURL string, db *postgres.DB, metrics *prometheus.Registry) chat.Deps {
	tb.Helper()
	cache := w.openRedis(tb, redisURL)
	chats := postgres.NewChats(db)
	events := redis.NewChat(cache, chats)
	return chat.Deps{
		Events: events, Unsaved: events, History: chats, Rules: chats, Subscriber: redis.NewSubscriber(context.Background(), cache), Presence: redis.NewPresence(cache),
		Inboxes: postgres.NewNotifications(db), Logins: postgres.NewSessions(db), Users: postgres.NewUsers(db), Tickets: redis.NewTickets(cache),
		Channel: redis.ChatChannel,
		Shared: func(channel, payload string) *chat.Shared {
			return (*chat.Shared)(redis.ReadNotification(channel, payload))
		},
		Checks:  map[string]func(context.Context) error{"postgres": db.Ping, "redis": cache.Ping},
		Log:     zaptest.NewLogger(tb, zaptest.Level(zap.ErrorLevel)),
		Metrics: metrics,
	}
}

type tampered struct {
	net.Listener
	accepted func(net.Conn)
}

func (l tampered) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted(conn)
	}
	return conn, err
}

// member is somebody who is logged in.
type member struct {
	livestream.User
	family uuid.UUID
	token  []byte
}

func newID(tb testing.TB) uuid.UUID {
	tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(tb, err)
	return id
}

func (w *world) member(tb testing.TB) *member {
	tb.Helper()
	id := newID(tb)
	name := "u" + strings.ReplaceAll(id.String(), "-", "")[:24]
	user, err := w.users.Create(w.ctx, livestream.NewUser{
		ID: id, Username: name, Email: name + "@example.com", DisplayName: "Member " + name, PasswordHash: "unused",
	})
	require.NoError(tb, err)
	return w.login(tb, user)
}

// login logs a user in once more.
func (w *world) login(tb testing.TB, user livestream.User) *member {
	tb.Helper()
	m := &member{User: user, family: newID(tb), token: []byte(uuid.NewString() + uuid.NewString())[:32]}
	require.NoError(tb, w.logins.Create(w.ctx, livestream.RefreshToken{
		Hash: m.token, FamilyID: m.family, UserID: user.ID, ExpiresAt: time.Now().Add(time.Hour),
	}))
	return m
}

// logout does what the API does.
func (w *world) logout(tb testing.TB, m *member) {
	tb.Helper()
	_, err := w.logins.Revoke(w.ctx, m.token)
	require.NoError(tb, err)
	require.NoError(tb, w.tell.PublishLogout(w.ctx, m.family))
}

// stream goes live.
func (w *world) stream(tb testing.TB) livestream.Stream {
	tb.Helper()
	stream, err := w.streams.Create(w.ctx, livestream.NewStream{
		ID: newID(tb), UserID: w.member(tb).ID, Title: "A stream", Ingest: livestream.IngestExternal, Tags: []string{},
	}, time.Now())
	require.NoError(tb, err)
	return stream
}

func (w *world) ticket(tb testing.TB, m *member, purpose livestream.TicketPurpose, stream uuid.UUID) string {
	tb.Helper()
	token, err := w.tickets.Issue(w.ctx, livestream.Ticket{
		Purpose: purpose, StreamID: stream, Identity: livestream.Identity{UserID: m.ID, Role: m.Role, FamilyID: m.family},
	})
	require.NoError(tb, err)
	return token
}

// socket is a connection that a test reads.
type socket struct {
	*client.Socket
	tb      testing.TB
	welcome welcome
}

type welcome struct {
	ConnectionID string         `json:"connection_id"`
	ResumeFrom   int64          `json:"resume_from"`
	Epoch        string         `json:"epoch"`
	Recovered    bool           `json:"recovered"`
	Gap          bool           `json:"gap"`
	Settings     map[string]any `json:"settings"`
}

// chat opens a stream's chat: as a member, or as nobody. query are names and
// values in turn.
func (w *world) chat(tb testing.TB, n *node, stream uuid.UUID, m *member, query ...string) *socket {
	tb.Helper()
	values := valuesOf(query)
	if m != nil {
		values.Set("ticket", w.ticket(tb, m, livestream.TicketChat, stream))
	}
	return w.dial(tb, n.address("/ws/streams/"+stream.String()+"/chat", values))
}

func (w *world) inbox(tb testing.TB, n *node, m *member, query ...string) *socket {
	tb.Helper()
	values := valuesOf(query)
	values.Set("ticket", w.ticket(tb, m, livestream.TicketNotifications, uuid.Nil))
	return w.dial(tb, n.address("/ws/notifications", values))
}

func valuesOf(query []string) url.Values {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return values
}

func (w *world) dial(tb testing.TB, address string) *socket {
	tb.Helper()
	opened, err := client.Dial(w.ctx, address)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = opened.Close() })
	s := &socket{Socket: opened, tb: tb}
	first := s.next()
	require.Equal(tb, "welcome", first.Type, "welcome comes first")
	require.Zero(tb, first.ID)
	require.NoError(tb, first.Decode(&s.welcome))
	require.NotEmpty(tb, s.welcome.ConnectionID)
	return s
}

// next is the next event but for viewer counts.
func (s *socket) next() client.Event {
	s.tb.Helper()
	event, err := s.read()
	require.NoError(s.tb, err)
	return event
}

func (s *socket) read() (client.Event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		event, err := s.Next(ctx)
		if err != nil || event.Type != "viewer_count" {
			return event, err
		}
	}
}

// closed waits for the end of the connection and gives the bye before it.
func (s *socket) closed() bye {
	s.tb.Helper()
	var b bye
	for {
		event, err := s.read()
		if err != nil {
			b.err = err
			return b
		}
		require.Empty(s.tb, b.Code, "nothing comes after a bye")
		if event.Type == "bye" {
			require.NoError(s.tb, event.Decode(&b))
		}
	}
}

type bye struct {
	Code             string `json:"code"`
	ReconnectAfterMS int64  `json:"reconnect_after_ms"`
	err              error
}

type message struct {
	ID   int64 `json:"id"`
	User struct {
		ID          uuid.UUID `json:"id"`
		Username    string    `json:"username"`
		DisplayName string    `json:"display_name"`
		Roles       []string  `json:"roles"`
	} `json:"user"`
	Text   string    `json:"text"`
	SentAt time.Time `json:"sent_at"`
	Nonce  string    `json:"nonce"`
}

func (s *socket) say(text, nonce string) {
	s.tb.Helper()
	require.NoError(s.tb, s.Send(context.Background(), map[string]string{"type": "message", "text": text, "nonce": nonce}))
}

func (s *socket) message() message {
	s.tb.Helper()
	event := s.next()
	require.Equal(s.tb, "message", event.Type, string(event.JSON))
	var m message
	require.NoError(s.tb, event.Decode(&m))
	require.Equal(s.tb, event.ID, m.ID)
	return m
}

// texts reads n messages and holds their ids against one another: none is missing,
// twice or late.
func (s *socket) texts(after int64, n int) []string {
	s.tb.Helper()
	list := make([]string, n)
	for i := range list {
		m := s.message()
		require.Equal(s.tb, after+int64(i)+1, m.ID)
		list[i] = m.Text
	}
	return list
}

type refusal struct {
	Code       string  `json:"code"`
	Detail     string  `json:"detail"`
	Nonce      string  `json:"nonce"`
	RetryAfter float64 `json:"retry_after"`
}

func (s *socket) refusal() refusal {
	s.tb.Helper()
	event := s.next()
	require.Equal(s.tb, "error", event.Type, string(event.JSON))
	require.Zero(s.tb, event.ID)
	var r refusal
	require.NoError(s.tb, event.Decode(&r))
	require.NotEmpty(s.tb, r.Detail)
	return r
}

// append says something without a connection, as a workflow does.
func (w *world) append(tb testing.TB, stream uuid.UUID, texts ...string) {
	tb.Helper()
	for _, text := range texts {
		_, first, err := w.events.Append(w.ctx, livestream.NewChatEvent{
			StreamID: stream, Type: livestream.ChatMessage,
			Body: livestream.ChatMessageBody{User: livestream.ChatUser{ID: stream, Roles: []string{}}, Text: text, SentAt: time.Now()},
		})
		require.NoError(tb, err)
		require.True(tb, first)
	}
}

func numbers(from, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(from + i)
	}
	return list
}
