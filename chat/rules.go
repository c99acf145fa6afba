package chat

import (
	"context"
	"time"

	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// readRules reads the rules until that has worked or nobody is there any more, and
// closes what those who are banned have open.
func (r *room) readRules() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		rules, err := r.server.deps.Rules.Rules(ctx, r.stream)
		cancel()
		if err == nil {
			if was := r.rules.Swap(&rules); was != nil {
				r.closeBanned(*was, rules)
			}
			return
		}
		r.server.deps.Log.Warn("read a chat's rules", zap.Stringer("stream_id", r.stream), zap.Error(err))
		select {
		case <-time.After(catchUpPause):
		case <-r.empty:
			return
		}
	}
}

// closeBanned closes the connections of those who were banned since.
func (r *room) closeBanned(was, rules livestream.ChatRules) {
	now := time.Now()
	r.flush() // they read of it
	r.writing.Lock()
	defer r.writing.Unlock()
	for session := range r.sessions {
		if id := session.identity; id != nil && rules.Banned(id.UserID, now) && !was.Banned(id.UserID, now) {
			session.bye(byeBanned, 0)
		}
	}
}

// followedFor is how long a follower is taken to be one.
const followedFor = time.Second

// mayWrite checks a message against the chat's rules, and says at what pace its
// sender may write. Modes do not concern those who set them.
func (x *session) mayWrite(ctx context.Context, m message, rules *livestream.ChatRules) (livestream.ChatPace, *errorEvent) {
	config, now := x.server.config, time.Now()
	pace := livestream.ChatPace{UserID: x.user.ID, Every: time.Duration(float64(time.Second) / config.MessagesPerSecond), Burst: config.burst()}
	if x.room.hasEnded() {
		return pace, refuseMessage(m, codeReadOnly, "the stream has ended", 0)
	}
	if rules.Banned(x.user.ID, now) {
		var wait time.Duration
		if until := rules.Bans[x.user.ID]; until != nil {
			wait = until.Sub(now)
		}
		return pace, refuseMessage(m, codeBanned, "you may not write in this chat", wait)
	}
	if len(rules.Roles(x.user.ID, x.identity.Role)) > 0 {
		return pace, nil
	}
	pace.Slow = time.Duration(rules.Settings.SlowModeSeconds) * time.Second
	if rules.Settings.Blocked(m.Text) {
		return pace, refuseMessage(m, codeBlockedTerm, "the message has a term that is blocked here", 0)
	}
	if rules.Settings.FollowersOnly && now.Sub(x.followed) > followedFor {
		at, err := x.server.deps.Rules.FollowedAt(ctx, x.user.ID, rules.OwnerID)
		if err != nil {
			x.server.deps.Log.Warn("read a follow", zap.Error(err))
			return pace, refuseMessage(m, codeUnavailable, "it cannot be said at the moment whether you follow; send it again", 2*time.Second)
		}
		age := time.Duration(rules.Settings.FollowerMinAgeSeconds) * time.Second
		switch {
		case at == nil:
			return pace, refuseMessage(m, codeFollowersOnly, "only followers may write", 0)
		case now.Sub(*at) < age:
			return pace, refuseMessage(m, codeFollowersOnly, "you have not followed for long enough to write", age-now.Sub(*at))
		}
		x.followed = now
	}
	return pace, nil
}
