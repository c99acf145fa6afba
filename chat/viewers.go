package chat

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	presencePeriod    = 2 * time.Second
	viewerCountPeriod = 5 * time.Second
)

// countViewers tells Redis how many viewers this node has, and the viewers how
// many there are in all.
func (s *Server) countViewers(ctx context.Context) {
	tick := time.NewTicker(presencePeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.countOnce(ctx)
		case <-ctx.Done():
			s.countNone(ctx)
			return
		}
	}
}

func (s *Server) countOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rooms, counts := s.takeCounts()
	for _, r := range rooms {
		counts[r.stream] = r.takeViewers()
	}
	totals, err := s.tellPresence(ctx, counts)
	if err != nil {
		s.deps.Log.Warn("count viewers", zap.Error(err))
		for _, r := range rooms {
			r.retellConnections() // some of them may have been told, which does no harm
		}
		return
	}
	for _, r := range rooms {
		r.tellCount(totals[r.stream])
	}
}

// countNone takes this node's viewers off the counts when it stops.
func (s *Server) countNone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	rooms, counts := s.takeCounts()
	for _, r := range rooms {
		counts[r.stream] = r.takeNone()
	}
	if _, err := s.tellPresence(ctx, counts); err != nil {
		s.deps.Log.Warn("uncount viewers", zap.Error(err))
	}
}

// takeCounts gives the rooms there are, and a count of 0 for those that were
// emptied since it was last told.
func (s *Server) takeCounts() ([]*room, map[uuid.UUID]livestream.ChatViewers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[uuid.UUID]livestream.ChatViewers, len(s.emptied)+len(s.rooms))
	for stream, closed := range s.emptied {
		counts[stream] = livestream.ChatViewers{Closed: closed}
	}
	clear(s.emptied)
	return slices.Collect(maps.Values(s.rooms)), counts
}

// tellPresence tells the counts; what was not told, and is 0, is told again.
func (s *Server) tellPresence(ctx context.Context, counts map[uuid.UUID]livestream.ChatViewers) (map[uuid.UUID]int64, error) {
	if len(counts) == 0 {
		return nil, nil
	}
	totals, err := s.deps.Presence.SetViewers(ctx, s.node, counts)
	if err == nil {
		return totals, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for stream, viewers := range counts {
		if viewers.Count == 0 {
			s.emptied[stream] = append(s.emptied[stream], viewers.Closed...)
		}
	}
	return nil, err
}

// takeViewers counts a room's viewers: a member once, whatever the number of their
// connections, and each connection without a member. It takes which connections
// were opened and closed since it was last asked.
func (r *room) takeViewers() livestream.ChatViewers {
	r.writing.Lock()
	defer r.writing.Unlock()
	members, anonymous := map[uuid.UUID]bool{}, 0
	for session := range r.sessions {
		if session.identity == nil {
			anonymous++
		} else {
			members[session.identity.UserID] = true
		}
	}
	v := livestream.ChatViewers{Count: len(members) + anonymous, Opened: r.opened, Closed: r.closed}
	if r.retell {
		v.Opened = nil
		for session := range r.sessions {
			v.Opened = append(v.Opened, session.connection())
		}
		r.retell = false
	}
	r.opened, r.closed = nil, nil
	return v
}

// takeNone is takeViewers for a node that stops: nobody is here any more.
func (r *room) takeNone() livestream.ChatViewers {
	r.writing.Lock()
	defer r.writing.Unlock()
	v := livestream.ChatViewers{Closed: r.closed}
	for session := range r.sessions {
		v.Closed = append(v.Closed, session.id)
	}
	return v
}

// retellConnections makes the room tell of all of its connections, because what it
// told before may be lost.
func (r *room) retellConnections() {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.retell = true
}

func (x *session) connection() livestream.ChatConnection {
	c := livestream.ChatConnection{ID: x.id, Since: x.began}
	if x.identity != nil {
		c.UserID = x.identity.UserID
	}
	return c
}

// tellCount shows the viewers how many they are, when that has changed and not
// too often.
func (r *room) tellCount(count int64) {
	r.writing.Lock()
	defer r.writing.Unlock()
	if count == r.count || time.Since(r.told) < viewerCountPeriod {
		return
	}
	r.count, r.told = count, time.Now()
	shared := encode(opText, frame(event(viewerCountEvent{Type: "viewer_count", Count: count})))
	for session := range r.sessions {
		session.write(shared)
	}
}
