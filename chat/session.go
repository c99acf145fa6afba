package chat

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	livestream "github.com/livestream-pro/livestream-pro"
)

// session is one connection.
type session struct {
	server   *Server
	id       string
	identity *livestream.Identity // nil for a viewer without a ticket
	user     livestream.ChatUser
	room     *room // nil for notifications
	since    *int64
	replay   int
	limit    *rate.Limiter

	mu     sync.Mutex // held while an inbox is read, so that pushes come after it
	last   int64      // id of the last event that was written; under the room's lock, or mu
	known  map[uuid.UUID]bool
	melody *melody.Session
	slow   sync.Once
}

const sessionKey = "session"

func of(m *melody.Session) *session { return m.MustGet(sessionKey).(*session) }

func (s *Server) newSession(r *http.Request) (*session, error) {
	session := &session{server: s, id: uuid.NewString(), limit: rate.NewLimiter(rate.Limit(s.config.MessagesPerSecond), int(5*s.config.MessagesPerSecond))}
	query := r.URL.Query()
	if query.Has("since") {
		since, err := strconv.ParseInt(query.Get("since"), 10, 64)
		if err != nil || since < 0 {
			return nil, livestream.Invalid("since", "is the id of an event")
		}
		session.since = &since
	}
	if query.Has("last") {
		last, err := strconv.Atoi(query.Get("last"))
		if err != nil || last < 0 || last > 100 {
			return nil, livestream.Invalid("last", "is a number from 0 to 100")
		}
		session.replay = last
	}
	return session, nil
}

// serveChat opens a stream's chat: with a ticket for its member, without one for
// a viewer who only reads.
func (s *Server) serveChat(w http.ResponseWriter, r *http.Request) {
	if !s.admit(w, r) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	session, err := s.newSession(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, livestream.CodeInvalidRequest, err.(*livestream.Error).Message)
		return
	}
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		refuse(w, http.StatusBadRequest, livestream.CodeInvalidRequest, "a stream's id is a UUID")
		return
	}
	stream, err := s.deps.Streams.ByID(ctx, id)
	if err != nil {
		s.refuseError(w, err)
		return
	}
	if token := r.URL.Query().Get("ticket"); token != "" {
		ticket, err := s.deps.Tickets.Redeem(ctx, token)
		if err == nil && (ticket.Purpose != livestream.TicketChat || ticket.StreamID != id) {
			err = livestream.Errorf(livestream.CodeInvalidWebSocketTicket, "the ticket is for something else")
		}
		if err == nil {
			err = session.identify(ctx, ticket.Identity, stream)
		}
		if err != nil {
			s.refuseError(w, err)
			return
		}
	}
	if session.room, err = s.enter(ctx, id); err != nil {
		s.refuseError(w, err)
		return
	}
	defer session.room.leave(session)
	s.upgrade(w, r, session)
}

// identify makes the session a member's.
func (x *session) identify(ctx context.Context, identity livestream.Identity, stream livestream.Stream) error {
	user, err := x.server.deps.Users.ByID(ctx, identity.UserID)
	if err != nil {
		return err
	}
	x.identity = &identity
	x.user = livestream.ChatUser{ID: user.ID, Username: user.Username, DisplayName: user.DisplayName, Roles: []string{}}
	if stream.UserID == user.ID {
		x.user.Roles = append(x.user.Roles, "owner")
	}
	if user.Role == livestream.RoleAdmin {
		x.user.Roles = append(x.user.Roles, "admin")
	}
	return nil
}

// upgrade lasts as long as the connection.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, session *session) {
	s.open.Add(1)
	s.metrics.connections.Inc()
	defer func() {
		s.open.Add(-1)
		s.metrics.connections.Dec()
	}()
	err := s.melody.HandleRequestWithKeys(w, r, map[string]any{sessionKey: session})
	if err != nil {
		s.deps.Log.Debug("upgrade", zap.Error(err)) // the client was answered by the upgrader
	}
}

func (x *session) connected(m *melody.Session) {
	x.melody = m
	s := x.server
	s.mu.Lock()
	s.sessions[x] = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	join := s.joinInbox
	if x.room != nil {
		join = func(ctx context.Context, x *session) error { return x.room.join(ctx, x) }
	}
	if err := join(ctx, x); err != nil {
		s.deps.Log.Warn("join", zap.Error(err))
		x.bye(codeUnavailable, closeResume, time.Second)
		return
	}
	if s.draining.Load() { // it came in while the others were being sent away
		x.bye(byeDraining, closeGoingAway, time.Second)
	}
}

