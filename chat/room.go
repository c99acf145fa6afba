package chat

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// recentEvents is how many events a room keeps for those who are just joining.
const recentEvents = 512

// room is the viewers of one stream on this node. What is said reaches them in
// the order of the events' ids, without gaps: when one is missing, the room reads
// it from the history.
type room struct {
	server  *Server
	stream  uuid.UUID
	channel string
	ready   chan struct{} // closed once the room hears its channel
	err     error         // why it does not
	refs    int           // sessions that are in it or on their way in; under the server's lock

	mu       sync.Mutex
	sessions map[*session]bool
	last     int64                  // id of the last event that was taken
	recent   []livestream.ChatEvent // the last ones, in order
	pending  []livestream.ChatEvent // taken, not written yet
	flushed  time.Time
	timer    *time.Timer
	behind   bool // a catch-up is under way
	count    int64
	told     time.Time // when viewers were last told the count
}

// enter gives a stream's room, and makes it for the first viewer. Whoever entered
// must leave.
func (s *Server) enter(ctx context.Context, stream uuid.UUID) (*room, error) {
	channel := s.deps.Channel(stream)
	s.mu.Lock()
	r, ok := s.rooms[channel]
	if !ok {
		r = &room{server: s, stream: stream, channel: channel, ready: make(chan struct{}), sessions: map[*session]bool{}}
		s.rooms[channel] = r
		go r.listen()
	}
	r.refs++
	s.mu.Unlock()
	err := livestream.Unavailable("the chat", ctx.Err())
	select {
	case <-r.ready:
		if r.err == nil {
			return r, nil
		}
		err = livestream.Unavailable("the chat", r.err)
	case <-ctx.Done():
	}
	r.leave(nil)
	return nil, err
}

// listen makes the room hear its channel, from the history's end on.
func (r *room) listen() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	r.server.subscribing.RLock()
	r.err = r.server.deps.Subscriber.Add(ctx, r.channel)
	r.server.subscribing.RUnlock()
	if r.err == nil {
		var last int64
		last, r.err = r.server.deps.Events.LastID(ctx, r.stream)
		r.mu.Lock()
		r.last = max(r.last, last)
		r.mu.Unlock()
	}
	if r.err != nil {
		r.server.mu.Lock()
		delete(r.server.rooms, r.channel) // the next viewer tries again
		r.server.mu.Unlock()
	}
	close(r.ready)
}

// heard takes the next event. One that is known is dropped; when one is missing,
// the history has it.
func (r *room) heard(e livestream.ChatEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.ready:
	default:
		return // the one who joins reads it from the history
	}
	switch {
	case e.ID <= r.last:
	case e.ID == r.last+1:
		r.take(e)
	default:
		go r.catchUp()
	}
}

// take adds an event to what is to be written. It runs under the lock.
func (r *room) take(e livestream.ChatEvent) {
	r.last = e.ID
	r.recent = append(r.recent, e)
	if len(r.recent) > 2*recentEvents {
		r.recent = slices.Clone(r.recent[len(r.recent)-recentEvents:])
	}
	r.pending = append(r.pending, e)
	if r.timer != nil {
		return
	}
	wait := r.server.config.FlushInterval - time.Since(r.flushed)
	if wait <= 0 {
		r.flush()
		return
	}
	r.timer = time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.timer = nil
		r.flush()
	})
}

// flush writes what is pending: one frame, encoded once, for all but those who
// joined in the middle of it. It runs under the lock.
func (r *room) flush() {
	if len(r.pending) == 0 {
		return
	}
	first := r.pending[0].ID
	var shared []byte
	for session := range r.sessions {
		if session.last >= first {
			session.send(raw(after(r.pending, session.last))...)
		} else {
			if shared == nil {
				shared = frame(raw(r.pending)...)
			}
			session.write(shared)
		}
		session.last = r.last
	}
	r.pending, r.flushed = nil, time.Now()
}

// catchUp reads from the history what the room has missed.
func (r *room) catchUp() {
	r.mu.Lock()
	if r.behind {
		r.mu.Unlock()
		return
	}
	r.behind = true
	last := r.last
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	events, gap, err := r.server.deps.Events.Since(ctx, r.stream, last)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behind = false
	if err != nil {
		r.server.deps.Log.Warn("catch up", zap.Stringer("stream_id", r.stream), zap.Error(err))
		return // the next event tries again
	}
	if gap {
		// The history does not reach back: its viewers ask anew, and learn of it.
		for session := range r.sessions {
			session.bye(byeSlow, closeResume, 0)
		}
		return
	}
	for _, e := range events {
		if e.ID == r.last+1 {
			r.take(e)
		}
	}
}

// join adds a session: first its welcome and what it has missed, then all that
// follows. Between the history and the first frame nothing is lost or doubled.
func (r *room) join(ctx context.Context, session *session) error {
	w := welcome{Type: "welcome", ConnectionID: session.id, Settings: &settings{}}
	events := r.server.deps.Events
	for {
		var (
			missed []livestream.ChatEvent
			gap    bool
			err    error
		)
		switch {
		case session.since != nil:
			missed, gap, err = events.Since(ctx, r.stream, *session.since)
		case session.replay > 0:
			missed, err = events.Last(ctx, r.stream, session.replay)
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		switch {
		case len(missed) > 0:
			session.last = missed[len(missed)-1].ID
		case session.since != nil && !gap:
			session.last = *session.since
		default:
			session.last = r.last
		}
		rest := after(r.recent, session.last)
		if session.last < r.last && (len(rest) == 0 || rest[0].ID != session.last+1) {
			r.mu.Unlock()
			if ctx.Err() != nil {
				return livestream.Unavailable("the chat", ctx.Err())
			}
			continue // more was said meanwhile than the room keeps: read again
		}
		w.Gap, w.Recovered = gap, session.since != nil && !gap
		w.ResumeFrom = session.last
		if len(missed) > 0 {
			w.ResumeFrom = missed[0].ID - 1
		}
		out := append([]json.RawMessage{event(w)}, raw(missed)...)
		session.send(append(out, raw(rest)...)...)
		session.last = r.last
		r.sessions[session] = true
		r.mu.Unlock()
		return nil
	}
}

// leave takes a session out. The last one closes the room.
func (r *room) leave(session *session) {
	s := r.server
	r.mu.Lock()
	delete(r.sessions, session)
	r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	r.refs--
	if r.refs > 0 || s.rooms[r.channel] != r {
		return
	}
	delete(s.rooms, r.channel)
	s.emptied[r.stream] = true
	go s.unsubscribe(r.channel)
}

// unsubscribe stops hearing a channel, unless its room has come back.
func (s *Server) unsubscribe(channel string) {
	s.subscribing.Lock()
	defer s.subscribing.Unlock()
	s.mu.Lock()
	_, back := s.rooms[channel]
	s.mu.Unlock()
	if back {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := s.deps.Subscriber.Remove(ctx, channel); err != nil {
		s.deps.Log.Debug("leave a channel", zap.Error(err))
	}
}

// after gives the events beyond an id.
func after(events []livestream.ChatEvent, id int64) []livestream.ChatEvent {
	i, _ := slices.BinarySearchFunc(events, id+1, func(e livestream.ChatEvent, id int64) int { return int(e.ID - id) })
	return events[i:]
}

func raw(events []livestream.ChatEvent) []json.RawMessage {
	out := make([]json.RawMessage, len(events))
	for i, e := range events {
		out[i] = e.JSON
	}
	return out
}
