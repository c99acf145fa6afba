package postgres_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

var everything = livestream.NotificationSettings{StreamLive: true, TipReceived: true, NewFollower: true, ArchiveReady: true}

func goLive(stream livestream.Stream) livestream.GoLive {
	return livestream.GoLive{StreamID: stream.ID, CreatorID: stream.UserID, Title: stream.Title, Before: stream.CreatedAt}
}

// fanOut tells the whole audience, as the workflow does, and gives how many.
func fanOut(tb testing.TB, s *store, live livestream.GoLive, size, limit int) int64 {
	tb.Helper()
	return fanOutAll(tb, s, live, size, limit).Notified
}

func fanOutAll(tb testing.TB, s *store, live livestream.GoLive, size, limit int) livestream.RangeResult {
	tb.Helper()
	ctx := testenv.Context(tb)
	var told livestream.RangeResult
	after := uuid.Nil
	for {
		ranges, err := s.Notifications.PlanRanges(ctx, live, after, size, limit)
		require.NoError(tb, err)
		require.LessOrEqual(tb, len(ranges), limit)
		if len(ranges) == 0 {
			return told
		}
		for _, r := range ranges {
			n, err := s.Notifications.NotifyRange(ctx, live, r)
			require.NoError(tb, err)
			told.Notified += n.Notified
			told.Skipped += n.Skipped
			told.Ended = told.Ended || n.Ended
			after = r.Upto
		}
	}
}

func inbox(tb testing.TB, s *store, user uuid.UUID) []livestream.Notification {
	tb.Helper()
	ctx := testenv.Context(tb)
	return readAll(tb, 100, func(page livestream.Page) (livestream.List[livestream.Notification], error) {
		return s.Notifications.List(ctx, user, false, page)
	})
}

// dated is when what tests tell of happened.
var dated = now()

func (s *store) MustNotify(tb testing.TB, user uuid.UUID, key string) livestream.Notification {
	tb.Helper()
	n, err := s.Notifications.Notify(testenv.Context(tb), livestream.NewNotification{
		UserID: user, Key: key, Type: livestream.NotifyNewFollower, At: dated, Data: map[string]any{"count": 1},
	})
	require.NoError(tb, err)
	return n
}

func TestFanOutTellsEveryFollowerOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 57)
	s.MustCreateFollowers(t, s.MustCreateUser(t).ID, 5) // of somebody else
	live := goLive(s.MustCreateStream(t, creator.ID))
	total, err := s.Notifications.Open(ctx, creator.ID)
	require.NoError(t, err)
	require.EqualValues(t, 57, total)

	require.EqualValues(t, 57, fanOut(t, s, live, 10, 2))
	require.EqualValues(t, 57, fanOut(t, s, live, 7, 3), "the same after a retry")
	require.EqualValues(t, 57, s.Number(t, "SELECT count(*) FROM notifications"))
	for _, fan := range fans[:3] {
		got := inbox(t, s, fan)
		require.Len(t, got, 1)
		require.EqualValues(t, 1, got[0].Seq)
		require.Equal(t, livestream.NotifyStreamLive, got[0].Type)
		require.False(t, got[0].Read)
		require.JSONEq(t, fmt.Sprintf(`{"stream_id": %q, "user_id": %q, "username": %q, "title": %q}`,
			live.StreamID, creator.ID, creator.Username, live.Title), string(got[0].Data))
	}
}

func TestPlanRanges(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 25)
	live := goLive(s.MustCreateStream(t, creator.ID))

	ranges, err := s.Notifications.PlanRanges(ctx, live, uuid.Nil, 10, 2)
	require.NoError(t, err)
	require.Equal(t, []livestream.FollowerRange{
		{After: uuid.Nil, Upto: fans[9], Count: 10}, {After: fans[9], Upto: fans[19], Count: 10},
	}, ranges)
	ranges, err = s.Notifications.PlanRanges(ctx, live, fans[19], 10, 2)
	require.NoError(t, err)
	require.Equal(t, []livestream.FollowerRange{{After: fans[19], Upto: fans[24], Count: 5}}, ranges)
	for limit, want := range map[int][]uuid.UUID{10: fans[20:], 5: fans[20:], 2: fans[20:22]} {
		in, err := s.Notifications.FollowersIn(ctx, creator.ID, ranges[0], limit)
		require.NoError(t, err)
		require.Equal(t, want, in)
	}
	ranges, err = s.Notifications.PlanRanges(ctx, live, fans[24], 10, 2)
	require.NoError(t, err)
	require.Empty(t, ranges)
}

