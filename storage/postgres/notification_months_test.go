package postgres_test

import (
	"fmt"
	"testing"
	"time"

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
