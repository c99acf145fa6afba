// Package chat serves the WebSockets: the streams' chats and the members'
// notifications. A node holds connections and nothing else: what must be kept is
// in Redis and Postgres, so that any node serves any stream.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Events is the chats' history and fan-out.
type Events interface {
	Append(ctx context.Context, event livestream.NewChatEvent) (livestream.ChatEvent, bool, error)
	Since(ctx context.Context, streamID uuid.UUID, since int64) ([]livestream.ChatEvent, bool, error)
	Last(ctx context.Context, streamID uuid.UUID, n int) ([]livestream.ChatEvent, error)
	LastID(ctx context.Context, streamID uuid.UUID) (int64, error)
}

// Subscriber hears what other nodes say.
type Subscriber interface {
	Add(ctx context.Context, channel string) error
	Remove(ctx context.Context, channel string) error
	Run(ctx context.Context, message func(channel, payload string), reset func())
}

// Presence counts viewers over all nodes.
type Presence interface {
	SetViewers(ctx context.Context, node string, counts map[uuid.UUID]int) (map[uuid.UUID]int64, error)
}

// Inboxes are the members' notifications.
type Inboxes interface {
	Since(ctx context.Context, userID uuid.UUID, seq int64, limit int) ([]livestream.Notification, error)
	LastSeq(ctx context.Context, userID uuid.UUID) (int64, error)
	ForRecipients(ctx context.Context, key string, userIDs []uuid.UUID) ([]livestream.Notification, error)
}

// Logins says which of the logins, by their families, have ended.
type Logins interface {
	Ended(ctx context.Context, families []uuid.UUID) ([]uuid.UUID, error)
}

// Streams finds streams, Users finds users, and Tickets opens connections.
type (
	Streams interface {
		ByID(ctx context.Context, id uuid.UUID) (livestream.Stream, error)
	}
	Users interface {
		ByID(ctx context.Context, id uuid.UUID) (livestream.User, error)
	}
	Tickets interface {
		Redeem(ctx context.Context, token string) (livestream.Ticket, error)
	}
)

