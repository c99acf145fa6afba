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

const (
	// recentEvents is how many events a room keeps for those who are just joining.
	recentEvents = 512
	// catchUpPause is how long a room rests when its history could not be read.
	catchUpPause = 500 * time.Millisecond
	// joinPause is how long one who joins waits for the room and its history to
	// agree.
	joinPause = 20 * time.Millisecond
)

// room is the viewers of one stream on this node. What is said reaches them in
// the order of the events' ids, without gaps: when one is missing, the room reads
// it from the history.
//
// Its goroutine, run, lives from the first viewer to the last. A room whose last
// viewer has left takes no new ones: they wait until it is gone and open another.
type room struct {
	server  *Server
	stream  uuid.UUID
	channel string
	refs    int           // sessions that are in it or on their way in; under the server's lock
	ready   chan struct{} // closed once the room hears its channel, or err says why not
	err     error
	behind  chan struct{} // holds a value when events may be missing
	empty   chan struct{} // closed once the last viewer has left
	gone    chan struct{} // closed once the channel is left too

	mu       sync.Mutex
	started  bool // last is where the history ended when the room began to hear
	sessions map[*session]bool
	last     int64                  // id of the last event that was taken
	recent   []livestream.ChatEvent // the last ones, in order
	pending  []livestream.ChatEvent // taken, not written yet
	flushed  time.Time
	timer    *time.Timer
	ended    bool // the stream has
	count    int64
	told     time.Time // when viewers were last told the count
}

// enter gives a stream's room, and makes it for the first viewer. Whoever entered
// must leave.
//
// Errors: unavailable.
func (s *Server) enter(ctx context.Context, stream uuid.UUID) (*room, error) {
	channel := s.deps.Channel(stream)
	for {
		s.mu.Lock()
		r := s.rooms[channel]
		if r == nil {
			r = &room{
				server: s, stream: stream, channel: channel, sessions: map[*session]bool{},
				ready: make(chan struct{}), behind: make(chan struct{}, 1), empty: make(chan struct{}), gone: make(chan struct{}),
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
			return nil, livestream.Unavailable("the chat", err)
		}
		return r, nil
	}
}

// leave takes a session out, or one that never came in. The last one closes the
// room.
func (s *Server) leave(r *room, session *session) {
	r.mu.Lock()
	delete(r.sessions, session)
	r.mu.Unlock()
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
		case <-r.empty:
			open = false
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := s.deps.Subscriber.Remove(ctx, r.channel); err != nil {
		s.deps.Log.Debug("leave a channel", zap.Error(err))
	}
	s.mu.Lock()
	delete(s.rooms, r.channel)
	s.emptied[r.stream] = true
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
	last, err := deps.Events.LastID(ctx, r.stream)
	if err != nil {
		return err
	}
	// The stream's state is read after the channel is heard: it cannot end unseen.
	stream, err := deps.Streams.ByID(ctx, r.stream)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.started = max(r.last, last), true
	r.ended = r.ended || stream.Status == livestream.StreamEnded
	return nil
}

// heard takes the next event. One that is known is dropped; when one is missing,
// the history has it.
func (r *room) heard(e livestream.ChatEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.started: // nobody is here yet: whoever joins reads it from the history
		r.last = max(r.last, e.ID)
		r.noteEnd(e)
	case e.ID == r.last+1:
		r.take(e)
	case e.ID > r.last:
		r.missed()
	}
}

// missed makes the room read its history.
func (r *room) missed() {
	select {
	case r.behind <- struct{}{}:
	default: // it will read it anyway
	}
}

// take adds an event to what is to be written. It runs under the lock.
func (r *room) take(e livestream.ChatEvent) {
	r.noteEnd(e)
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

// noteEnd notes that the stream has ended, when the event tells of it.
func (r *room) noteEnd(e livestream.ChatEvent) {
	var head struct {
		Type   livestream.ChatEventType `json:"type"`
		Status livestream.StreamStatus  `json:"status"`
	}
	if json.Unmarshal(e.JSON, &head) == nil && head.Type == livestream.ChatStreamStatus {
		r.ended = head.Status == livestream.StreamEnded
	}
}

func (r *room) hasEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
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
		session.last = max(session.last, r.last)
	}
	r.pending, r.flushed = nil, time.Now()
}

// catchUp reads from the history what the room has missed. It tries until that
// has worked or nobody is there any more.
func (r *room) catchUp() {
	for {
		err := r.readMissed()
		if err == nil {
			return
		}
		r.server.deps.Log.Warn("catch up", zap.Stringer("stream_id", r.stream), zap.Error(err))
		select {
		case <-time.After(catchUpPause):
		case <-r.empty:
			return
		}
	}
}

func (r *room) readMissed() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	events, gap, err := r.server.deps.Events.Since(ctx, r.stream, last)
	if err != nil {
		return err
	}
	if gap {
		return r.restart(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if e.ID == r.last+1 {
			r.take(e)
		}
	}
	return nil
}

// restart goes on at the history's end when it does not reach back to where the
// room was, or has lost what the room knows. The viewers come back by themselves
// and learn of the gap.
func (r *room) restart(ctx context.Context) error {
	last, err := r.server.deps.Events.LastID(ctx, r.stream)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush()
	r.last, r.recent = last, nil
	for session := range r.sessions {
		session.bye(byeResync, jitter())
	}
	r.missed() // what was said since last was read
	return nil
}

// join adds a session: first its welcome and what it has missed, then all that
// follows. Between the history and the first frame nothing is lost or doubled.
func (r *room) join(ctx context.Context, session *session) error {
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
		if r.welcome(session, missed, gap) {
			return nil
		}
		select {
		case <-time.After(joinPause):
		case <-ctx.Done():
			return livestream.Unavailable("the chat", ctx.Err())
		}
	}
}

// welcome adds a session that has missed these events. It is false when more was
// said since they were read than the room keeps.
func (r *room) welcome(session *session, missed []livestream.ChatEvent, gap bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := welcome{Type: "welcome", ConnectionID: session.id, Gap: gap, Recovered: session.since != nil && !gap, Settings: &settings{}}
	last := r.last
	switch {
	case len(missed) > 0:
		w.ResumeFrom, last = missed[0].ID-1, missed[len(missed)-1].ID
	case w.Recovered:
		w.ResumeFrom, last = *session.since, *session.since
	default:
		w.ResumeFrom = last
	}
	rest := after(r.recent, last)
	if last < r.last && (len(rest) == 0 || rest[0].ID != last+1) {
		return false
	}
	// The history may be ahead of what the room has heard; that is not written again.
	session.last = max(last, r.last)
	out := append([]json.RawMessage{event(w)}, raw(missed)...)
	out = append(out, raw(rest)...)
	if !r.told.IsZero() {
		out = append(out, event(viewerCountEvent{Type: "viewer_count", Count: r.count}))
	}
	session.send(out...)
	r.sessions[session] = true
	return true
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
