package postgres_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func newSubscription(t *testing.T, user, family uuid.UUID) livestream.PushSubscription {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	return livestream.PushSubscription{
		UserID: user, FamilyID: family, Endpoint: "https://push.example.com/" + uuid.NewString(), Key: key.PublicKey().Bytes(), Secret: make([]byte, 16), ServerKey: "key",
	}
}

func (s *store) mustSubscribe(t *testing.T, user uuid.UUID) livestream.PushSubscription {
	t.Helper()
	made, err := s.Browsers.Subscribe(testenv.Context(t), newSubscription(t, user, s.MustLogIn(t, user).FamilyID))
	require.NoError(t, err)
	return made
}

// due are the endpoints that a push is for.
func (s *store) due(t *testing.T, push livestream.NotificationPush) (endpoints []string) {
	t.Helper()
	after := push.Before()
	for {
		page, err := s.Browsers.Due(testenv.Context(t), push, after, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			return endpoints
		}
		for _, d := range page {
			require.Equal(t, d.Subscription.UserID, d.Notification.UserID)
			endpoints = append(endpoints, d.Subscription.Endpoint)
		}
		last := page[len(page)-1].Subscription
		after = livestream.PushCursor{UserID: last.UserID, SubscriptionID: last.ID}
	}
}

func TestSubscriptionsOfAMember(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	ada, bob := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	first := s.mustSubscribe(t, ada)

	t.Run("an endpoint has one, of who gave it last", func(t *testing.T) {
		moved := first
		moved.UserID, moved.FamilyID, moved.ServerKey = bob, s.MustLogIn(t, bob).FamilyID, "a newer key"
		again, err := s.Browsers.Subscribe(ctx, moved)
		require.NoError(t, err)
		require.Equal(t, first.ID, again.ID)
		require.Equal(t, bob, again.UserID)
		require.Equal(t, moved.FamilyID, again.FamilyID)
		require.Equal(t, "a newer key", again.ServerKey)
		require.False(t, again.SubscribedAt.Before(first.SubscribedAt))
		require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM push_subscriptions"))
	})
	t.Run("another's is left alone", func(t *testing.T) {
		requireCode(t, livestream.CodeSubscriptionNotFound, s.Browsers.Unsubscribe(ctx, ada, first.ID))
		require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM push_subscriptions"))
		require.NoError(t, s.Browsers.Unsubscribe(ctx, bob, first.ID))
		requireCode(t, livestream.CodeSubscriptionNotFound, s.Browsers.Unsubscribe(ctx, bob, first.ID))
		require.Zero(t, s.Number(t, "SELECT count(*) FROM push_subscriptions"))
	})
	t.Run("of too many the oldest goes, at once too", func(t *testing.T) {
		oldest := s.mustSubscribe(t, ada)
		for range livestream.MaxPushSubscriptions - 1 {
			s.mustSubscribe(t, ada)
		}
		others := s.mustSubscribe(t, bob)
		login := s.MustLogIn(t, ada).FamilyID
		for _, err := range race(5, func(int) error {
			_, err := s.Browsers.Subscribe(ctx, newSubscription(t, ada, login))
			return err
		}) {
			require.NoError(t, err)
		}
		require.EqualValues(t, livestream.MaxPushSubscriptions, s.Number(t, "SELECT count(*) FROM push_subscriptions WHERE user_id = $1", ada))
		require.Zero(t, s.Number(t, "SELECT count(*) FROM push_subscriptions WHERE id = $1", oldest.ID))
		require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM push_subscriptions WHERE id = $1", others.ID))
	})
	_, err := s.Browsers.Subscribe(ctx, newSubscription(t, ada, s.MustLogIn(t, bob).FamilyID))
	requireCode(t, livestream.CodeUnauthorized, err)
}

