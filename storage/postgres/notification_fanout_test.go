package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// requireKept says that what is kept of each inbox is what a count would give.
func requireKept(tb testing.TB, s *store) {
	tb.Helper()
	require.Zero(tb, s.Number(tb, `SELECT count(*) FROM inboxes i
		WHERE i.unread <> (SELECT count(*) FROM notifications n WHERE n.user_id = i.user_id AND NOT n.read)
			OR i.last_seq <> (SELECT count(*) FROM notifications n WHERE n.user_id = i.user_id)`), "inboxes whose numbers are wrong")
}

func (s *store) unread(tb testing.TB, user uuid.UUID) int64 {
	tb.Helper()
	n, err := s.Notifications.Unread(testenv.Context(tb), user)
	require.NoError(tb, err)
	return n
}

// rung gives how many notifications a member was rung for.
func (s *store) rung(tb testing.TB, user uuid.UUID) int {
	tb.Helper()
	missed, err := s.Notifications.Since(testenv.Context(tb), map[uuid.UUID]int64{user: 0}, 1000)
	require.NoError(tb, err)
	return len(missed)
}

// again ends a creator's stream and starts the next one.
func (s *store) again(tb testing.TB, live livestream.GoLive) livestream.GoLive {
	tb.Helper()
	_, err := s.Streams.Finish(testenv.Context(tb), live.StreamID, now(), 0, 0)
	require.NoError(tb, err)
	return goLive(s.MustCreateStream(tb, live.CreatorID))
}

// C1: a creator who starts again does not ring twice within 10 minutes; who was not
// told of the first start is told of the second.
func TestARestartDoesNotRingTwice(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	creator := s.MustCreateUser(t)
	early := s.MustCreateFollowers(t, creator.ID, 5)
	first := goLive(s.MustCreateStream(t, creator.ID))
	require.Equal(t, livestream.RangeResult{Notified: 5}, fanOutAll(t, s, first, 10, 10))
	late := s.MustCreateFollowers(t, creator.ID, 2)

	second := s.again(t, first)
	for range 2 { // a retry gives the same
		require.Equal(t, livestream.RangeResult{Notified: 2, Skipped: 5}, fanOutAll(t, s, second, 10, 10))
	}
	require.Len(t, inbox(t, s, early[0]), 1)
	require.Len(t, inbox(t, s, late[0]), 1)
	third := s.again(t, second)
	require.Equal(t, livestream.RangeResult{Skipped: 7}, fanOutAll(t, s, third, 10, 10), "nobody was told of it, and all of one before it")
	requireKept(t, s)
}

// Whom a range of the first start is about to tell when that stream ends is not rung by
// the second one, which waits for it. The end and the start do not.
func TestARestartWaitsForWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 3)
	s.MustNotify(t, fans[2], "before") // there is an inbox to hold
	first := goLive(s.MustCreateStream(t, creator.ID))

	conn, err := pgx.Connect(ctx, s.URL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	holding, err := conn.Begin(ctx)
	require.NoError(t, err)
	_, err = holding.Exec(ctx, "SELECT FROM inboxes WHERE user_id = $1 FOR UPDATE", fans[2])
	require.NoError(t, err)
	waiting := func(query string) func() bool {
		return func() bool {
			return s.Number(t, `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, $1) > 0`, query) == 1
		}
	}
	type done struct {
		told livestream.RangeResult
		err  error
	}
	written, opened := make(chan done, 1), make(chan error, 1)
	go func() {
		told, err := s.Notifications.NotifyRange(ctx, first, livestream.FollowerRange{Upto: uuid.Max})
		written <- done{told, err}
	}()
	require.Eventually(t, waiting("notifications.notify_range"), 30*time.Second, 10*time.Millisecond)
	second := s.again(t, first)
	go func() {
		_, err := s.Notifications.Open(ctx, creator.ID)
		opened <- err
	}()
	require.Eventually(t, waiting("pg_advisory_xact_lock("), 30*time.Second, 10*time.Millisecond)
	require.Empty(t, written)
	require.NoError(t, holding.Commit(ctx))

	require.Equal(t, done{told: livestream.RangeResult{Notified: 3}}, <-written)
	require.NoError(t, <-opened)
	require.Equal(t, livestream.RangeResult{Skipped: 3}, fanOutAll(t, s, second, 10, 10))
	late, err := s.Notifications.NotifyRange(ctx, first, livestream.FollowerRange{Upto: uuid.Max})
	require.NoError(t, err)
	require.Equal(t, livestream.RangeResult{Ended: true}, late)
	require.EqualValues(t, 3, s.Number(t, "SELECT count(*) FROM notifications WHERE type = 'stream_live'"))
	requireKept(t, s)
}