// Deps are what a node works with; all of them are needed.
type Deps struct {
	Events     Events
	Subscriber Subscriber
	Presence   Presence
	Inboxes    Inboxes
	Logins     Logins
	Streams    Streams
	Users      Users
	Tickets    Tickets
	// Channel names the channel of a stream's chat.
	Channel func(streamID uuid.UUID) string
	// Shared reads a message of a channel that every node hears: a push or the
	// login that ended.
	Shared func(channel, payload string) (*livestream.NotificationPush, *uuid.UUID)
	// Checks are what /ready asks, by name. Without "redis" a node is down; without
	// another it goes on for those who are connected.
	Checks  map[string]func(context.Context) error
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// Config is a node's limits; a zero value is the default.
type Config struct {
	// AllowedOrigins are the web pages that may connect, as "https://host"; clients
	// that send no Origin always may.
	AllowedOrigins []string
	// FlushInterval is how long events may wait for others to share a frame;
	// default 50 ms, and what the contract allows is 100.
	FlushInterval time.Duration
	// MaxConnections of this node; default 20,000. Beyond it upgrades get 503.
	MaxConnections int
	// MessagesPerSecond of one member on one connection, with bursts of five times
	// that; default 2.
	MessagesPerSecond float64
}

func (c Config) withDefaults() Config {
	if c.FlushInterval == 0 {
		c.FlushInterval = 50 * time.Millisecond
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 20_000
	}
	if c.MessagesPerSecond == 0 {
		c.MessagesPerSecond = 2
	}
	return c
}

const (
	// callTimeout bounds what a connection waits for.
	callTimeout = 5 * time.Second
	// pingPeriod finds dead peers; one that is silent for pongWait is closed.
	pingPeriod = 30 * time.Second
	pongWait   = 65 * time.Second
	// maxFrame is what a client may send: a message of 500 characters, each up to
	// twelve bytes as JSON escapes, and its nonce.
	maxFrame = 8 << 10
	// sendBuffer frames may wait for a slow reader before it is told to come back.
	sendBuffer = 256
)

// Server is one chat node.
type Server struct {
	config   Config
	deps     Deps
	node     string
	melody   *melody.Melody
	mux      *http.ServeMux
	draining atomic.Bool
	open     atomic.Int64 // connections, those on their way in included
	metrics  metrics
	wake     chan struct{} // holds a value when inboxes have news

	// mu is never held while a room's lock or a session's mu is taken.
	mu       sync.Mutex
	rooms    map[string]*room   // by channel
	emptied  map[uuid.UUID]bool // rooms whose count must still be told to be 0
	inboxes  map[uuid.UUID]map[*session]bool
	sessions map[*session]bool
	pushes   []livestream.NotificationPush // to be told, in order
	missed   bool                          // there were others, of which nothing is known
}

type metrics struct {
	connections prometheus.Gauge
	messages    prometheus.Counter
	frames      prometheus.Counter
	slow        prometheus.Counter
}

// New makes a node. Run must run for it to hear others.
func New(config Config, deps Deps) (*Server, error) {
	if deps.Events == nil || deps.Subscriber == nil || deps.Presence == nil || deps.Inboxes == nil || deps.Logins == nil ||
		deps.Streams == nil || deps.Users == nil || deps.Tickets == nil || deps.Channel == nil || deps.Shared == nil || deps.Checks == nil || deps.Log == nil || deps.Metrics == nil {
		return nil, errors.New("chat: something that a node works with is missing")
	}
	s := &Server{
		config: config.withDefaults(), deps: deps, node: uuid.NewString(), melody: melody.New(), mux: http.NewServeMux(),
		rooms: map[string]*room{}, emptied: map[uuid.UUID]bool{}, inboxes: map[uuid.UUID]map[*session]bool{}, sessions: map[*session]bool{},
		wake: make(chan struct{}, 1),
		metrics: metrics{
			connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "chat_connections", Help: "Open WebSockets."}),
			messages:    prometheus.NewCounter(prometheus.CounterOpts{Name: "chat_messages_total", Help: "Messages that members sent."}),
			frames:      prometheus.NewCounter(prometheus.CounterOpts{Name: "chat_frames_total", Help: "Frames written to connections."}),
			slow:        prometheus.NewCounter(prometheus.CounterOpts{Name: "chat_slow_readers_total", Help: "Connections that were closed because they read too slowly."}),
		},
	}
	for _, c := range []prometheus.Collector{s.metrics.connections, s.metrics.messages, s.metrics.frames, s.metrics.slow} {
		if err := deps.Metrics.Register(c); err != nil {
			return nil, err
		}
	}
	s.melody.Config.PingPeriod = pingPeriod
	s.melody.Config.PongWait = pongWait
	s.melody.Config.MaxMessageSize = maxFrame
	s.melody.Config.MessageBufferSize = sendBuffer + 8 // see session.write
	s.melody.Upgrader.Subprotocols = []string{Subprotocol}
	s.melody.Upgrader.HandshakeTimeout = callTimeout
	s.melody.Upgrader.CheckOrigin = s.allowed // melody's own allows every site
	s.melody.Upgrader.Error = func(w http.ResponseWriter, r *http.Request, status int, reason error) {
		refuse(w, r, status, livestream.CodeInvalidRequest, reason.Error())
	}
	s.melody.HandleConnect(func(m *melody.Session) { of(m).connect(m) })
	s.melody.HandleMessage(func(m *melody.Session, content []byte) { of(m).received(content) })
	s.melody.HandleMessageBinary(func(m *melody.Session, _ []byte) { of(m).received(nil) }) // frames are text
	s.melody.HandleSentMessage(func(m *melody.Session, _ []byte) { of(m).written() })
	s.melody.HandleError(func(m *melody.Session, err error) { of(m).failed(m, err) })
	s.mux.HandleFunc("GET /ws/streams/{id}/chat", s.serve(s.openChat))
	s.mux.HandleFunc("GET /ws/notifications", s.serve(s.openInbox))
	s.mux.HandleFunc("GET /health", s.health)
	s.mux.HandleFunc("GET /ready", s.ready)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, http.StatusNotFound, livestream.CodeNotFound, "there is nothing here")
	})
	return s, nil
}

const (
	requestID    = "X-Request-ID"
	maxRequestID = 128
)

// ServeHTTP serves the WebSockets and the node's health. It echoes a request's id
// or makes one.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(requestID)
	if id == "" || len(id) > maxRequestID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		id = uuid.NewString()
	}
	w.Header().Set(requestID, id)
	s.mux.ServeHTTP(w, r)
}

// Run hears other nodes and counts viewers until ctx ends. It must go on until
// Drain has returned, so that those who have not gone yet miss nothing.
func (s *Server) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { s.countViewers(ctx) })
	running.Go(func() { s.serveInboxes(ctx) })
	s.deps.Subscriber.Run(ctx, s.heard, s.catchUp)
	running.Wait()
}