// A browser is told while the login is open that it subscribed with: whoever had the
// use of an account for a while does not hear of it for ever.
func TestPushesEndWithTheLogin(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	_, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: user, Key: "key", Type: livestream.NotifyTipReceived, At: dated, Data: map[string]any{}})
	require.NoError(t, err)
	push := livestream.NotificationPush{Key: "key", At: dated, User: &user}
	tokens := make([]livestream.RefreshToken, 4)
	subscriptions := make([]livestream.PushSubscription, 4)
	var ids []uuid.UUID
	for i := range tokens {
		tokens[i] = s.MustLogIn(t, user)
		subscriptions[i], err = s.Browsers.Subscribe(ctx, newSubscription(t, user, tokens[i].FamilyID))
		require.NoError(t, err)
		ids = append(ids, subscriptions[i].ID)
	}
	const open, out, stolen, expired = 0, 1, 2, 3
	require.Len(t, s.due(t, push), 4)

	_, err = s.Sessions.Revoke(ctx, tokens[out].Hash)
	require.NoError(t, err)
	for _, want := range []livestream.Code{"", livestream.CodeRefreshTokenReused} {
		_, _, err = s.Sessions.Rotate(ctx, tokens[stolen].Hash, successor(t), now())
		require.Equal(t, want, livestream.CodeOf(err))
	}
	s.MustExec(t, "UPDATE refresh_tokens SET expires_at = now() WHERE session_id = $1", tokens[expired].FamilyID)
	require.Equal(t, []string{subscriptions[open].Endpoint}, s.due(t, push))
	some, err := s.Browsers.DueOf(ctx, push, ids)
	require.NoError(t, err)
	require.Len(t, some, 1, "nor are those that were put off")

	t.Run("an access token that outlives its login subscribes nobody", func(t *testing.T) {
		for _, ended := range []int{out, stolen} {
			_, err := s.Browsers.Subscribe(ctx, newSubscription(t, user, tokens[ended].FamilyID))
			requireCode(t, livestream.CodeUnauthorized, err)
			_, err = s.Browsers.Subscribe(ctx, subscriptions[ended])
			requireCode(t, livestream.CodeUnauthorized, err)
		}
		require.Len(t, s.due(t, push), 1)
	})
	t.Run("whoever logs in again subscribes again", func(t *testing.T) {
		again := subscriptions[out]
		again.FamilyID = s.MustLogIn(t, user).FamilyID
		moved, err := s.Browsers.Subscribe(ctx, again)
		require.NoError(t, err)
		require.Equal(t, subscriptions[out].ID, moved.ID)
		require.ElementsMatch(t, []string{subscriptions[open].Endpoint, again.Endpoint}, s.due(t, push))
	})
	t.Run("a login that goes on takes its browsers along", func(t *testing.T) {
		_, _, err := s.Sessions.Rotate(ctx, tokens[open].Hash, successor(t), now())
		require.NoError(t, err)
		s.MustExec(t, "UPDATE refresh_tokens SET expires_at = now() WHERE hash = $1", tokens[open].Hash)
		require.Len(t, s.due(t, push), 2)
	})
	t.Run("what is deleted takes its browsers along", func(t *testing.T) {
		s.MustExec(t, "UPDATE refresh_tokens SET expires_at = now() - interval '2 days' WHERE session_id = ANY ($1)", []uuid.UUID{tokens[stolen].FamilyID, tokens[expired].FamilyID})
		_, err := s.Sessions.DeleteOld(ctx, now().Add(-24*time.Hour), 100)
		require.NoError(t, err)
		require.EqualValues(t, 2, s.Number(t, "SELECT count(*) FROM push_subscriptions"))
		require.Len(t, s.due(t, push), 2)
	})
}

