package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// inboxReplay is how much a client that comes back gets at most.
	inboxReplay = 1000
	// inboxKnown is how many notifications a connection remembers, so that a push
	// that is repeated is not shown twice.
	inboxKnown = 256
	// pushBatch is how many recipients are looked up in one query.
	pushBatch = 500
)

// serveNotifications opens a member's inbox.
func (s *Server) serveNotifications(w http.ResponseWriter, r *http.Request) {
	if !s.admit(w, r) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	session, err := s.newSession(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, livestream.CodeInvalidRequest, err.(*livestream.Error).Message)
		return
	}
	ticket, err := s.deps.Tickets.Redeem(ctx, r.URL.Query().Get("ticket"))
	if err == nil && ticket.Purpose != livestream.TicketNotifications {
		err = livestream.Errorf(livestream.CodeInvalidWebSocketTicket, "the ticket is for something else")
	}
	if err != nil {
		s.refuseError(w, err)
		return
	}
	session.identity = &ticket.Identity
	session.known = map[uuid.UUID]bool{}
	s.upgrade(w, r, session)
}

// joinInbox adds a session: its welcome and what it has missed come first, pushes
// wait for them.
func (s *Server) joinInbox(ctx context.Context, x *session) error {
	x.mu.Lock()
	defer x.mu.Unlock()
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
	x.last, w.ResumeFrom = last, last
	if x.since != nil {
		missed, err = s.deps.Inboxes.Since(ctx, user, *x.since, inboxReplay+1)
		if err != nil {
			return err
		}
		w.Gap = len(missed) > inboxReplay || *x.since > last
		w.Recovered = !w.Gap
		if w.Gap {
			missed = nil
		} else {
			x.last, w.ResumeFrom = *x.since, *x.since
		}
	}
	x.send(event(w))
	x.tell(missed)
	return nil
}

// tell sends notifications that the connection has not had. It runs under mu.
func (x *session) tell(notifications []livestream.Notification) {
	var events []json.RawMessage
	for _, n := range notifications {
		if x.known[n.ID] {
			continue
		}
		if len(x.known) >= inboxKnown {
			clear(x.known)
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

// push tells those of its recipients who are connected here.
func (s *Server) push(push livestream.NotificationPush) {
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
	for len(recipients) > 0 {
		batch := recipients[:min(pushBatch, len(recipients))]
		recipients = recipients[len(batch):]
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		notifications, err := s.deps.Inboxes.ForRecipients(ctx, push.Key, batch)
		cancel()
		if err != nil {
			s.deps.Log.Warn("read pushed notifications", zap.String("key", push.Key), zap.Error(err))
			return // they are in the inboxes
		}
		for _, n := range notifications {
			for _, session := range s.inboxesOf(n.UserID) {
				session.mu.Lock()
				session.tell([]livestream.Notification{n})
				session.mu.Unlock()
			}
		}
	}
}

func (s *Server) inboxesOf(user uuid.UUID) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sessions []*session
	for session := range s.inboxes[user] {
		sessions = append(sessions, session)
	}
	return sessions
}

// catchUpInbox makes up for pushes that this node could not hear.
func (s *Server) catchUpInbox(session *session) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	session.mu.Lock()
	defer session.mu.Unlock()
	missed, err := s.deps.Inboxes.Since(ctx, session.identity.UserID, session.last, inboxReplay)
	if err != nil {
		s.deps.Log.Warn("catch up an inbox", zap.Error(err))
		return
	}
	session.tell(missed)
}