// heard takes a message from another node, or from this one.
func (s *Server) heard(channel, payload string) {
	if push, logout := s.deps.Shared(channel, payload); push != nil {
		s.pushed(*push)
		return
	} else if logout != nil {
		s.logout(*logout)
		return
	}
	s.mu.Lock()
	room := s.rooms[channel]
	s.mu.Unlock()
	if room == nil {
		return
	}
	var head struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal([]byte(payload), &head); err != nil {
		s.deps.Log.Warn("a chat event cannot be read", zap.String("channel", channel), zap.Error(err))
		return
	}
	room.heard(livestream.ChatEvent{ID: head.ID, JSON: json.RawMessage(payload)})
}

// catchUp makes up for what was said while this node could not hear.
func (s *Server) catchUp() {
	s.missedPushes()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rooms {
		r.missed()
	}
}

// reconnectSpread is over what time a drained node's clients come back, so that
// the others are not flooded.
const reconnectSpread = 5 * time.Second

// Drain sends everybody to other nodes: no new connections, a bye with a spread
// time to come back, and the end once all have gone or ctx ends.
func (s *Server) Drain(ctx context.Context) {
	s.draining.Store(true)
	s.mu.Lock()
	sessions := slices.Collect(maps.Keys(s.sessions))
	s.mu.Unlock()
	for i, session := range sessions {
		spread := time.Duration(i) * reconnectSpread / time.Duration(len(sessions))
		session.bye(byeDraining, time.Second+spread+jitter())
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.open.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = s.melody.Close() // whoever is left
			return
		}
	}
}

// allowed says whether a page of that origin may connect. Programs send none.
func (s *Server) allowed(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	return len(origins) == 0 || (len(origins) == 1 && slices.Contains(s.config.AllowedOrigins, origins[0]))
}

// serve answers an upgrade and lasts as long as the connection. open checks the
// client and prepares its session; what it refuses is answered instead.
func (s *Server) serve(open func(context.Context, *http.Request, *session) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(r) {
			refuse(w, r, http.StatusForbidden, livestream.CodeWebSocketOriginRejected, "pages of this origin may not connect")
			return
		}
		if !websocket.IsWebSocketUpgrade(r) {
			w.Header().Set("Upgrade", "websocket")
			refuse(w, r, http.StatusUpgradeRequired, livestream.CodeInvalidRequest, "this address is for WebSockets")
			return
		}
		defer s.open.Add(-1)
		if s.open.Add(1) > int64(s.config.MaxConnections) || s.draining.Load() {
			s.refuseError(w, r, livestream.Unavailable("this node", errors.New("it is full or draining")))
			return
		}
		session, err := s.newSession(r)
		if err != nil {
			s.refuseError(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		defer s.forget(session)
		if err := open(ctx, r, session); err != nil {
			s.refuseError(w, r, err)
			return
		}
		s.metrics.connections.Inc()
		defer s.metrics.connections.Dec()
		err = s.melody.HandleRequestWithKeys(w, r, map[string]any{sessionKey: session})
		if errors.Is(err, melody.ErrClosed) {
			s.refuseError(w, r, livestream.Unavailable("this node", err))
		} else if err != nil {
			s.deps.Log.Debug("upgrade", zap.Error(err)) // the client was answered by the upgrader
		}
	}
}

// refuse answers instead of an upgrade.
func refuse(w http.ResponseWriter, r *http.Request, status int, code livestream.Code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may be gone
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": detail,
		"instance": r.URL.Path, "request_id": w.Header().Get(requestID),
	})
}

// refuseError answers with what an error says to clients.
func (s *Server) refuseError(w http.ResponseWriter, r *http.Request, err error) {
	var e *livestream.Error
	if !errors.As(err, &e) {
		s.deps.Log.Error("open a connection", zap.Error(err))
		e = livestream.Errorf(livestream.CodeInternal, "something went wrong on our side")
	}
	status := http.StatusInternalServerError
	switch e.Code {
	case livestream.CodeInvalidRequest:
		status = http.StatusBadRequest
	case livestream.CodeStreamNotFound:
		status = http.StatusNotFound
	case livestream.CodeInvalidWebSocketTicket:
		status = http.StatusUnauthorized
	case livestream.CodeUnavailable:
		status = http.StatusServiceUnavailable
		s.deps.Log.Warn("open a connection", zap.Error(err))
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	refuse(w, r, status, e.Code, e.Message)
}