// Who follows while the fan-out runs is not told, in no step of it.
func TestLaterFollowersAreNotTold(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	before := s.MustCreateFollowers(t, creator.ID, 3)
	live := goLive(s.MustCreateStream(t, creator.ID))
	later := s.MustCreateFollowers(t, creator.ID, 3)

	ranges, err := s.Notifications.PlanRanges(ctx, live, uuid.Nil, 10, 10)
	require.NoError(t, err)
	require.Equal(t, []livestream.FollowerRange{{Upto: before[2], Count: 3}}, ranges)
	told, err := s.Notifications.NotifyRange(ctx, live, livestream.FollowerRange{Upto: uuid.Max})
	require.NoError(t, err)
	require.EqualValues(t, 3, told.Notified)
	require.Empty(t, inbox(t, s, later[0]))
}

// Whatever a workflow's clock says, who followed before the stream was written is
// told of it.
func TestClockThatIsBehindLosesNobody(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	creator := s.MustCreateUser(t)
	s.MustCreateFollowers(t, creator.ID, 3)
	live := goLive(s.MustCreateStream(t, creator.ID))
	live.Before = live.Before.Add(-time.Hour)
	require.EqualValues(t, 3, fanOut(t, s, live, 10, 10))
}

func TestFanOutRespectsSettings(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 4)
	require.NoError(t, s.Notifications.SetSettings(ctx, fans[0], livestream.NotificationSettings{TipReceived: true}))
	require.NoError(t, s.Notifications.SetSettings(ctx, fans[1], livestream.NotificationSettings{StreamLive: true}))
	live := goLive(s.MustCreateStream(t, creator.ID))
	require.EqualValues(t, 3, fanOut(t, s, live, 10, 10))
	require.Empty(t, inbox(t, s, fans[0]))
	require.Len(t, inbox(t, s, fans[1]), 1)
}

// Attempts at one range that overlap, and fan-outs that have followers in common,
// tell everybody once a stream.
func TestFanOutsAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	a, b := s.MustCreateUser(t), s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, a.ID, 200)
	s.MustExec(t, "INSERT INTO follows (follower_id, following_id) SELECT id, $2 FROM unnest($1::uuid[]) id", fans, b.ID)
	lives := []livestream.GoLive{goLive(s.MustCreateStream(t, a.ID)), goLive(s.MustCreateStream(t, b.ID))}
	for _, err := range race(8, func(i int) error {
		told, err := s.Notifications.NotifyRange(ctx, lives[i%2], livestream.FollowerRange{Upto: uuid.Max})
		if err == nil && told.Notified != 200 {
			return fmt.Errorf("%d were told", told.Notified)
		}
		return err
	}) {
		require.NoError(t, err)
	}
	require.EqualValues(t, 400, s.Number(t, "SELECT count(*) FROM notifications"))
	require.EqualValues(t, 200, s.Number(t, "SELECT count(*) FROM (SELECT FROM notifications GROUP BY user_id HAVING count(*) = 2) told"))
}

func TestNotify(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	first := s.MustNotify(t, user.ID, "one")
	require.Equal(t, dated, first.CreatedAt)
	require.JSONEq(t, `{"count": 1}`, string(first.Data))
	require.Equal(t, []any{int64(1), user.ID, livestream.NotifyNewFollower, false}, []any{first.Seq, first.UserID, first.Type, first.Read})

	require.Zero(t, s.MustNotify(t, user.ID, "one"), "they have it already")
	require.EqualValues(t, 2, s.MustNotify(t, user.ID, "two").Seq, "no number was wasted")
	require.Len(t, inbox(t, s, user.ID), 2)

	_, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: newID(t), Key: "k", Type: livestream.NotifyNewFollower, At: dated, Data: struct{}{}})
	requireCode(t, livestream.CodeUserNotFound, err)
}

