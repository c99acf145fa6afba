package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func (s *store) months(tb testing.TB) int64 {
	tb.Helper()
	return s.Number(tb, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'notifications'::regclass")
}

func TestMonthsAreMadeAheadOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	begin := time.Date(now().Year()+1, time.November, 30, 23, 59, 59, 0, time.UTC)
	had := s.months(t)
	for _, want := range []int64{4, 0} { // November to February
		made, err := s.Notifications.MakeMonths(ctx, begin, begin.Add(90*24*time.Hour))
		require.NoError(t, err)
		require.Equal(t, want, made)
	}
	require.Equal(t, had+4, s.months(t))
	user := s.MustCreateUser(t)
	for i, at := range []time.Time{begin, begin.Add(time.Second)} {
		n, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: user.ID, Key: fmt.Sprint(i), Type: livestream.NotifyTipReceived, At: at, Data: struct{}{}})
		require.NoError(t, err)
		require.Equal(t, at, n.CreatedAt)
	}
	require.Len(t, inbox(t, s, user.ID), 2)
}

// Retention: whole months go, with the unread ones of their inboxes.
func TestOldMonthsAreDropped(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	for back := range 5 {
		at := time.Date(2026, time.Month(7-back), 15, 0, 0, 0, 0, time.UTC)
		s.MustExec(t, "SELECT notifications_months($1, $1)", at)
		for i := range 3 {
			_, err := s.Notifications.Notify(ctx, livestream.NewNotification{
				UserID: user.ID, Key: fmt.Sprint(back, i), Type: livestream.NotifyTipReceived, At: at, Data: struct{}{},
			})
			require.NoError(t, err)
		}
	}
	require.EqualValues(t, 15, s.unread(t, user.ID))
	before, had := time.Date(2026, time.June, 1, 0, 0, 0, 0, time.UTC), s.months(t)
	for _, want := range []int64{4, 4, 1, 0} { // what is unread goes in batches, then the tables
		expired, err := s.Notifications.DeleteOld(ctx, before, 4)
		require.NoError(t, err)
		require.Equal(t, want, expired)
	}
	require.Equal(t, had-3, s.months(t))
	require.EqualValues(t, 6, s.unread(t, user.ID))
	left := inbox(t, s, user.ID)
	require.Len(t, left, 6)
	for _, n := range left {
		require.False(t, n.CreatedAt.Before(before))
	}
}

// A month is dropped beside somebody who reads notifications all the time: nobody waits
// for that, and a call that was cut off is gone on with.
func TestDroppingAMonthStallsNobody(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user, march := s.MustCreateUser(t), time.Date(2026, time.March, 15, 0, 0, 0, 0, time.UTC)
	s.MustExec(t, "SELECT notifications_months($1, $1)", march)
	tell := func(key string, at time.Time) error {
		_, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: user.ID, Key: key, Type: livestream.NotifyTipReceived, At: at, Data: struct{}{}})
		return err
	}
	require.NoError(t, tell("old", march))
	had := s.months(t)
	conn, err := pgx.Connect(ctx, s.URL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	reader, err := conn.Begin(ctx)
	require.NoError(t, err)
	_, err = reader.Exec(ctx, "SELECT FROM notifications")
	require.NoError(t, err)

	cut, stop := context.WithCancel(ctx)
	defer stop()
	dropped := make(chan error, 1)
	go func() {
		_, err := s.Notifications.DeleteOld(cut, march.AddDate(0, 1, 0), 10)
		dropped <- err
	}()
	pending := func() bool { return s.Number(t, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 1 }
	require.Eventually(t, pending, 30*time.Second, 10*time.Millisecond)
	require.Empty(t, dropped, "it waits for the reader")
	require.NoError(t, tell("new", dated))
	require.Len(t, inbox(t, s, user.ID), 1)
	require.EqualValues(t, 1, s.unread(t, user.ID))

	stop()
	require.Error(t, <-dropped)
	require.Eventually(t, func() bool {
		return s.Number(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'ALTER%'") == 0
	}, 30*time.Second, 10*time.Millisecond)
	require.True(t, pending(), "it is detached in part")
	require.NoError(t, reader.Commit(ctx))
	_, err = s.Notifications.DeleteOld(ctx, march.AddDate(0, 1, 0), 10)
	require.NoError(t, err)
	require.Equal(t, had-1, s.months(t))
	require.Zero(t, s.Number(t, "SELECT count(*) FROM pg_class WHERE relname = 'notifications_2026_03'"))
}

// What was cut off between its two steps is not left behind.
func TestAMonthThatIsDetachedIsDropped(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	march := time.Date(2026, time.March, 15, 0, 0, 0, 0, time.UTC)
	s.MustExec(t, "SELECT notifications_months($1, $1)", march)
	s.MustExec(t, "ALTER TABLE notifications DETACH PARTITION notifications_2026_03")
	for _, before := range []time.Time{march, march.AddDate(0, 1, 0)} {
		left := s.Number(t, "SELECT count(*) FROM pg_class WHERE relname = 'notifications_2026_03'")
		require.EqualValues(t, 1, left)
		_, err := s.Notifications.DeleteOld(ctx, before, 10)
		require.NoError(t, err)
	}
	require.Zero(t, s.Number(t, "SELECT count(*) FROM pg_class WHERE relname = 'notifications_2026_03'"))
}
