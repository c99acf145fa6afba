package chat

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Unsaved are the events that are not kept yet, by stream. What one node claims and
// does not finish in time, another takes over.
type Unsaved interface {
	Claim(ctx context.Context, n int) (livestream.ChatClaim, error)
	Unsaved(ctx context.Context, claim livestream.ChatClaim, n int) (map[uuid.UUID][]livestream.ChatEvent, error)
	Saved(ctx context.Context, claim livestream.ChatClaim, upto map[uuid.UUID]int64, more map[uuid.UUID]bool) error
}

// History keeps events; one that is kept already stays as it is.
type History interface {
	Save(ctx context.Context, events []livestream.ChatSaved) error
}

const (
	// historyPeriod is how often history is written.
	historyPeriod = 500 * time.Millisecond
	// claimStreams are written together, with up to claimEvents of each, in statements
	// of saveBatch events.
	claimStreams = 100
	claimEvents  = 1000
	saveBatch    = 1000
)

// writeHistory takes what was said, on whichever node it was, to where it is kept,
// until ctx ends. Any number of nodes may do so: each event is kept once, and a node
// that dies half way has delayed what it had claimed.
func (s *Server) writeHistory(ctx context.Context) {
	tick := time.NewTicker(historyPeriod)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			more, err = s.writeClaimed(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				s.deps.Log.Warn("write history; it waits in Redis until it can be", zap.Error(err))
			}
			failing = err != nil
		}
	}
}

// writeClaimed writes some of it, and says whether there is more.
func (s *Server) writeClaimed(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	claim, err := s.deps.Unsaved.Claim(ctx, claimStreams)
	if err != nil || len(claim.Streams) == 0 {
		return false, err
	}
	unsaved, err := s.deps.Unsaved.Unsaved(ctx, claim, claimEvents)
	if err != nil {
		return false, err
	}
	var events []livestream.ChatSaved
	again := len(claim.Streams) == claimStreams
	upto, more := map[uuid.UUID]int64{}, map[uuid.UUID]bool{}
	for stream, list := range unsaved {
		for _, e := range list {
			head, err := headOf(string(e.JSON))
			if err != nil {
				return false, err
			}
			events = append(events, livestream.ChatSaved{StreamID: stream, ChatEvent: e, Type: head.Type})
			upto[stream] = e.ID
		}
		more[stream] = len(list) == claimEvents
		again = again || more[stream]
	}
	for batch := range slices.Chunk(events, saveBatch) {
		if err := s.deps.History.Save(ctx, batch); err != nil {
			return false, err
		}
	}
	return again, s.deps.Unsaved.Saved(ctx, claim, upto, more)
}
