package chat

import (
	"bytes"
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
	// inboxReplay is how many numbers behind a client that comes back may be.
	inboxReplay = 1000
	// inboxPage is how much of one inbox is read at once.
	inboxPage = 100
	// lookupBatch is how many members, or logins, are looked up in one query.
	lookupBatch = 500
	// maxPushes is how many pushes wait. When there are more, it takes less to look
	// into the inboxes of all who are connected.
	maxPushes = 256
	// inboxPause is how long the inboxes rest when they could not be read.
	inboxPause = time.Second
)

// openInbox checks who asks for their notifications.
func (s *Server) openInbox(ctx context.Context, r *http.Request, session *session) error {
	identity, err := s.redeem(ctx, r, func(ticket livestream.Ticket) bool { return ticket.Purpose == livestream.TicketNotifications })
	if err != nil {
		return err
	}
	return s.identify(ctx, session, identity)
}

// joinInbox adds a session. Its welcome and what it has missed come first; what it is
// pushed meanwhile is looked for after that.
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
		w.Gap = x.since.ID > last || x.since.ID < last-inboxReplay
		w.Recovered = !w.Gap
	}
	if w.Recovered {
		w.ResumeFrom = x.since.ID
		missed, err = s.deps.Inboxes.Since(ctx, map[uuid.UUID]int64{user: x.since.ID}, inboxReplay)
		if err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last = w.ResumeFrom
	x.send(event(w))
	x.tell(missed)
	x.joined = true
	if x.again {
		s.pushed(livestream.NotificationPush{User: &user})
	}
	return nil
}

// tell sends the notifications that the connection has not had. It runs under mu.
func (x *session) tell(notifications []livestream.Notification) {
	var events []json.RawMessage
	for _, n := range notifications {
		if n.Seq <= x.last {
			continue
		}
		x.last = n.Seq
		events = append(events, event(notificationEvent{
			Type: "notification", ID: n.Seq,
			Notification: notificationBody{ID: n.ID.String(), Type: n.Type, Read: n.Read, CreatedAt: n.CreatedAt.UTC(), Data: n.Data},
		}))
	}
	x.send(events...)
}

// serveInboxes tells members of what comes into their inboxes until ctx ends. A push
// says who may have news, and nothing of what: that is read from the inbox, from
// where a connection's last one was. So it does not matter which pushes are lost,
// late or doubled: the next one, or a catch-up, brings all.
func (s *Server) serveInboxes(ctx context.Context) {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		err := s.tellNews(ctx)
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
	if len(s.pushes) == maxPushes {
		s.pushes, s.missed = nil, true
	}
	if !s.missed { // otherwise everybody is looked up
		s.pushes = append(s.pushes, push)
	}
	s.mu.Unlock()
	s.wakeInboxes()
}

// missedPushes says that there were pushes of which nothing is known.
func (s *Server) missedPushes() {
	s.mu.Lock()
	s.pushes, s.missed = nil, true
	s.mu.Unlock()
	s.wakeInboxes()
}

func (s *Server) wakeInboxes() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// tellNews tells all that were pushed to, or everybody when pushes were missed.
func (s *Server) tellNews(ctx context.Context) error {
	s.mu.Lock()
	pushes, missed := s.pushes, s.missed
	s.pushes, s.missed = nil, false
	s.mu.Unlock()
	if missed {
		return s.catchUpInboxes(ctx)
	}
	recipients := map[uuid.UUID]bool{}
	for _, push := range pushes {
		users, err := s.recipients(ctx, push)
		if err != nil {
			return err
		}
		for _, user := range users {
			recipients[user] = true
		}
	}
	return s.tellInboxes(ctx, slices.Collect(maps.Keys(recipients)))
}

// recipients are those of a push's, as far as they are connected here.
func (s *Server) recipients(ctx context.Context, push livestream.NotificationPush) ([]uuid.UUID, error) {
	if push.User != nil {
		return []uuid.UUID{*push.User}, nil
	}
	if push.Range == nil {
		return nil, nil
	}
	s.mu.Lock()
	var within []uuid.UUID
	for user := range s.inboxes {
		if bytes.Compare(user[:], push.Range.After[:]) > 0 && bytes.Compare(user[:], push.Range.Upto[:]) <= 0 {
			within = append(within, user)
		}
	}
	s.mu.Unlock()
	// Who is here may follow somebody else. An older worker does not say whom.
	if int64(len(within)) <= push.Range.Count || push.CreatorID == uuid.Nil {
		return within, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	followers, err := s.deps.Inboxes.FollowersIn(ctx, push.CreatorID, *push.Range, len(within))
	if err != nil || len(followers) == len(within) { // or it has grown meanwhile
		return within, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(followers, func(user uuid.UUID) bool { return s.inboxes[user] == nil }), nil
}

// catchUpInboxes makes up for what this node could not hear: pushes, and logins
// that ended.
func (s *Server) catchUpInboxes(ctx context.Context) error {
	if err := s.closeEnded(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	users := slices.Collect(maps.Keys(s.inboxes))
	s.mu.Unlock()
	return s.tellInboxes(ctx, users)
}

// tellInboxes tells members of all that their connections have not had.
func (s *Server) tellInboxes(ctx context.Context, users []uuid.UUID) error {
	for batch := range slices.Chunk(users, lookupBatch) {
		for len(batch) > 0 {
			var err error
			if batch, err = s.tellPage(ctx, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellPage tells members of the next that their connections have not had, and gives
// those who may have more.
func (s *Server) tellPage(ctx context.Context, users []uuid.UUID) ([]uuid.UUID, error) {
	sessions, since := map[uuid.UUID][]*session{}, map[uuid.UUID]int64{}
	for _, user := range users {
		for _, session := range s.inboxesOf(user) {
			session.mu.Lock()
			last, joined := session.last, session.joined
			session.again = !joined // what it is just reading may be too old
			session.mu.Unlock()
			if !joined {
				continue
			}
			if len(sessions[user]) > 0 {
				last = min(last, since[user])
			}
			sessions[user], since[user] = append(sessions[user], session), last
		}
	}
	if len(since) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	news, err := s.deps.Inboxes.Since(ctx, since, inboxPage)
	if err != nil {
		return nil, err
	}
	of := map[uuid.UUID][]livestream.Notification{}
	for _, n := range news {
		of[n.UserID] = append(of[n.UserID], n)
	}
	var more []uuid.UUID
	for user, news := range of {
		for _, session := range sessions[user] {
			session.mu.Lock()
			session.tell(news)
			session.mu.Unlock()
		}
		if len(news) == inboxPage {
			more = append(more, user)
		}
	}
	return more, nil
}

func (s *Server) inboxesOf(user uuid.UUID) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.inboxes[user]))
}
