// Package chat serves the WebSockets: the streams' chats and the members'
// notifications. A node holds connections and nothing else: what must be kept is
// in Redis and Postgres, so that any node serves any stream.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// callTimeout bounds what a connection waits for.
	callTimeout = 5 * time.Second
	// maxFrame is what a client may send: a message of 500 characters, each up to
	// twelve bytes as JSON escapes, and its nonce.
	maxFrame = 8 << 10
	// readBuffer of a connection. Most clients never say a word.
	readBuffer = 256
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
	wheel    wheel
	wake     chan struct{} // holds a value when inboxes have news

	// mu is never held while a room's lock or a session's mu is taken.
	mu       sync.Mutex
	rooms    map[string]*room       // by channel
	emptied  map[uuid.UUID][]string // rooms whose count must still be told to be 0, with the connections that were closed
	inboxes  map[uuid.UUID]map[*session]bool
	sessions map[*session]bool
	users    map[uuid.UUID]int // connections, those on their way in included
	addrs    map[netip.Addr]int
	pushes   []livestream.NotificationPush // to be looked into
	missed   bool                          // there were others, of which nothing is known
}

// New makes a node. Run must run for it to hear others.
func New(config Config, deps Deps) (*Server, error) {
	if deps.Events == nil || deps.Subscriber == nil || deps.Presence == nil || deps.Rules == nil || deps.Unsaved == nil || deps.History == nil || deps.Inboxes == nil || deps.Logins == nil ||
		deps.Users == nil || deps.Tickets == nil || deps.Channel == nil || deps.Shared == nil || deps.Checks == nil || deps.Log == nil || deps.Metrics == nil {
		return nil, errors.New("chat: something that a node works with is missing")
	}
	if config.FlushInterval > maxRest {
		return nil, fmt.Errorf("chat: a room may rest for %s at most, not for %s", maxRest, config.FlushInterval)
	}
	s := &Server{
		config: config.withDefaults(), deps: deps, node: uuid.NewString(), melody: melody.New(), mux: http.NewServeMux(),
		rooms: map[string]*room{}, emptied: map[uuid.UUID][]string{}, inboxes: map[uuid.UUID]map[*session]bool{}, sessions: map[*session]bool{},
		users: map[uuid.UUID]int{}, addrs: map[netip.Addr]int{},
		wake: make(chan struct{}, 1),
	}
	var err error
	if s.metrics, err = newMetrics(deps.Metrics); err != nil {
		return nil, err
	}
	// melody upgrades, keeps sessions and reads. All that it writes is the one message
	// that ends its writer; see quiet.
	s.melody.Config.PingPeriod = 365 * 24 * time.Hour
	s.melody.Config.PongWait = (missedPings + 1) * pingPeriod
	s.melody.Config.MaxMessageSize = maxFrame
	s.melody.Config.MessageBufferSize = 1
	s.melody.Upgrader.Subprotocols = []string{Subprotocol}
	s.melody.Upgrader.HandshakeTimeout = callTimeout
	s.melody.Upgrader.ReadBufferSize = readBuffer
	s.melody.Upgrader.WriteBufferPool = &sync.Pool{}
	s.melody.Upgrader.CheckOrigin = s.allowed // melody's own allows every site
	s.melody.HandleConnect(func(m *melody.Session) { of(m).connect(m) })
	s.melody.HandleMessage(func(m *melody.Session, content []byte) { of(m).received(content) })
	s.melody.HandleMessageBinary(func(m *melody.Session, _ []byte) { of(m).received(nil) }) // frames are text
	s.melody.HandlePong(func(m *melody.Session) { of(m).unanswered.Store(0) })
	s.melody.HandleError(func(m *melody.Session, err error) {
		var (
			gone   *websocket.CloseError
			failed net.Error
		)
		switch {
		case errors.Is(err, websocket.ErrReadLimit):
			of(m).out.finish(encode(opClose, melody.FormatCloseMessage(websocket.CloseMessageTooBig, "")))
		case errors.As(err, &gone), errors.As(err, &failed): // there is nobody to be told
		default:
			of(m).out.finish(encode(opClose, melody.FormatCloseMessage(websocket.CloseProtocolError, "")))
		}
	})
	s.melody.HandleClose(func(m *melody.Session, status int, _ string) error {
		of(m).out.finish(encode(opClose, melody.FormatCloseMessage(status, "")))
		return nil
	})
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
	running.Go(func() { s.wheel.turn(ctx) })
	running.Go(func() { s.writeHistory(ctx) })
	s.deps.Subscriber.Run(ctx, s.heard, s.catchUp)
	running.Wait()
}

