package chat

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// drainPause is between two clients that are sent away, when there is time.
	drainPause = 100 * time.Millisecond
	// drainStep is how often clients are sent away.
	drainStep = 10 * time.Millisecond
	// reconnectSpread is how long a client that is sent away waits at most, beside a
	// second.
	reconnectSpread = 2 * time.Second
)

// Drain sends everybody to other nodes: no new connections, for each a bye with a
// time to come back, spread over the drain's time so that the other nodes are not
// flooded, and the end once all have gone or ctx ends.
func (s *Server) Drain(ctx context.Context) {
	s.draining.Store(true)
	s.mu.Lock()
	sessions := slices.Collect(maps.Keys(s.sessions))
	s.mu.Unlock()
	spread := min(s.config.DrainTime, time.Duration(len(sessions))*drainPause)
	began, sent := time.Now(), 0
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for s.open.Load() > 0 {
		due := len(sessions)
		if passed := time.Since(began); passed < spread {
			due = int(int64(len(sessions)) * int64(passed) / int64(spread))
		}
		for ; sent < due; sent++ {
			sessions[sent].bye(byeDraining, time.Second+rand.N(reconnectSpread))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, session := range sessions { // whoever is left
				session.bye(byeDraining, time.Second+rand.N(reconnectSpread))
				session.hangUp()
			}
			return
		}
	}
}
