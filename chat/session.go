package chat

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
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

	mu          sync.Mutex // guards what follows; a chat's last is under its room's lock
	last        int64      // id of the last event that was written
	joined      bool       // an inbox's welcome was written
	early       []livestream.Notification
	again       bool               // pushes were missed before it joined
	known       map[uuid.UUID]bool // notifications that were written, the newest
	knownBefore map[uuid.UUID]bool

	out     sync.Mutex // guards writing
	melody  *melody.Session
	queued  int  // frames that wait to be written
	closing bool // nothing is written any more
	bid     farewell
	after   time.Duration
}

const sessionKey = "session"

func of(m *melody.Session) *session { return m.MustGet(sessionKey).(*session) }

// newSession reads what a client asks for.
//
// Errors: invalid_request.
func (s *Server) newSession(r *http.Request) (*session, error) {
	burst := max(1, int(5*s.config.MessagesPerSecond))
	session := &session{server: s, id: uuid.NewString(), limit: rate.NewLimiter(rate.Limit(s.config.MessagesPerSecond), burst)}
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

// openChat checks who asks for a stream's chat: its member with a ticket, or a
// viewer without one who only reads.
func (s *Server) openChat(ctx context.Context, r *http.Request, session *session) error {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil || len(r.PathValue("id")) != len(id.String()) {
		return livestream.Invalid("stream_id", "is a UUID")
	}
	stream, err := s.deps.Streams.ByID(ctx, id)
	if err != nil {
		return err
	}
	if r.URL.Query().Has("ticket") {
		identity, err := s.redeem(ctx, r, func(ticket livestream.Ticket) bool {
			return ticket.Purpose == livestream.TicketChat && ticket.StreamID == id
		})
		if err != nil {
			return err
		}
		user, err := s.deps.Users.ByID(ctx, identity.UserID)
		if err != nil {
			return err
		}
		session.user = chatUser(user, stream)
		if err := s.identify(ctx, session, identity); err != nil {
			return err
		}
	}
	session.room, err = s.enter(ctx, id)
	return err
}

// redeem takes the ticket of an upgrade; it is gone then, whatever it is for.
//
// Errors: invalid_ticket.
func (s *Server) redeem(ctx context.Context, r *http.Request, fits func(livestream.Ticket) bool) (livestream.Identity, error) {
	ticket, err := s.deps.Tickets.Redeem(ctx, r.URL.Query().Get("ticket"))
	if err == nil && !fits(ticket) {
		err = livestream.Errorf(livestream.CodeInvalidWebSocketTicket, "the ticket is for something else")
	}
	return ticket.Identity, err
}

// identify makes the session a member's. It can be logged out from here on: a
// login that ended before was refused, one that ends later is heard of.
//
// Errors: invalid_ticket.
func (s *Server) identify(ctx context.Context, session *session, identity livestream.Identity) error {
	session.identity = &identity
	s.mu.Lock()
	s.sessions[session] = true
	s.mu.Unlock()
	ended, err := s.deps.Logins.Ended(ctx, []uuid.UUID{identity.FamilyID})
	if err == nil && len(ended) > 0 {
		err = livestream.Errorf(livestream.CodeInvalidWebSocketTicket, "the login that asked for the ticket has ended")
	}
	return err
}

// chatUser is the member as the chat of that stream shows them.
func chatUser(user livestream.User, stream livestream.Stream) livestream.ChatUser {
	shown := livestream.ChatUser{ID: user.ID, Username: user.Username, DisplayName: user.DisplayName, Roles: []string{}}
	if stream.UserID == user.ID {
		shown.Roles = append(shown.Roles, "owner")
	}
	if user.Role == livestream.RoleAdmin {
		shown.Roles = append(shown.Roles, "admin")
	}
	return shown
}

// forget undoes what opening a session did. Whoever failed half way is forgotten
// too.
func (s *Server) forget(session *session) {
	if session.room != nil {
		s.leave(session.room, session)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
	if session.room == nil && session.identity != nil {
		mine := s.inboxes[session.identity.UserID]
		delete(mine, session)
		if len(mine) == 0 {
			delete(s.inboxes, session.identity.UserID)
		}
	}
}

// connect joins what the session is for. It runs before anything is read from the
// client.
func (x *session) connect(m *melody.Session) {
	s := x.server
	x.out.Lock()
	x.melody = m
	closing := x.closing // it was logged out on its way in
	if closing {
		x.close()
	}
	x.out.Unlock()
	if closing {
		return
	}
	s.mu.Lock()
	s.sessions[x] = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	join := s.joinInbox
	if x.room != nil {
		join = x.room.join
	}
	if err := join(ctx, x); err != nil {
		s.deps.Log.Warn("join", zap.Error(err))
		x.bye(byeUnavailable, time.Second+jitter())
		return
	}
	if s.draining.Load() { // it came in while the others were sent away
		x.bye(byeDraining, time.Second+jitter())
	}
}

// received takes a client's frame: a message to the chat.
func (x *session) received(content []byte) {
	m, refusal := parseMessage(content)
	if wait := x.tooFast(); wait > 0 {
		refusal = refuseMessage(m, codeRateLimited, "you write too fast", wait)
	} else if refusal == nil {
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
		x.send(event(refuseMessage(m, codeUnavailable, "the chat cannot be reached; send it again", 2*time.Second)))
		return
	}
	s.metrics.messages.Inc()
	if !first {
		x.send(said.JSON) // it was said before: the one who asks again gets that
	}
}

func refuseMessage(m message, code, detail string, retryAfter time.Duration) *errorEvent {
	return &errorEvent{Type: "error", Code: code, Detail: detail, Nonce: m.Nonce, RetryAfter: retryAfter.Seconds()}
}

// tooFast says how long the client must wait before its next frame.
func (x *session) tooFast() time.Duration {
	now := time.Now()
	r := x.limit.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

func (x *session) mayWrite(m message) *errorEvent {
	switch {
	case x.room == nil || x.identity == nil:
		return refuseMessage(m, codeReadOnly, "this connection only reads; connect with a ticket to write", 0)
	case x.room.hasEnded():
		return refuseMessage(m, codeReadOnly, "the stream has ended", 0)
	}
	return nil
}

// send writes events in one frame.
func (x *session) send(events ...json.RawMessage) {
	if len(events) > 0 {
		x.write(frame(events...))
	}
}

// write queues a frame. A client whose queue is full is told, behind what waits
// already, to come back for the rest: nothing is dropped in silence.
func (x *session) write(frame []byte) {
	x.out.Lock()
	defer x.out.Unlock()
	if x.closing {
		return
	}
	if x.queued >= sendBuffer {
		x.server.metrics.slow.Inc()
		x.closing, x.bid = true, byeSlow
		x.close()
		return
	}
	x.push(frame)
}

// push hands a frame to melody, which has more room than we use. It runs under
// out.
func (x *session) push(frame []byte) {
	x.queued++
	x.server.metrics.frames.Inc()
	_ = x.melody.Write(frame) // an error says that it is closed, which its reader notices
}

// written counts a frame that has left.
func (x *session) written() {
	x.out.Lock()
	defer x.out.Unlock()
	x.queued--
}

// bye says when to come back, and closes the connection once that is written.
func (x *session) bye(why farewell, after time.Duration) {
	x.out.Lock()
	defer x.out.Unlock()
	if x.closing {
		return
	}
	x.closing, x.bid, x.after = true, why, after
	if x.melody != nil { // otherwise connect does it
		x.close()
	}
}

// close writes the farewell. It runs under out.
func (x *session) close() {
	x.push(frame(event(byeEvent{Type: "bye", Code: x.bid.code, ReconnectAfterMS: x.after.Milliseconds()})))
	_ = x.melody.CloseWithMsg(melody.FormatCloseMessage(x.bid.status, x.bid.code)) // it may be closed already
}

// jitter keeps clients from coming back all at once.
func jitter() time.Duration { return rand.N(500 * time.Millisecond) }

// logout closes what logins opened.
func (s *Server) logout(families ...uuid.UUID) {
	ended := make(map[uuid.UUID]bool, len(families))
	for _, family := range families {
		ended[family] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		if session.identity != nil && ended[session.identity.FamilyID] {
			session.bye(byeLoggedOut, 0)
		}
	}
}

// closeEnded closes what logins opened that ended while this node could not hear.
func (s *Server) closeEnded(ctx context.Context) error {
	s.mu.Lock()
	families := map[uuid.UUID]bool{}
	for session := range s.sessions {
		if session.identity != nil {
			families[session.identity.FamilyID] = true
		}
	}
	s.mu.Unlock()
	for batch := range slices.Chunk(slices.Collect(maps.Keys(families)), pushBatch) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		ended, err := s.deps.Logins.Ended(ctx, batch)
		cancel()
		if err != nil {
			return err
		}
		s.logout(ended...)
	}
	return nil
}

// failed is told by melody of a read that ended, which is every connection's end.
func (x *session) failed(m *melody.Session, err error) {
	if errors.Is(err, melody.ErrMessageBufferFull) {
		_ = m.WebsocketConnection().Close() // it cannot be, see write; silence would be worse
	}
}
