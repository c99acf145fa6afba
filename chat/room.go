package chat

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// recentEvents is how many events a room keeps for those who are just joining.
const recentEvents = 512

// maxRest is how long the contract lets events wait for others.
const maxRest = 100 * time.Millisecond

// room is the viewers of one stream on this node. What is said reaches them in
// the order of the events' ids, without gaps: when one is missing, the room reads
// it from the history.
//
// Its goroutine, run, lives from the first viewer to the last. A room whose last
// viewer has left takes no new ones: they wait until it is gone and open another.
//
// Locks are taken in this order: writing, mu.
type room struct {
	server  *Server
	stream  uuid.UUID
	channel string
	refs    int           // sessions that are in it or on their way in; under the server's lock
	ready   chan struct{} // closed once the room hears its channel, or err says why not
	err     error
	behind  chan struct{} // holds a value when events may be missing
	stale   chan struct{} // holds a value when the rules may have changed
	empty   chan struct{} // closed once the last viewer has left
	gone    chan struct{} // closed once the channel is left too
	rules   atomic.Pointer[livestream.ChatRules]

	// mu is held for moments only: the one who hears all rooms takes it.
	mu      sync.Mutex
	started bool // at is where the history ended when the room began to hear
	epoch   string
	last    int64                  // id of the last event that was taken
	recent  []livestream.ChatEvent // the last ones, in order
	pending []livestream.ChatEvent // taken, not written yet; the end of recent
	flushed time.Time
	due     bool // a flush was ordered
	ended   bool // the stream has

	// writing is held while the viewers are written to, one after the other.
	writing  sync.Mutex
	sessions map[*session]struct{}
	count    int64
	told     time.Time // when viewers were last told the count
	opened   []livestream.ChatConnection
	closed   []string
	retell   bool
}

// enter gives a stream's room, and makes it for the first viewer. Whoever entered
// must leave.
//
// Errors: unavailable, stream_not_found.
func (s *Server) enter(ctx context.Context, stream uuid.UUID) (*room, error) {
	channel := s.deps.Channel(stream)
	for {
		s.mu.Lock()
		r := s.rooms[channel]
		if r == nil {
			r = &room{
				server: s, stream: stream, channel: channel, sessions: map[*session]struct{}{},
				ready: make(chan struct{}), behind: make(chan struct{}, 1), stale: make(chan struct{}, 1), empty: make(chan struct{}), gone: make(chan struct{}),
			}
			s.rooms[channel] = r
			go r.run() //nolint:contextcheck // the room outlives the viewer who opens it
		} else if r.refs == 0 {
			s.mu.Unlock()
			select {
			case <-r.gone:
				continue
			case <-ctx.Done():
				return nil, livestream.Unavailable("the chat", ctx.Err())
			}
		}
		r.refs++
		s.mu.Unlock()
		var err error
		select {
		case <-r.ready:
			err = r.err
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			s.leave(r, nil)
			if livestream.CodeOf(err) == livestream.CodeInternal {
				err = livestream.Unavailable("the chat", err)
			}
			return nil, err
		}
		return r, nil
	}
}

// leave takes a session out, or one that never came in. The last one closes the
// room.
func (s *Server) leave(r *room, session *session) {
	r.writing.Lock()
	if _, in := r.sessions[session]; in {
		delete(r.sessions, session)
		r.closed = append(r.closed, session.id)
	}
	r.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.refs--; r.refs == 0 {
		close(r.empty)
	}
}

