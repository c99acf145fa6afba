package chat

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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
	began    time.Time
	address  netip.Addr
	identity *livestream.Identity // nil for a viewer without a ticket
	user     livestream.ChatUser  // without roles, which change
	room     *room                // nil for notifications
	since    *livestream.ChatPosition
	replay   int
	counted  bool          // as one of its member's connections
	limit    *rate.Limiter // of its frames, from the first one on
	followed time.Time     // when it was last known that the member may write as a follower

	spoke      int // of the wheel
	unanswered atomic.Int32

	mu     sync.Mutex // guards what follows; a chat's last is under its room's writing
	last   int64      // id of the last event that was written
	joined bool       // an inbox's welcome was written
	again  bool       // there may have been news before that

	closing sync.Mutex // guards what follows
	out     *outlet    // nil until it is upgraded
	bid     *byeEvent  // what it was told to close it
	status  int
}

const sessionKey = "session"

func of(m *melody.Session) *session { return m.MustGet(sessionKey).(*session) }

// newSession reads what a client asks for.
//
// Errors: invalid_request.
func (s *Server) newSession(r *http.Request) (*session, error) {
	session := &session{server: s, id: uuid.NewString(), began: time.Now(), address: s.addressOf(r)}
	query := r.URL.Query()
	if query.Has("since") {
		since, err := strconv.ParseInt(query.Get("since"), 10, 64)
		if err != nil || since < 0 {
			return nil, livestream.Invalid("since", "is the id of an event")
		}
		session.since = &livestream.ChatPosition{Epoch: query.Get("epoch"), ID: since}
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
		session.user = livestream.ChatUser{ID: user.ID, Username: user.Username, DisplayName: user.DisplayName}
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
// Errors: invalid_ticket, rate_limited.
func (s *Server) identify(ctx context.Context, session *session, identity livestream.Identity) error {
	session.identity = &identity
	if err := s.admitUser(session, identity.UserID); err != nil {
		return err
	}
	s.mu.Lock()
	s.sessions[session] = true
	s.mu.Unlock()
	ended, err := s.deps.Logins.Ended(ctx, []uuid.UUID{identity.FamilyID})
	if err == nil && len(ended) > 0 {
		err = livestream.Errorf(livestream.CodeInvalidWebSocketTicket, "the login that asked for the ticket has ended")
	}
	return err
}

// forget undoes what opening a session did. Whoever failed half way is forgotten
// too.
func (s *Server) forget(session *session) {
	if session.room != nil {
		s.leave(session.room, session)
	}
	s.wheel.remove(session)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(session)
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
	m.Request = nil // nobody needs it any more
	conn := m.WebsocketConnection()
	melodys := conn.NetConn().(*quiet) // see hijack.go
	melodys.silenced.Store(true)
	_ = m.Close() // its writer's, which ends; it has no reason to fail
	x.closing.Lock()
	x.out = newOutlet(melodys.Conn, s.config.MaxQueue)
	closing := x.bid != nil // it was logged out on its way in
	if closing {
		x.close()
	}
	x.closing.Unlock()
	if closing {
		return
	}
	conn.SetPingHandler(func(data string) error {
		x.write(encode(opPong, []byte(data)))
		return nil
	})
	s.mu.Lock()
	s.sessions[x] = true
	s.mu.Unlock()
	s.wheel.add(x)
	// What joining takes of a stack is given back: this goroutine's is kept small, for
	// as long as the connection lasts.
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		x.join()
	}()
	<-joined
}

// join sends the welcome and what was missed, and adds the session to what is told.
func (x *session) join() {
	s := x.server
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
	x.unanswered.Store(0)
	s := x.server
	m, refusal := parseMessage(content)
	if wait := x.tooFast(); wait > 0 {
		refusal = refuseMessage(m, codeRateLimited, "you write too fast", wait)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var (
		rules *livestream.ChatRules
		pace  livestream.ChatPace
	)
	if refusal == nil && (x.room == nil || x.identity == nil) {
		refusal = refuseMessage(m, codeReadOnly, "this connection only reads; connect with a ticket to write", 0)
	} else if refusal == nil {
		rules = x.room.rules.Load()
		pace, refusal = x.mayWrite(ctx, m, rules)
	}
	if refusal != nil {
		x.send(event(refusal))
		return
	}
	nonce := ""
	if m.Nonce != "" {
		nonce = x.user.ID.String() + ":" + m.Nonce
	}
	user := x.user
	user.Roles = rules.Roles(user.ID, x.identity.Role)
	said, first, err := s.deps.Events.Append(ctx, livestream.NewChatEvent{
		StreamID: x.room.stream, Nonce: nonce, Type: livestream.ChatMessage, Pace: &pace,
		Body: livestream.ChatMessageBody{User: user, Text: m.Text, SentAt: time.Now().UTC(), Nonce: m.Nonce},
	})
	var tooFast *livestream.ChatTooFast
	switch {
	case errors.As(err, &tooFast) && tooFast.Slow:
		x.send(event(refuseMessage(m, codeSlowMode, "the chat is in slow mode", tooFast.RetryAfter)))
	case errors.As(err, &tooFast):
		x.send(event(refuseMessage(m, codeRateLimited, "you write too fast", tooFast.RetryAfter)))
	case err != nil:
		s.deps.Log.Warn("append a message", zap.Error(err))
		x.send(event(refuseMessage(m, codeUnavailable, "the chat cannot be reached; send it again", 2*time.Second)))
	case !first:
		x.send(said.JSON) // it was said before: the one who asks again gets that
	default:
		s.metrics.messages.Inc()
	}
}

func refuseMessage(m message, code, detail string, retryAfter time.Duration) *errorEvent {
	return &errorEvent{Type: "error", Code: code, Detail: detail, Nonce: m.Nonce, RetryAfter: retryAfter.Seconds()}
}

// burst is how many messages may come at once.
func (c Config) burst() int { return max(1, int(5*c.MessagesPerSecond)) }

// tooFast says how long the client must wait before its next frame.
func (x *session) tooFast() time.Duration {
	config := x.server.config
	if x.limit == nil { // frames come one after the other
		x.limit = rate.NewLimiter(rate.Limit(config.MessagesPerSecond), config.burst())
	}
	now := time.Now()
	r := x.limit.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// send writes events in one frame.
func (x *session) send(events ...json.RawMessage) {
	if len(events) > 0 {
		x.write(encode(opText, frame(events...)))
	}
}

// write sends a frame that is encoded. A client for which too much waits is told,
// behind that, to come back for the rest: nothing is dropped in silence. What goes
// wrong beside that is noticed by the one who reads.
func (x *session) write(encoded []byte) {
	err := x.out.write(encoded)
	if err == nil {
		x.server.metrics.frames.Inc()
	} else if errors.Is(err, errOverflow) {
		x.server.metrics.slow.Inc()
		x.bye(byeSlow, 0)
	}
}

// bye says when to come back, and closes the connection once that is written.
func (x *session) bye(why farewell, after time.Duration) {
	x.closing.Lock()
	defer x.closing.Unlock()
	if x.bid != nil {
		return
	}
	x.bid, x.status = &byeEvent{Type: "bye", Code: why.code, ReconnectAfterMS: after.Milliseconds()}, why.status
	if x.out != nil { // otherwise connect does it
		x.close()
	}
}

// close writes the farewell.
func (x *session) close() {
	x.out.finish(encode(opText, frame(event(x.bid))), encode(opClose, melody.FormatCloseMessage(x.status, x.bid.Code)))
}

// hangUp ends a connection without a word.
func (x *session) hangUp() {
	x.closing.Lock()
	defer x.closing.Unlock()
	if x.out != nil {
		x.out.conn.Close()
	}
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
	for batch := range slices.Chunk(slices.Collect(maps.Keys(families)), lookupBatch) {
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