func TestNotifyRespectsEachSetting(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	for typ, without := range map[livestream.NotificationType]livestream.NotificationSettings{
		livestream.NotifyStreamLive:   {TipReceived: true, NewFollower: true, ArchiveReady: true},
		livestream.NotifyTipReceived:  {StreamLive: true, NewFollower: true, ArchiveReady: true},
		livestream.NotifyNewFollower:  {StreamLive: true, TipReceived: true, ArchiveReady: true},
		livestream.NotifyArchiveReady: {StreamLive: true, TipReceived: true, NewFollower: true},
	} {
		user := s.MustCreateUser(t)
		require.NoError(t, s.Notifications.SetSettings(ctx, user.ID, without))
		for _, other := range []livestream.NotificationType{
			livestream.NotifyStreamLive, livestream.NotifyTipReceived, livestream.NotifyNewFollower, livestream.NotifyArchiveReady,
		} {
			n, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: user.ID, Key: string(other), Type: other, At: dated, Data: struct{}{}})
			require.NoError(t, err)
			require.Equal(t, other == typ, n.ID == uuid.Nil, "%s when %s is off", other, typ)
		}
		require.Len(t, inbox(t, s, user.ID), 3)
	}
}

// Whoever sees a number has seen all below it, or can: that is what resuming
// stands on.
func TestSeqIsSeenInOrder(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	done := make(chan []error, 1)
	go func() {
		done <- race(60, func(i int) error {
			_, err := s.Notifications.Notify(ctx, livestream.NewNotification{
				UserID: user.ID, Key: fmt.Sprint(i / 2), Type: livestream.NotifyTipReceived, At: dated, Data: struct{}{},
			})
			return err
		})
	}()
	var last int64
	var seen []int64
	for len(seen) < 30 {
		news, err := s.Notifications.Since(ctx, map[uuid.UUID]int64{user.ID: last}, 100)
		require.NoError(t, err)
		for _, n := range news {
			require.Greater(t, n.Seq, last)
			last = n.Seq
			seen = append(seen, n.Seq)
		}
		require.NoError(t, ctx.Err())
	}
	for _, err := range <-done {
		require.NoError(t, err)
	}
	require.Len(t, inbox(t, s, user.ID), len(seen), "nothing came below what had been read")
}

func TestSinceAndLastSeq(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user, other := s.MustCreateUser(t), s.MustCreateUser(t)
	last, err := s.Notifications.LastSeq(ctx, user.ID)
	require.NoError(t, err)
	require.Zero(t, last)
	for i := range 5 {
		s.MustNotify(t, user.ID, fmt.Sprint(i))
		s.MustNotify(t, other.ID, fmt.Sprint(i))
	}
	last, err = s.Notifications.LastSeq(ctx, user.ID)
	require.NoError(t, err)
	require.EqualValues(t, 5, last)

	// Each inbox from its own number on, and at most so many of each.
	s.MustExec(t, "UPDATE notifications SET silent = true WHERE user_id = $1 AND seq = 4", other.ID)
	missed, err := s.Notifications.Since(ctx, map[uuid.UUID]int64{user.ID: 1, other.ID: 2, newID(t): 0}, 2)
	require.NoError(t, err)
	of := map[uuid.UUID][]int64{}
	for _, n := range missed {
		of[n.UserID] = append(of[n.UserID], n.Seq)
	}
	require.Equal(t, map[uuid.UUID][]int64{user.ID: {2, 3}, other.ID: {3, 5}}, of)
	for _, last := range []map[uuid.UUID]int64{{user.ID: last}, {}, nil} {
		missed, err = s.Notifications.Since(ctx, last, 2)
		require.NoError(t, err)
		require.Empty(t, missed)
	}
}

