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

func newSubscription(t *testing.T, user uuid.UUID) livestream.PushSubscription {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	return livestream.PushSubscription{
		UserID: user, Endpoint: "https://push.example.com/" + uuid.NewString(), Key: key.PublicKey().Bytes(), Secret: make([]byte, 16), ServerKey: "key",
	}
}

func (s *store) mustSubscribe(t *testing.T, user uuid.UUID) livestream.PushSubscription {
	t.Helper()
	made, err := s.Browsers.Subscribe(testenv.Context(t), newSubscription(t, user))
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
		moved.UserID, moved.ServerKey = bob, "a newer key"
		again, err := s.Browsers.Subscribe(ctx, moved)
		require.NoError(t, err)
		require.Equal(t, first.ID, again.ID)
		require.Equal(t, bob, again.UserID)
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
		for _, err := range race(5, func(int) error {
			_, err := s.Browsers.Subscribe(ctx, newSubscription(t, ada))
			return err
		}) {
			require.NoError(t, err)
		}
		require.EqualValues(t, livestream.MaxPushSubscriptions, s.Number(t, "SELECT count(*) FROM push_subscriptions WHERE user_id = $1", ada))
		require.Zero(t, s.Number(t, "SELECT count(*) FROM push_subscriptions WHERE id = $1", oldest.ID))
		require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM push_subscriptions WHERE id = $1", others.ID))
	})
	_, err := s.Browsers.Subscribe(ctx, newSubscription(t, newID(t)))
	requireCode(t, livestream.CodeUserNotFound, err)
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