// Who is told in their browser is who is rung: not who does not want to hear, was
// told just now, is beyond an hour's cap, or has read it already.
func TestDuePushesFollowWhatRings(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	var want []string
	follower := func(browsers int) uuid.UUID {
		user := s.MustCreateUser(t).ID
		_, err := s.Follows.Follow(ctx, user, creator.ID)
		require.NoError(t, err)
		for range browsers {
			s.mustSubscribe(t, user)
		}
		return user
	}
	rung, deaf, full, reader := follower(3), follower(1), follower(1), follower(1)
	follower(0)
	require.NoError(t, s.Notifications.SetSettings(ctx, deaf, livestream.NotificationSettings{}))
	s.MustExec(t, "INSERT INTO inboxes (user_id, last_seq, rung, rung_since) VALUES ($1, 1, $2, now())", full, livestream.RingsPerHour)
	s.mustSubscribe(t, s.MustCreateUser(t).ID) // follows nobody
	stream := s.MustCreateStream(t, creator.ID)
	live := livestream.GoLive{StreamID: stream.ID, CreatorID: creator.ID, Title: "t", Before: time.Now().UTC().Truncate(time.Microsecond)}
	everybody := livestream.FollowerRange{Upto: uuid.Max}
	push := livestream.NotificationPush{Key: livestream.StreamLiveKey(stream.ID), At: live.Before, Range: &everybody, CreatorID: creator.ID}

	require.Empty(t, s.due(t, push), "nobody is told yet")
	_, err := s.Notifications.NotifyRange(ctx, live, everybody)
	require.NoError(t, err)
	list, err := s.Notifications.List(ctx, reader, false, livestream.Page{})
	require.NoError(t, err)
	require.Len(t, list.Data, 1)
	require.NoError(t, s.Notifications.MarkAllRead(ctx, reader))

	due, err := s.Browsers.Due(ctx, push, push.Before(), 100)
	require.NoError(t, err)
	require.Len(t, due, 3)
	var ids []uuid.UUID
	for _, d := range due {
		require.Equal(t, rung, d.Notification.UserID)
		require.Equal(t, livestream.NotifyStreamLive, d.Notification.Type)
		require.Equal(t, live.Before, d.Notification.CreatedAt.UTC())
		require.Contains(t, string(d.Notification.Data), stream.ID.String())
		want, ids = append(want, d.Subscription.Endpoint), append(ids, d.Subscription.ID)
	}
	require.Equal(t, want, s.due(t, push), "page by page")
	one := push
	one.Range, one.User = nil, &rung
	require.Equal(t, want, s.due(t, one))
	one.User = &deaf
	require.Empty(t, s.due(t, one))
	unread, err := s.Notifications.Unread(ctx, rung)
	require.NoError(t, err)
	require.EqualValues(t, 1, unread, "a push reads nothing")

	another := push
	another.CreatorID = rung
	require.Empty(t, s.due(t, another), "nobody follows them")
	later := push
	later.At = later.At.Add(time.Microsecond)
	require.Empty(t, s.due(t, later), "that is another notice")

	some, err := s.Browsers.DueOf(ctx, push, ids[:2])
	require.NoError(t, err)
	require.Len(t, some, 2)
	require.NoError(t, s.Browsers.DeleteDead(ctx, ids[:1]))
	require.Len(t, s.due(t, push), 2)
	require.NoError(t, s.Follows.Unfollow(ctx, rung, creator.ID))
	require.Empty(t, s.due(t, push), "who has left is told no more")
}

// A range is of followers: whoever else lies in it has nothing to do with it.
func TestAnySubscriptionInARange(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	before, user, after, creator, another := s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID, s.MustCreateUser(t).ID
	s.mustSubscribe(t, user)
	for _, follower := range []uuid.UUID{before, user, after} {
		_, err := s.Follows.Follow(ctx, follower, creator)
		require.NoError(t, err)
	}
	_, err := s.Follows.Follow(ctx, before, another)
	require.NoError(t, err)
	of := func(creator, after, upto uuid.UUID) livestream.NotificationPush {
		return livestream.NotificationPush{CreatorID: creator, Range: &livestream.FollowerRange{After: after, Upto: upto}}
	}
	for _, c := range []struct {
		push livestream.NotificationPush
		want bool
	}{
		{livestream.NotificationPush{User: &user}, true},
		{livestream.NotificationPush{User: &before}, false},
		{livestream.NotificationPush{User: &after}, false},
		{of(creator, uuid.Nil, before), false},
		{of(creator, before, user), true},
		{of(creator, uuid.Nil, uuid.Max), true},
		{of(creator, user, after), false},
		{of(another, uuid.Nil, uuid.Max), false},
		{of(user, uuid.Nil, uuid.Max), false},
	} {
		any, err := s.Browsers.Any(ctx, c.push)
		require.NoError(t, err)
		require.Equal(t, c.want, any, "%+v", c.push)
	}
}