func TestListAndReadNotifications(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user, other := s.MustCreateUser(t), s.MustCreateUser(t)
	var ids []uuid.UUID
	for i := range 23 {
		ids = append([]uuid.UUID{s.MustNotify(t, user.ID, fmt.Sprint(i)).ID}, ids...)
	}
	theirs := s.MustNotify(t, other.ID, "theirs")
	list := func(unread bool) []uuid.UUID {
		return collect(readAll(t, 5, func(page livestream.Page) (livestream.List[livestream.Notification], error) {
			return s.Notifications.List(ctx, user.ID, unread, page)
		}), func(n livestream.Notification) uuid.UUID { return n.ID })
	}
	require.Equal(t, ids, list(false), "newest first")
	require.Equal(t, ids, list(true))

	for range 2 {
		require.NoError(t, s.Notifications.MarkRead(ctx, user.ID, []uuid.UUID{ids[0], ids[7], theirs.ID, newID(t)}))
		require.Equal(t, ids, list(false))
		require.Equal(t, append(append([]uuid.UUID{}, ids[1:7]...), ids[8:]...), list(true))
	}
	require.False(t, inbox(t, s, other.ID)[0].Read, "it is another's")
	for range 2 {
		require.NoError(t, s.Notifications.MarkAllRead(ctx, user.ID))
		require.Empty(t, list(true))
	}
	require.False(t, inbox(t, s, other.ID)[0].Read)
	require.True(t, inbox(t, s, user.ID)[3].Read)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	got, err := s.Notifications.Settings(ctx, user.ID)
	require.NoError(t, err)
	require.Equal(t, everything, got)
	for _, want := range []livestream.NotificationSettings{{}, {TipReceived: true, ArchiveReady: true}, {StreamLive: true, NewFollower: true}, everything} {
		for range 2 {
			require.NoError(t, s.Notifications.SetSettings(ctx, user.ID, want))
			got, err = s.Notifications.Settings(ctx, user.ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	requireCode(t, livestream.CodeUserNotFound, s.Notifications.SetSettings(ctx, newID(t), everything))
}

func TestProgress(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID).ID
	requireProgress := func(want livestream.NotifyProgress) {
		t.Helper()
		got, err := s.Notifications.Progress(ctx, stream)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	requireProgress(livestream.NotifyProgress{Status: livestream.NotifyPending})
	save := func(p livestream.NotifyProgress) livestream.NotifyProgress {
		t.Helper()
		require.NoError(t, s.Notifications.SaveProgress(ctx, stream, p))
		return p
	}
	begun := now()
	begin := save(livestream.NotifyProgress{Status: livestream.NotifyRunning, FollowersTotal: 10, StartedAt: &begun})
	requireProgress(begin)
	half := begin
	half.Notified, half.Failed = 4, 1
	requireProgress(save(half))
	paused := half
	paused.Status = livestream.NotifyPaused
	requireProgress(save(paused))
	requireProgress(save(half))

	save(begin)
	requireProgress(half) // what comes late does not turn it back
	ended := now()
	done := half
	done.Status, done.Notified, done.FinishedAt = livestream.NotifyCompleted, 9, &ended
	requireProgress(save(done))
	late := half
	late.Notified = 9
	save(late)
	requireProgress(done)

	anew := now().Add(time.Second)
	requireProgress(save(livestream.NotifyProgress{Status: livestream.NotifyRunning, FollowersTotal: 10, StartedAt: &anew}))

	requireCode(t, livestream.CodeStreamNotFound, s.Notifications.SaveProgress(ctx, newID(t), begin))
}

// Ids that the database makes sort by time, as those made in Go do.
func TestNotificationIDsAreV7(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	user := s.MustCreateUser(t)
	id := s.MustNotify(t, user.ID, "one").ID
	require.EqualValues(t, 7, id.Version())
	require.Equal(t, uuid.RFC4122, id.Variant())
	seconds, _ := id.Time().UnixTime()
	require.InDelta(t, now().Unix(), seconds, testClockTolerance.Seconds())
	later := s.MustNotify(t, user.ID, "two").ID
	require.LessOrEqual(t, bytes.Compare(id[:6], later[:6]), 0)
}
