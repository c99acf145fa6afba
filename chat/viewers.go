package chat

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
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
			s.countNone()
			return
		}
	}
}

func (s *Server) countOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s.mu.Lock()
	counts, rooms := map[uuid.UUID]int{}, map[uuid.UUID]*room{}
	for stream := range s.emptied {
		counts[stream] = 0
	}
	clear(s.emptied)
	for _, r := range s.rooms {
		rooms[r.stream] = r
	}
	s.mu.Unlock()
	for stream, r := range rooms {
		counts[stream] = r.viewers()
	}
	if len(counts) == 0 {
		return
	}
	totals, err := s.deps.Presence.SetViewers(ctx, s.node, counts)
	if err != nil {
		s.deps.Log.Warn("count viewers", zap.Error(err))
		return
	}
	for stream, r := range rooms {
		r.tellCount(totals[stream])
	}
}

// countNone takes this node's viewers off the counts when it stops.
func (s *Server) countNone() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	s.mu.Lock()
	counts := map[uuid.UUID]int{}
	for _, r := range s.rooms {
		counts[r.stream] = 0
	}
	s.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	if _, err := s.deps.Presence.SetViewers(ctx, s.node, counts); err != nil {
		s.deps.Log.Warn("uncount viewers", zap.Error(err))
	}
}

// viewers counts a room's viewers: a member once, whatever the number of their
// connections, and each connection without a member.
func (r *room) viewers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	members, anonymous := map[uuid.UUID]bool{}, 0
	for session := range r.sessions {
		if session.identity == nil {
			anonymous++
		} else {
			members[session.identity.UserID] = true
		}
	}
	return len(members) + anonymous
}

// tellCount shows the viewers how many they are, when that has changed and not
// too often.
func (r *room) tellCount(count int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if count == r.count || time.Since(r.told) < viewerCountPeriod {
		return
	}
	r.count, r.told = count, time.Now()
	shared := frame(event(viewerCountEvent{Type: "viewer_count", Count: count}))
	for session := range r.sessions {
		session.write(shared)
	}
}
