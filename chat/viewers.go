package chat

import (
	"context"
	"maps"
	"slices"
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
		counts[r.stream] = r.viewers()
	}
	totals, err := s.tellPresence(ctx, counts)
	if err != nil {
		s.deps.Log.Warn("count viewers", zap.Error(err))
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
		counts[r.stream] = 0
	}
	if _, err := s.tellPresence(ctx, counts); err != nil {
		s.deps.Log.Warn("uncount viewers", zap.Error(err))
	}
}

// takeCounts gives the rooms there are, and a count of 0 for those that were
// emptied since it was last told.
func (s *Server) takeCounts() ([]*room, map[uuid.UUID]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[uuid.UUID]int, len(s.emptied)+len(s.rooms))
	for stream := range s.emptied {
		counts[stream] = 0
	}
	clear(s.emptied)
	return slices.Collect(maps.Values(s.rooms)), counts
}

// tellPresence tells the counts; what was not told, and is 0, is told again.
func (s *Server) tellPresence(ctx context.Context, counts map[uuid.UUID]int) (map[uuid.UUID]int64, error) {
	if len(counts) == 0 {
		return nil, nil
	}
	totals, err := s.deps.Presence.SetViewers(ctx, s.node, counts)
	if err == nil {
		return totals, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for stream, count := range counts {
		if count == 0 {
			s.emptied[stream] = true
		}
	}
	return nil, err
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