// A fan-out that cannot begin in time says so, and is tried again.
func TestARestartDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	hasty := storeAt(t, postgres.Config{URL: s.URL, LockTimeout: 50 * time.Millisecond})
	conn, err := pgx.Connect(ctx, s.URL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	holding, err := conn.Begin(ctx)
	require.NoError(t, err)
	_, err = holding.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1)", postgres.CreatorLock(creator.ID))
	require.NoError(t, err)
	_, err = hasty.Notifications.Open(ctx, creator.ID)
	requireCode(t, livestream.CodeUnavailable, err)
	require.NoError(t, holding.Commit(ctx))
	_, err = hasty.Notifications.Open(ctx, creator.ID)
	require.NoError(t, err)
}

// What counts is when a notice was written, not when its stream began.
func TestANoticeIsOldAfterTenMinutes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 2)
	first := goLive(s.MustCreateStream(t, creator.ID))
	s.MustExec(t, "UPDATE streams SET started_at = now() - interval '2 hours' WHERE id = $1", first.StreamID)
	fanOut(t, s, first, 10, 10)
	// The first was told long ago, the second just now, of the same stream.
	s.MustExec(t, `UPDATE notifications SET id = ('00000000-0000-7' || right(id::text, 21))::uuid WHERE user_id = $1`, fans[0])

	second := s.again(t, first)
	require.Equal(t, livestream.RangeResult{Notified: 1, Skipped: 1}, fanOutAll(t, s, second, 10, 10))
	require.Len(t, inbox(t, s, fans[0]), 2)
	require.Len(t, inbox(t, s, fans[1]), 1)
}

// A creator who starts and ends one stream after the other rings nobody in the end.
func TestWhoStartsTooOftenRingsNobody(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	creator := s.MustCreateUser(t)
	live := goLive(s.MustCreateStream(t, creator.ID))
	for range livestream.GoLiveStreams {
		live = s.again(t, live)
	}
	s.MustCreateFollowers(t, creator.ID, 2)
	live = s.again(t, live)
	require.Equal(t, livestream.RangeResult{Skipped: 2}, fanOutAll(t, s, live, 10, 10), "one too many")
	s.MustExec(t, `UPDATE streams SET started_at = started_at - interval '1 hour', ended_at = ended_at - interval '1 hour'
		WHERE id IN (SELECT id FROM streams WHERE ended_at IS NOT NULL ORDER BY started_at LIMIT 1)`)
	require.Equal(t, livestream.RangeResult{Notified: 2}, fanOutAll(t, s, live, 10, 10), "as many as may be")
	requireKept(t, s)
}

func TestAStreamThatIsOverTellsNobody(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	creator := s.MustCreateUser(t)
	s.MustCreateFollowers(t, creator.ID, 5)
	live := goLive(s.MustCreateStream(t, creator.ID))
	look := func() livestream.RangeResult { // at nobody, as a fan-out that waits does
		t.Helper()
		result, err := s.Notifications.NotifyRange(testenv.Context(t), live, livestream.FollowerRange{})
		require.NoError(t, err)
		return result
	}
	require.Zero(t, look())
	_, err := s.Streams.Finish(testenv.Context(t), live.StreamID, now(), 0, 0)
	require.NoError(t, err)
	require.Equal(t, livestream.RangeResult{Ended: true}, look())
	require.Equal(t, livestream.RangeResult{Ended: true}, fanOutAll(t, s, live, 10, 10))
	require.Zero(t, s.Number(t, "SELECT count(*) FROM notifications"))
}

