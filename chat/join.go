package chat

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// joinPause is how long one who joins waits for the room and its history to agree.
const joinPause = 20 * time.Millisecond

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
			missed, _, gap, err = events.Since(ctx, r.stream, *session.since)
		case session.replay > 0:
			missed, err = events.Last(ctx, r.stream, 0, session.replay)
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
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	w := welcome{
		Type: "welcome", ConnectionID: session.id, Epoch: r.epoch, Gap: gap, Recovered: session.since != nil && !gap, Settings: r.settingsFor(session),
	}
	last, end := r.last, r.last
	switch {
	case len(missed) > 0:
		w.ResumeFrom, last = missed[0].ID-1, missed[len(missed)-1].ID
	case w.Recovered:
		w.ResumeFrom, last = session.since.ID, session.since.ID
	default:
		w.ResumeFrom = last
	}
	rest := slices.Clone(after(r.recent, last))
	r.mu.Unlock()
	if last < end && (len(rest) == 0 || rest[0].ID != last+1) {
		return false
	}
	// The history may be ahead of what the room has heard; that is not written again.
	session.last = max(last, end)
	out := append([]json.RawMessage{event(w)}, visible(append(slices.Clone(missed), rest...))...)
	if !r.told.IsZero() {
		out = append(out, event(viewerCountEvent{Type: "viewer_count", Count: r.count}))
	}
	session.send(out...)
	r.sessions[session] = struct{}{}
	r.opened = append(r.opened, session.connection())
	return true
}

// settingsFor are the chat's modes as a session may see them.
func (r *room) settingsFor(x *session) *settings {
	rules := r.rules.Load()
	shown := &settings{ChatSettings: rules.Settings.Public()}
	if x.identity != nil && len(rules.Roles(x.identity.UserID, x.identity.Role)) > 0 {
		terms := append([]string{}, rules.Settings.BlockedTerms...)
		shown.BlockedTerms = &terms
	}
	return shown
}

// visible are events that are told again, without the messages that were deleted
// meanwhile: each of them is told of further on.
func visible(events []livestream.ChatEvent) []json.RawMessage {
	var deleted map[int64]bool
	for _, e := range events {
		if head, err := headOf(string(e.JSON)); err == nil && head.Type == livestream.ChatMessageDeleted {
			if deleted == nil {
				deleted = map[int64]bool{}
			}
			deleted[head.MessageID] = true
		}
	}
	out := make([]json.RawMessage, 0, len(events))
	for _, e := range events {
		if !deleted[e.ID] {
			out = append(out, e.JSON)
		}
	}
	return out
}
