package chat

import (
	"context"
	"sync"
	"time"
)

const (
	// pingPeriod finds dead peers; one that has answered none of missedPings is cut
	// off.
	pingPeriod  = 30 * time.Second
	missedPings = 2
	// spokes of the wheel: a connection is at one of them, and each has its turn once
	// a period.
	spokes = 60
)

// wheel pings connections in turn: one timer for all of them.
type wheel struct {
	mu   sync.Mutex
	next int
	at   [spokes]map[*session]struct{}
}

// add gives a session its place.
func (w *wheel) add(x *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x.spoke = w.next
	w.next = (w.next + 1) % spokes
	if w.at[x.spoke] == nil {
		w.at[x.spoke] = map[*session]struct{}{}
	}
	w.at[x.spoke][x] = struct{}{}
}

func (w *wheel) remove(x *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.at[x.spoke], x)
}

func (w *wheel) sessionsAt(spoke int) []*session {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]*session, 0, len(w.at[spoke]))
	for x := range w.at[spoke] {
		list = append(list, x)
	}
	return list
}

var ping = encode(opPing, nil)

// turn pings until ctx ends.
func (w *wheel) turn(ctx context.Context) {
	tick := time.NewTicker(pingPeriod / spokes)
	defer tick.Stop()
	for spoke := 0; ; spoke = (spoke + 1) % spokes {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, x := range w.sessionsAt(spoke) {
			if x.unanswered.Add(1) > missedPings {
				x.hangUp()
			} else {
				x.write(ping)
			}
		}
	}
}