// C1: beyond the limit of an hour starts wait in the inbox, whoever they are of.
func TestARecipientIsRungForSoManyStreamsAnHour(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	fan := s.MustCreateUser(t).ID
	start := func() livestream.GoLive {
		t.Helper()
		creator := s.MustCreateUser(t)
		s.MustExec(t, "INSERT INTO follows (follower_id, following_id) VALUES ($1, $2)", fan, creator.ID)
		return goLive(s.MustCreateStream(t, creator.ID))
	}
	rings := func(live livestream.GoLive) bool {
		t.Helper()
		before := s.rung(t, fan)
		require.EqualValues(t, 1, fanOut(t, s, live, 10, 10), "it is in the inbox in any case")
		return s.rung(t, fan) > before
	}
	for range livestream.RingsPerHour {
		require.True(t, rings(start()))
	}
	beyond := start()
	require.False(t, rings(beyond))
	require.False(t, rings(beyond), "after a retry neither")
	require.Len(t, inbox(t, s, fan), livestream.RingsPerHour+1)
	require.EqualValues(t, livestream.RingsPerHour+1, s.unread(t, fan))
	require.Equal(t, livestream.RingsPerHour, s.rung(t, fan), "who comes back is not rung for it either")

	s.MustExec(t, "UPDATE inboxes SET rung_since = rung_since - interval '1 hour'")
	require.True(t, rings(start()), "an hour later")
	requireKept(t, s)
}

// What concerns its recipient alone rings however much there is, and leaves starts
// their rings.
func TestTipsFollowersAndArchivesAlwaysRing(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fan := s.MustCreateFollowers(t, creator.ID, 1)[0]
	types := []livestream.NotificationType{livestream.NotifyTipReceived, livestream.NotifyNewFollower, livestream.NotifyArchiveReady}
	tell := func(n int) {
		t.Helper()
		for _, typ := range types {
			_, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: fan, Key: fmt.Sprint(typ, n), Type: typ, At: dated, Data: struct{}{}})
			require.NoError(t, err)
		}
	}
	for n := range livestream.RingsPerHour {
		tell(n)
	}
	require.Equal(t, len(types)*livestream.RingsPerHour, s.rung(t, fan))
	fanOut(t, s, goLive(s.MustCreateStream(t, creator.ID)), 10, 10)
	require.Equal(t, len(types)*livestream.RingsPerHour+1, s.rung(t, fan), "a start has its ring still")

	s.MustExec(t, "UPDATE inboxes SET rung = $2, rung_since = now() WHERE user_id = $1", fan, livestream.RingsPerHour)
	tell(livestream.RingsPerHour)
	require.Equal(t, len(types)*(livestream.RingsPerHour+1)+1, s.rung(t, fan), "beyond the limit for starts too")
	requireKept(t, s)
}

// A block that slips in between a follow and the fan-out is respected too.
func TestFanOutRespectsBlocks(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 3)
	s.MustExec(t, "INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)", fans[0], creator.ID)
	live := goLive(s.MustCreateStream(t, creator.ID))
	require.Equal(t, livestream.RangeResult{Notified: 2, Skipped: 1}, fanOutAll(t, s, live, 10, 10))
	require.Empty(t, inbox(t, s, fans[0]))
}

func TestUnreadIsKeptWhileAllHappensAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 20)
	live := goLive(s.MustCreateStream(t, creator.ID))
	old := dated.AddDate(0, -4, 0)
	s.MustExec(t, "SELECT notifications_months($1, $1)", old)
	for _, fan := range fans {
		_, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: fan, Key: "old", Type: livestream.NotifyTipReceived, At: old, Data: struct{}{}})
		require.NoError(t, err)
	}
	for _, err := range race(24, func(i int) error {
		fan := fans[i%len(fans)]
		switch i % 4 {
		case 0:
			_, err := s.Notifications.NotifyRange(ctx, live, livestream.FollowerRange{Upto: uuid.Max})
			return err
		case 1:
			return s.Notifications.MarkAllRead(ctx, fan)
		case 2:
			_, err := s.Notifications.DeleteOld(ctx, dated.AddDate(0, -2, 0), 7)
			return err
		default:
			_, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: fan, Key: "new", Type: livestream.NotifyTipReceived, At: dated, Data: struct{}{}})
			return err
		}
	}) {
		require.NoError(t, err)
	}
	require.Zero(t, s.Number(t, `SELECT count(*) FROM inboxes i
		WHERE i.unread <> (SELECT count(*) FROM notifications n WHERE n.user_id = i.user_id AND NOT n.read)`))
	require.EqualValues(t, 20, s.Number(t, "SELECT count(*) FROM notifications WHERE type = 'stream_live'"))
}
