package chat

import (
	"bytes"
	"context"
	"time"

	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// catchUpPause is how long a room rests when its history or its rules could not be
// read.
const catchUpPause = 500 * time.Millisecond

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
	at := livestream.ChatPosition{Epoch: r.epoch, ID: r.last}
	var latest *livestream.ChatEvent
	if len(r.recent) > 0 {
		latest = &r.recent[len(r.recent)-1]
	}
	r.mu.Unlock()
	events, now, gap, err := r.server.deps.Events.Since(ctx, r.stream, at)
	if err != nil {
		return err
	}
	if !gap && latest != nil {
		kept, err := r.server.deps.Events.ByID(ctx, r.stream, latest.ID)
		if err != nil {
			return err
		}
		if kept != nil && !bytes.Equal(kept.JSON, latest.JSON) { // another has taken its id
			now.ID, gap = 0, true
		}
	}
	if gap {
		return r.restart(ctx, at, now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch = now.Epoch // a chat's first event begins its first one
	for _, e := range events {
		if e.ID == r.last+1 {
			r.take(e)
		}
	}
	return nil
}

// restart goes on at the history's end when it does not reach back to where the
// room was, or has lost what the room knows: then a new epoch begins. The viewers
// come back by themselves and learn of the gap.
func (r *room) restart(ctx context.Context, was, now livestream.ChatPosition) error {
	events := r.server.deps.Events
	if now.Epoch == was.Epoch && now.ID < was.ID {
		if err := events.NewEpoch(ctx, r.stream, was); err != nil {
			return err
		}
	}
	at, err := events.Position(ctx, r.stream)
	if err != nil {
		return err
	}
	r.flush()
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	r.last, r.epoch, r.recent, r.pending = at.ID, at.Epoch, nil, nil
	r.mu.Unlock()
	for session := range r.sessions {
		session.bye(byeResync, jitter())
	}
	r.missed() // what was said since was read
	return nil
}
