package chat_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// notify writes a notification and pushes it, as a workflow does.
func (w *world) notify(tb testing.TB, user uuid.UUID, key string) livestream.Notification {
	tb.Helper()
	made := w.write(tb, user, key)
	require.NoError(tb, w.tell.Publish(w.ctx, livestream.NotificationPush{Key: key, User: &user}))
	return made
}

func (w *world) write(tb testing.TB, user uuid.UUID, key string) livestream.Notification {
	tb.Helper()
	made, err := w.notifications.Notify(w.ctx, livestream.NewNotification{
		UserID: user, Key: key, Type: livestream.NotifyNewFollower, At: time.Now(), Data: map[string]any{"username": key},
	})
	require.NoError(tb, err)
	require.NotZero(tb, made.Seq)
	return made
}

type notification struct {
	ID           int64 `json:"id"`
	Notification struct {
		ID        uuid.UUID       `json:"id"`
		Type      string          `json:"type"`
		Read      *bool           `json:"read"`
		CreatedAt time.Time       `json:"created_at"`
		Data      json.RawMessage `json:"data"`
	} `json:"notification"`
}

func (s *socket) notification() notification {
	s.tb.Helper()
	event := s.next()
	require.Equal(s.tb, "notification", event.Type, string(event.JSON))
	var n notification
	require.NoError(s.tb, event.Decode(&n))
	return n
}

func (s *socket) told(want ...livestream.Notification) {
	s.tb.Helper()
	for _, n := range want {
		got := s.notification()
		require.Equal(s.tb, n.Seq, got.ID)
		require.Equal(s.tb, n.ID, got.Notification.ID)
		require.Equal(s.tb, string(n.Type), got.Notification.Type)
		require.Equal(s.tb, n.Read, *got.Notification.Read)
		require.JSONEq(s.tb, string(n.Data), string(got.Notification.Data))
		require.WithinDuration(s.tb, n.CreatedAt, got.Notification.CreatedAt, time.Millisecond)
	}
}

func TestAMemberIsToldOnEachNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node(t, fast), w.node(t, fast)
	ada, bob := w.member(t), w.member(t)
	sockets := []*socket{w.inbox(t, a, ada), w.inbox(t, a, ada), w.inbox(t, b, ada)}
	stranger := w.inbox(t, a, bob)
	require.Nil(t, sockets[0].welcome.Settings)
	first := w.notify(t, ada.ID, "one")
	second := w.notify(t, ada.ID, "two")
	w.notify(t, ada.ID, "one2")
	for _, s := range sockets {
		s.told(first, second)
	}
	// A push that comes twice, because its activity ran twice, shows nothing new.
	require.NoError(t, w.tell.Publish(w.ctx, livestream.NotificationPush{Key: "one", User: &ada.ID}))
	third := w.notify(t, ada.ID, "three")
	for _, s := range sockets {
		s.notification() // "one2"
		s.told(third)
	}
	stranger.told(w.notify(t, bob.ID, "bob's own")) // and nothing of ada's before it
}

func TestARangeOfFollowersIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t)
	var members []*member
	for range 5 {
		m := w.member(t)
		_, err := w.follows.Follow(w.ctx, m.ID, stream.UserID)
		require.NoError(t, err)
		members = append(members, m)
	}
	outsider := w.member(t)
	for i := range members[1:] {
		require.Negative(t, bytes.Compare(members[i].ID[:], members[i+1].ID[:]), "ids grow")
	}
	sockets := map[int]*socket{}
	for i, m := range members {
		sockets[i] = w.inbox(t, n, m)
	}
	quiet := w.inbox(t, n, outsider)
	live := livestream.GoLive{StreamID: stream.ID, CreatorID: stream.UserID, Title: stream.Title, Before: time.Now().Add(time.Minute)}
	part := livestream.FollowerRange{After: members[0].ID, Upto: members[3].ID, Count: 3}
	result, err := w.notifications.NotifyRange(w.ctx, live, part)
	require.NoError(t, err)
	require.Equal(t, livestream.RangeResult{Notified: 3}, result)
	require.NoError(t, w.tell.Publish(w.ctx, livestream.NotificationPush{Key: livestream.StreamLiveKey(stream.ID), Range: &part}))
	for i := 1; i <= 3; i++ {
		got := sockets[i].notification()
		require.Equal(t, "stream_live", got.Notification.Type)
		require.Contains(t, string(got.Notification.Data), stream.ID.String())
	}
	for _, s := range []struct {
		*socket
		*member
	}{{sockets[0], members[0]}, {sockets[4], members[4]}, {quiet, outsider}} {
		s.told(w.notify(t, s.ID, "own")) // and nothing before it
	}
}

func TestAnInboxComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	ada := w.member(t)
	var all []livestream.Notification
	for i := range 5 {
		all = append(all, w.write(t, ada.ID, fmt.Sprint(i)))
	}
	plain := w.inbox(t, n, ada)
	require.Equal(t, all[4].Seq, plain.welcome.ResumeFrom)
	require.False(t, plain.welcome.Gap)
	back := w.inbox(t, n, ada, "since", fmt.Sprint(all[1].Seq))
	require.True(t, back.welcome.Recovered)
	require.Equal(t, all[1].Seq, back.welcome.ResumeFrom)
	back.told(all[2:]...)
	never := w.inbox(t, n, ada, "since", fmt.Sprint(all[4].Seq+100))
	require.True(t, never.welcome.Gap)
	require.Equal(t, all[4].Seq, never.welcome.ResumeFrom)
	next := w.notify(t, ada.ID, "next")
	for _, s := range []*socket{plain, back, never} {
		s.told(next)
	}
}

func TestAnInboxThatMissedTooMuch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	ada := w.member(t)
	var all []livestream.Notification
	for i := range 1_001 {
		all = append(all, w.write(t, ada.ID, fmt.Sprint(i)))
	}
	most := w.inbox(t, n, ada, "since", "1")
	require.True(t, most.welcome.Recovered)
	most.told(all[1:]...)
	s := w.inbox(t, n, ada, "since", "0")
	require.True(t, s.welcome.Gap)
	require.False(t, s.welcome.Recovered)
	require.Equal(t, all[1_000].Seq, s.welcome.ResumeFrom)
	s.told(w.notify(t, ada.ID, "next"))
}

// Pushes that a node could not hear are made up for when Redis is back.
func TestPushesDuringACutArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	n := w.nodeAt(t, fast, redisURL, nil)
	ada := w.member(t)
	s := w.inbox(t, n, ada)
	proxy.Cut()
	first, second := w.notify(t, ada.ID, "first"), w.notify(t, ada.ID, "second")
	proxy.Restore()
	s.told(first, second)
	s.told(w.notify(t, ada.ID, "third"))
}

// Whoever connects while pushes come gets each of them once, in order.
func TestConnectingWhilePushesCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	ada := w.member(t)
	start := w.write(t, ada.ID, "start")
	done := make(chan []livestream.Notification)
	go func() {
		var made []livestream.Notification
		for i := range 200 {
			made = append(made, w.notify(t, ada.ID, fmt.Sprint(i)))
		}
		done <- made
	}()
	var sockets []*socket
	for range 10 {
		sockets = append(sockets, w.inbox(t, n, ada, "since", fmt.Sprint(start.Seq)))
	}
	made := <-done
	for _, s := range sockets {
		s.told(made...)
	}
}
