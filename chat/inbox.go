package chat

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// inboxReplay is how much a client that comes back gets at most.
	inboxReplay = 1000
	// inboxKnown is how many notifications a connection remembers at least, so that
	// a push that is repeated is not shown twice.
	inboxKnown = 256
	// pushBatch is how many recipients are looked up in one query.
	pushBatch = 500
	// inboxPause is how long the inboxes rest when they could not be read.
	inboxPause = time.Second
)

// openInbox checks who asks for their notifications.
func (s *Server) openInbox(ctx context.Context, r *http.Request, session *session) error {
	identity, err := s.redeem(ctx, r, func(ticket livestream.Ticket) bool { return ticket.Purpose == livestream.TicketNotifications })
	if err != nil {
		return err
	}
	session.known = map[uuid.UUID]bool{}
	return s.identify(ctx, session, identity)
}

// joinInbox adds a session. Its welcome and what it has missed come first; pushes
// that arrive meanwhile wait for them.
func (s *Server) joinInbox(ctx context.Context, x *session) error {
	user := x.identity.UserID
	s.mu.Lock()
	if s.inboxes[user] == nil {
		s.inboxes[user] = map[*session]bool{}
	}
	s.inboxes[user][x] = true
	s.mu.Unlock()
	w := welcome{Type: "welcome", ConnectionID: x.id}
	last, err := s.deps.Inboxes.LastSeq(ctx, user)
	if err != nil {
		return err
	}
	var missed []livestream.Notification
	w.ResumeFrom = last
	if x.since != nil {
		missed, err = s.deps.Inboxes.Since(ctx, user, x.since.ID, inboxReplay+1)
		if err != nil {
			return err
		}
		w.Gap = len(missed) > inboxReplay || x.since.ID > last
		w.Recovered = !w.Gap
		if w.Gap {
			missed = nil
		} else {
			w.ResumeFrom = x.since.ID
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last = w.ResumeFrom
	x.send(event(w))
	x.joined = true
	x.tell(append(missed, x.early...))
	x.early = nil
	if x.again {
		s.missedPushes()
	}
	return nil
}

// tell sends the notifications that the connection has not had. It runs under mu.
func (x *session) tell(notifications []livestream.Notification) {
	if !x.joined {
		x.early = append(x.early, notifications...)
		return
	}
	var events []json.RawMessage
	for _, n := range notifications {
		if x.known[n.ID] || x.knownBefore[n.ID] {
			continue
		}
		if len(x.known) >= inboxKnown {
			x.known, x.knownBefore = map[uuid.UUID]bool{}, x.known
		}
		x.known[n.ID] = true
		x.last = max(x.last, n.Seq)
		events = append(events, event(notificationEvent{
			Type: "notification", ID: n.Seq,
			Notification: notificationBody{ID: n.ID.String(), Type: n.Type, Read: n.Read, CreatedAt: n.CreatedAt.UTC(), Data: n.Data},
		}))
	}
	x.send(events...)
}

// serveInboxes tells members of what came into their inboxes, in the order in
// which it was pushed, until ctx ends. What could not be read, or not heard, is
// made up for.
func (s *Server) serveInboxes(ctx context.Context) {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		pushes, missed := s.pushes, s.missed
		s.pushes, s.missed = nil, false
		s.mu.Unlock()
		var err error
		for _, push := range pushes {
			if err = s.push(ctx, push); err != nil {
				break
			}
		}
		if err == nil && missed {
			err = s.catchUpInboxes(ctx)
		}
		if err == nil {
			continue
		}
		s.deps.Log.Warn("read inboxes", zap.Error(err))
		select {
		case <-time.After(inboxPause):
		case <-ctx.Done():
		}
		s.missedPushes()
	}
}

// pushed queues a push.
func (s *Server) pushed(push livestream.NotificationPush) {
	s.mu.Lock()
	s.pushes = append(s.pushes, push)
	s.mu.Unlock()
	s.wakeInboxes()
}

// missedPushes says that there were pushes of which nothing is known.
func (s *Server) missedPushes() {
	s.mu.Lock()
	s.missed = true
	s.mu.Unlock()
	s.wakeInboxes()
}

func (s *Server) wakeInboxes() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// push tells those of its recipients who are connected here.
func (s *Server) push(ctx context.Context, push livestream.NotificationPush) error {
	s.mu.Lock()
	var recipients []uuid.UUID
	if push.User != nil {
		if s.inboxes[*push.User] != nil {
			recipients = append(recipients, *push.User)
		}
	} else if push.Range != nil {
		for user := range s.inboxes {
			if bytes.Compare(user[:], push.Range.After[:]) > 0 && bytes.Compare(user[:], push.Range.Upto[:]) <= 0 {
				recipients = append(recipients, user)
			}
		}
	}
	s.mu.Unlock()
	for batch := range slices.Chunk(recipients, pushBatch) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		notifications, err := s.deps.Inboxes.ForRecipients(ctx, push.Key, push.At, batch)
		cancel()
		if err != nil {
			return err
		}
		slices.SortFunc(notifications, func(a, b livestream.Notification) int { return cmp.Compare(a.Seq, b.Seq) })
		for _, n := range notifications {
			for _, session := range s.inboxesOf(n.UserID) {
				session.mu.Lock()
				session.tell([]livestream.Notification{n})
				session.mu.Unlock()
			}
		}
	}
	return nil
}

func (s *Server) inboxesOf(user uuid.UUID) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.inboxes[user]))
}

// catchUpInboxes makes up for what this node could not hear: pushes, and logins
// that ended.
func (s *Server) catchUpInboxes(ctx context.Context) error {
	if err := s.closeEnded(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	var sessions []*session
	for _, mine := range s.inboxes {
		sessions = slices.AppendSeq(sessions, maps.Keys(mine))
	}
	s.mu.Unlock()
	for _, session := range sessions {
		session.mu.Lock()
		last, joined := session.last, session.joined
		session.again = !joined // what it is just reading may be too old
		session.mu.Unlock()
		if !joined {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		missed, err := s.deps.Inboxes.Since(ctx, session.identity.UserID, last, inboxReplay+1)
		cancel()
		if err != nil {
			return err
		}
		if len(missed) > inboxReplay {
			session.bye(byeResync, 0) // it comes back, and learns of the gap
			continue
		}
		session.mu.Lock()
		session.tell(missed)
		session.mu.Unlock()
	}
	return nil
}