func (x *session) disconnected() {
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, x)
	if x.room == nil {
		mine := s.inboxes[x.identity.UserID]
		delete(mine, x)
		if len(mine) == 0 {
			delete(s.inboxes, x.identity.UserID)
		}
	}
}

// received takes a client's frame: a message to the chat.
func (x *session) received(content []byte) {
	m, refusal := parseMessage(content)
	if refusal == nil {
		refusal = x.mayWrite(m)
	}
	if refusal != nil {
		x.send(event(refusal))
		return
	}
	s := x.server
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	nonce := ""
	if m.Nonce != "" {
		nonce = x.user.ID.String() + ":" + m.Nonce
	}
	said, first, err := s.deps.Events.Append(ctx, livestream.NewChatEvent{
		StreamID: x.room.stream, Nonce: nonce, Type: livestream.ChatMessage,
		Body: livestream.ChatMessageBody{User: x.user, Text: m.Text, SentAt: time.Now().UTC(), Nonce: m.Nonce},
	})
	if err != nil {
		s.deps.Log.Warn("append a message", zap.Error(err))
		x.send(event(errorEvent{Type: "error", Code: codeUnavailable, Detail: "the chat cannot be reached; send it again", Nonce: m.Nonce, RetryAfter: 2}))
		return
	}
	s.metrics.messages.Inc()
	if !first && len(said.JSON) > 0 {
		x.send(said.JSON) // it was said before: the one who asks again gets that
	}
}

func (x *session) mayWrite(m message) *errorEvent {
	refuse := func(code, detail string, retryAfter time.Duration) *errorEvent {
		return &errorEvent{Type: "error", Code: code, Detail: detail, Nonce: m.Nonce, RetryAfter: retryAfter.Seconds()}
	}
	if x.room == nil || x.identity == nil {
		return refuse(codeReadOnly, "this connection only reads; connect with a ticket to write", 0)
	}
	now := time.Now()
	if r := x.limit.ReserveN(now, 1); r.DelayFrom(now) > 0 {
		wait := r.DelayFrom(now)
		r.CancelAt(now)
		return refuse(codeRateLimited, "you write too fast", wait)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := x.server.deps.Streams.ByID(ctx, x.room.stream)
	if err == nil && stream.Status == livestream.StreamEnded {
		return refuse(codeReadOnly, "the stream has ended", 0)
	}
	return nil // with the database out of reach the chat goes on
}

// send writes events in one frame.
func (x *session) send(events ...json.RawMessage) {
	if len(events) > 0 {
		x.write(frame(events...))
	}
}

// write queues a frame. Where the queue is full, tooSlow ends the connection:
// nothing is dropped in silence.
func (x *session) write(frame []byte) {
	x.server.metrics.frames.Inc()
	if err := x.melody.Write(frame); err != nil && !errors.Is(err, melody.ErrSessionClosed) {
		x.server.deps.Log.Debug("write", zap.Error(err))
	}
}

// tooSlow ends a connection whose client reads too slowly. It comes back and gets
// what it missed.
func (x *session) tooSlow() {
	x.slow.Do(func() {
		x.server.metrics.slow.Inc()
		go func() { // the room's lock may be held, and a slow reader takes its time
			conn := x.melody.WebsocketConnection()
			// The queue is full, so that the close frame goes past it.
			_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closeResume, byeSlow), time.Now().Add(time.Second))
			_ = conn.Close()
		}()
	})
}

// bye says when to come back, and closes the connection.
func (x *session) bye(code string, status int, after time.Duration) {
	jitter := time.Duration(rand.Int64N(int64(500 * time.Millisecond)))
	x.send(event(byeEvent{Type: "bye", Code: code, ReconnectAfterMS: (after + jitter).Milliseconds()}))
	_ = x.melody.CloseWithMsg(melody.FormatCloseMessage(status, code)) // it may be closed already
}

// logout closes what a login opened.
func (s *Server) logout(family uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		if session.identity != nil && session.identity.FamilyID == family {
			session.bye(byeLoggedOut, closeLoggedOut, 0)
		}
	}
}