// run hears the room's channel as long as somebody is in it.
func (r *room) run() {
	s := r.server
	r.err = r.listen()
	close(r.ready)
	for open := true; open; {
		select {
		case <-r.behind:
			r.catchUp()
		case <-r.stale:
			r.readRules()
		case <-r.empty:
			open = false
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := s.deps.Subscriber.Remove(ctx, r.channel); err != nil {
		s.deps.Log.Debug("leave a channel", zap.Error(err))
	}
	r.writing.Lock()
	closed := r.closed
	r.writing.Unlock()
	s.mu.Lock()
	delete(s.rooms, r.channel)
	s.emptied[r.stream] = append(s.emptied[r.stream], closed...)
	s.mu.Unlock()
	close(r.gone)
}

// listen makes the room hear its channel, from the history's end on.
func (r *room) listen() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	deps := r.server.deps
	if err := deps.Subscriber.Add(ctx, r.channel); err != nil {
		return err
	}
	at, err := deps.Events.Position(ctx, r.stream)
	if err != nil {
		return err
	}
	// The stream's state and the rules are read after the channel is heard: they
	// cannot change unseen.
	rules, err := deps.Rules.Rules(ctx, r.stream)
	if err != nil {
		return err
	}
	r.rules.Store(&rules)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.epoch, r.started = max(r.last, at.ID), at.Epoch, true
	r.ended = r.ended || rules.Ended
	return nil
}

// heard takes the next event. One that is known is dropped; when one is missing, or
// another has its id, the history says what there is.
func (r *room) heard(e livestream.ChatEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.started: // nobody is here yet: whoever joins reads it from the history
		r.last = max(r.last, e.ID)
		r.note(e)
	case e.ID == r.last+1:
		r.take(e)
	case e.ID > r.last, !r.knows(e):
		r.missed()
	}
}

// knows says whether an event, as far back as the room remembers, is the one that
// it took by that id. Two events have one id when Redis has lost its last ones. It
// runs under mu.
func (r *room) knows(e livestream.ChatEvent) bool {
	known := after(r.recent, e.ID-1)
	return len(known) == 0 || known[0].ID != e.ID || bytes.Equal(known[0].JSON, e.JSON)
}

// missed makes the room read its history.
func (r *room) missed() { signal(r.behind) }

// rulesChanged makes the room read its rules.
func (r *room) rulesChanged() { signal(r.stale) }

// signal leaves a value for one who will look.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one
	}
}

// take adds an event to what is to be written. It runs under mu.
func (r *room) take(e livestream.ChatEvent) {
	r.note(e)
	r.last = e.ID
	r.recent = append(r.recent, e)
	if len(r.recent) > 2*recentEvents {
		r.recent = slices.Clone(r.recent[len(r.recent)-recentEvents:])
	}
	r.pending = append(r.pending, e)
	if r.epoch == "" { // the chat's first event began its first epoch, which the history knows
		r.missed()
	}
	if r.due {
		return
	}
	r.due = true
	// All nodes hear a message at the same time. That they rest differently spreads
	// their writing: those who are told last are not told when all of them are.
	rest := r.server.config.FlushInterval
	rest += rand.N(max(min(rest/2, maxRest-rest), 0) + 1)
	if wait := rest - time.Since(r.flushed); wait > 0 {
		time.AfterFunc(wait, r.flush)
	} else {
		go r.flush()
	}
}

// note acts on what an event tells. It runs under mu.
func (r *room) note(e livestream.ChatEvent) {
	head, err := headOf(string(e.JSON))
	if err != nil {
		return
	}
	switch head.Type {
	case livestream.ChatStreamStatus:
		r.ended = head.Status == livestream.StreamEnded
	case livestream.ChatSettingsEvent, livestream.ChatUserBanned, livestream.ChatUserUnbanned:
		r.rulesChanged()
	}
}

func (r *room) hasEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// flush writes what is pending: one frame, encoded once, for all but those who
// joined in the middle of it.
func (r *room) flush() {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	pending := r.pending
	r.pending, r.due, r.flushed = nil, false, time.Now()
	r.mu.Unlock()
	if len(pending) == 0 {
		return
	}
	first, last := pending[0].ID, pending[len(pending)-1].ID
	shared := encode(opText, frame(raw(pending)...))
	for session := range r.sessions {
		if session.last < first {
			session.write(shared)
		} else {
			session.send(raw(after(pending, session.last))...)
		}
		session.last = max(session.last, last)
	}
	if len(r.sessions) > 0 {
		r.server.metrics.delivered(pending)
	}
}

// after gives the events beyond an id.
func after(events []livestream.ChatEvent, id int64) []livestream.ChatEvent {
	i, _ := slices.BinarySearchFunc(events, id+1, func(e livestream.ChatEvent, id int64) int { return cmp.Compare(e.ID, id) })
	return events[i:]
}

func raw(events []livestream.ChatEvent) []json.RawMessage {
	out := make([]json.RawMessage, len(events))
	for i, e := range events {
		out[i] = e.JSON
	}
	return out
}