// heard takes a message from another node, or from this one.
func (s *Server) heard(channel, payload string) {
	if shared := s.deps.Shared(channel, payload); shared != nil {
		switch {
		case shared.Push != nil:
			s.pushed(*shared.Push)
		case shared.Logout != nil:
			s.logout(*shared.Logout)
		case shared.Creator != nil:
			s.moderatorsChanged(*shared.Creator)
		}
		return
	}
	s.mu.Lock()
	room := s.rooms[channel]
	s.mu.Unlock()
	if room == nil {
		return
	}
	head, err := headOf(payload)
	if err != nil {
		s.deps.Log.Warn("a chat event cannot be read", zap.String("channel", channel), zap.Error(err))
		return
	}
	room.heard(livestream.ChatEvent{ID: head.ID, JSON: json.RawMessage(payload)})
}

// catchUp makes up for what was said while this node could not hear.
func (s *Server) catchUp() {
	s.missedPushes()
	for _, r := range s.openRooms() {
		r.missed()
		r.rulesChanged()
		r.retellConnections()
	}
}

func (s *Server) openRooms() []*room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.rooms))
}

// moderatorsChanged makes the rooms of a creator read their rules again.
func (s *Server) moderatorsChanged(creator uuid.UUID) {
	for _, r := range s.openRooms() {
		if rules := r.rules.Load(); rules != nil && rules.OwnerID == creator {
			r.rulesChanged()
		}
	}
}

// allowed says whether a page of that origin may connect. Programs send none.
func (s *Server) allowed(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	return len(origins) == 0 || (len(origins) == 1 && slices.Contains(s.config.AllowedOrigins, origins[0]))
}

// serve answers an upgrade. open checks the client and prepares its session; what
// it refuses is answered instead. The connection then has a goroutine of its own:
// what net/http keeps of it is let go.
func (s *Server) serve(open func(context.Context, *http.Request, *session) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(r) {
			refuse(w, r, http.StatusForbidden, livestream.CodeWebSocketOriginRejected, "pages of this origin may not connect")
			return
		}
		upgrade, wrong := handshake(r)
		if upgrade == nil {
			w.Header().Set("Upgrade", "websocket")
			refuse(w, r, http.StatusUpgradeRequired, livestream.CodeInvalidRequest, wrong)
			return
		}
		if s.open.Add(1) > int64(s.config.MaxConnections) || s.draining.Load() {
			s.open.Add(-1)
			s.refuseError(w, r, livestream.Unavailable("this node", errors.New("it is full or draining")))
			return
		}
		session, err := s.newSession(r)
		if err == nil {
			err = s.admit(session)
		}
		if err != nil {
			s.open.Add(-1)
			s.refuseError(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		if err := open(ctx, r, session); err != nil {
			s.forget(session)
			s.refuseError(w, r, err)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err == nil && buffered.Reader.Buffered() > 0 { // it may not speak yet
			conn.Close()
			err = errors.New("the client spoke before it was answered")
		}
		if err != nil {
			s.deps.Log.Debug("upgrade", zap.Error(err))
			s.forget(session)
			return
		}
		_ = conn.SetDeadline(time.Time{}) // net/http's
		go s.run(&hijacked{&quiet{Conn: conn}, w.Header()}, upgrade, session)
	}
}

// run upgrades a connection and lasts as long as it does.
func (s *Server) run(h *hijacked, upgrade *http.Request, session *session) {
	defer s.forget(session)
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	if err := s.melody.HandleRequestWithKeys(h, upgrade, map[string]any{sessionKey: session}); err != nil {
		s.deps.Log.Debug("upgrade", zap.Error(err))
	}
	h.conn.Conn.Close()
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
	case livestream.CodeRateLimited:
		status = http.StatusTooManyRequests
	case livestream.CodeUnavailable:
		status = http.StatusServiceUnavailable
		s.deps.Log.Warn("open a connection", zap.Error(err))
	}
	if wait := e.ComeBack(); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	refuse(w, r, status, e.Code, e.Message)
}
