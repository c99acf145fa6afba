package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// requireCounts says what a member's profile shows, and that it is true.
func requireCounts(tb testing.TB, s *store, user uuid.UUID, followers, following int64) {
	tb.Helper()
	read, err := s.Users.ByID(testenv.Context(tb), user)
	require.NoError(tb, err)
	require.Equal(tb, followers, read.FollowerCount, "followers")
	require.Equal(tb, following, read.FollowingCount, "following")
	require.Equal(tb, followers, s.Number(tb, "SELECT count(*) FROM follows WHERE following_id = $1", user))
	require.Equal(tb, following, s.Number(tb, "SELECT count(*) FROM follows WHERE follower_id = $1", user))
}

func TestFollowAndUnfollow(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	fan, creator := s.MustCreateUser(t), s.MustCreateUser(t)

	for _, isNew := range []bool{true, false} {
		ring, err := s.Follows.Follow(ctx, fan.ID, creator.ID)
		require.NoError(t, err)
		require.Equal(t, isNew, ring != nil)
		requireCounts(t, s, creator.ID, 1, 0)
		requireCounts(t, s, fan.ID, 0, 1)
	}
	for range 2 {
		require.NoError(t, s.Follows.Unfollow(ctx, fan.ID, creator.ID))
		requireCounts(t, s, creator.ID, 0, 0)
		requireCounts(t, s, fan.ID, 0, 0)
	}
}

// Who is followed is told, once a follower, however often these change their mind.
func TestFollowTellsTheFollowed(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	fan, creator := s.MustCreateUser(t), s.MustCreateUser(t)
	for range 2 {
		_, err := s.Follows.Follow(ctx, fan.ID, creator.ID)
		require.NoError(t, err)
		require.NoError(t, s.Follows.Unfollow(ctx, fan.ID, creator.ID))
	}
	told := inbox(t, s, creator.ID)
	require.Len(t, told, 1)
	require.Equal(t, livestream.NotifyNewFollower, told[0].Type)
	require.JSONEq(t, fmt.Sprintf(`{"user_id": %q, "username": %q, "count": 1}`, fan.ID, fan.Username), string(told[0].Data))
	require.Empty(t, inbox(t, s, fan.ID))
}

// Many at once are one notice, which grows while nobody has read it.
func TestNewFollowersAreToldTogether(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := make([]livestream.User, 20)
	for i := range fans {
		fans[i] = s.MustCreateUser(t)
	}
	for _, err := range race(len(fans), func(i int) error { _, err := s.Follows.Follow(ctx, fans[i].ID, creator.ID); return err }) {
		require.NoError(t, err)
	}
	told := inbox(t, s, creator.ID)
	require.Len(t, told, 1)
	require.Contains(t, string(told[0].Data), `"count": 20`)
	require.EqualValues(t, 1, s.unread(t, creator.ID))

	follow := func() *livestream.NotificationPush {
		ring, err := s.Follows.Follow(ctx, s.MustCreateUser(t).ID, creator.ID)
		require.NoError(t, err)
		return ring
	}
	require.Nil(t, follow(), "it does not ring for each")
	require.NoError(t, s.Notifications.MarkAllRead(ctx, creator.ID))
	require.NotNil(t, follow(), "what was read does not grow")
	s.MustExec(t, "UPDATE inboxes SET followers_at = followers_at - interval '6 minutes'")
	require.NotNil(t, follow(), "nor does what is old")
	require.Len(t, inbox(t, s, creator.ID), 3)
	requireKept(t, s)
}

// A follower counts once in the notice of those who came together, however often they
// change their mind: the first of them, the others, and who has been told of before.
func TestAFollowerCountsOnceInANotice(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator, ada, bob, old := s.MustCreateUser(t), s.MustCreateUser(t), s.MustCreateUser(t), s.MustCreateUser(t)
	follow := func(fan livestream.User) {
		t.Helper()
		_, err := s.Follows.Follow(ctx, fan.ID, creator.ID)
		require.NoError(t, err)
	}
	unfollow := func(fan livestream.User) {
		t.Helper()
		require.NoError(t, s.Follows.Unfollow(ctx, fan.ID, creator.ID))
	}
	count := func(want, of int) {
		t.Helper()
		told := inbox(t, s, creator.ID)
		require.Len(t, told, of)
		require.Contains(t, string(told[0].Data), fmt.Sprintf(`"count": %d`, want))
	}
	follow(old)
	require.NoError(t, s.Notifications.MarkAllRead(ctx, creator.ID))
	follow(ada)
	count(1, 2)
	follow(bob)
	count(2, 2)
	for _, fan := range []livestream.User{bob, ada, old} {
		for range 3 {
			unfollow(fan)
			follow(fan)
			count(2, 2)
		}
	}
	for range 2 {
		unfollow(bob)
		count(1, 2)
	}
	unfollow(ada)
	count(1, 2)
	follow(bob)
	count(2, 2)
	require.NoError(t, s.Follows.Block(ctx, creator.ID, bob.ID))
	count(1, 2)
	require.NoError(t, s.Follows.Unblock(ctx, creator.ID, bob.ID))

	follow(bob)
	require.NoError(t, s.Notifications.MarkAllRead(ctx, creator.ID))
	unfollow(bob)
	count(2, 2) // what was read stays as it was
	follow(bob)
	count(1, 3)
	requireKept(t, s)
}

// A follow that the notice was too old for is none of its number.
func TestALateFollowerIsNotTakenFromAnOldNotice(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := []livestream.User{s.MustCreateUser(t), s.MustCreateUser(t), s.MustCreateUser(t)}
	for _, fan := range fans[:2] {
		_, err := s.Follows.Follow(ctx, fan.ID, creator.ID)
		require.NoError(t, err)
	}
	s.MustExec(t, "UPDATE inboxes SET followers_at = followers_at - interval '6 minutes' WHERE user_id = $1", creator.ID)
	s.MustExec(t, "UPDATE notifications SET created_at = created_at - interval '6 minutes'")
	require.NoError(t, s.Notifications.SetSettings(ctx, creator.ID, livestream.NotificationSettings{}))
	_, err := s.Follows.Follow(ctx, fans[2].ID, creator.ID)
	require.NoError(t, err)
	require.NoError(t, s.Follows.Unfollow(ctx, fans[2].ID, creator.ID))
	told := inbox(t, s, creator.ID)
	require.Len(t, told, 1)
	require.Contains(t, string(told[0].Data), `"count": 2`)
}

// Followers of one creator who come and go at once leave the notice's number right.
func TestFollowersComeAndGoAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator, first := s.MustCreateUser(t), s.MustCreateUser(t)
	_, err := s.Follows.Follow(ctx, first.ID, creator.ID)
	require.NoError(t, err)
	fans := make([]livestream.User, 10)
	for i := range fans {
		fans[i] = s.MustCreateUser(t)
	}
	for _, err := range race(80, func(i int) error {
		fan := fans[i%10].ID
		if i%4 == 0 {
			return s.Follows.Unfollow(ctx, fan, creator.ID)
		}
		_, err := s.Follows.Follow(ctx, fan, creator.ID)
		return err
	}) {
		require.NoError(t, err)
	}
	told := inbox(t, s, creator.ID)
	require.Len(t, told, 1)
	require.Contains(t, string(told[0].Data), fmt.Sprintf(`"count": %d`, s.Number(t, "SELECT count(*) FROM follows WHERE following_id = $1", creator.ID)))
}

func TestFollowErrors(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	_, err := s.Follows.Follow(ctx, user.ID, user.ID)
	requireCode(t, livestream.CodeCannotFollowSelf, err)
	_, err = s.Follows.Follow(ctx, user.ID, newID(t))
	requireCode(t, livestream.CodeUserNotFound, err)
	_, err = s.Follows.Follow(ctx, newID(t), user.ID)
	requireCode(t, livestream.CodeUserNotFound, err)
	require.NoError(t, s.Follows.Unfollow(ctx, user.ID, newID(t)))
	requireCounts(t, s, user.ID, 0, 0)
}

func TestConcurrentFollowersAreCounted(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := make([]livestream.User, 50)
	for i := range fans {
		fans[i] = s.MustCreateUser(t)
	}
	for _, err := range race(len(fans), func(i int) error { _, err := s.Follows.Follow(ctx, fans[i].ID, creator.ID); return err }) {
		require.NoError(t, err)
	}
	requireCounts(t, s, creator.ID, 50, 0)
}

// Whatever the order in which they come, counts and follows agree; members who
// follow one another at once do not block each other.
func TestFollowAndUnfollowAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	a, b := s.MustCreateUser(t), s.MustCreateUser(t)
	for _, err := range race(80, func(i int) error {
		from, to := a.ID, b.ID
		if i%2 == 0 {
			from, to = to, from
		}
		if i%4 < 2 {
			_, err := s.Follows.Follow(ctx, from, to)
			return err
		}
		return s.Follows.Unfollow(ctx, from, to)
	}) {
		require.NoError(t, err)
	}
	for _, user := range []livestream.User{a, b} {
		requireCounts(t, s, user.ID, s.Number(t, "SELECT count(*) FROM follows WHERE following_id = $1", user.ID),
			s.Number(t, "SELECT count(*) FROM follows WHERE follower_id = $1", user.ID))
	}
}

// A hundred follows at the same microsecond are listed once each, newest first.
func TestListFollows(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	fans := s.MustCreateFollowers(t, creator.ID, 103)
	s.MustExec(t, "UPDATE follows SET followed_at = '2026-01-01' WHERE follower_id = ANY ($1)", fans[:100])
	s.MustExec(t, "INSERT INTO follows (follower_id, following_id, followed_at) SELECT $1, id, '2026-01-01' FROM unnest($2::uuid[]) id", creator.ID, fans)

	id := func(f livestream.Follow) uuid.UUID { return f.User.ID }
	followers := readAll(t, 10, func(page livestream.Page) (livestream.List[livestream.Follow], error) {
		return s.Follows.Followers(ctx, creator.ID, page)
	})
	require.ElementsMatch(t, fans, collect(followers, id))
	require.ElementsMatch(t, fans[100:], collect(followers[:3], id), "the newest come first")
	for i := 1; i < len(followers); i++ {
		require.False(t, followers[i].FollowedAt.After(followers[i-1].FollowedAt))
	}
	following := readAll(t, 10, func(page livestream.Page) (livestream.List[livestream.Follow], error) {
		return s.Follows.Following(ctx, creator.ID, page)
	})
	require.ElementsMatch(t, fans, collect(following, id))
}

func TestListFollowsShowsProfilesWithoutAddress(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	fan, creator := s.MustCreateUser(t), s.MustCreateUser(t)
	_, err := s.Follows.Follow(ctx, fan.ID, creator.ID)
	require.NoError(t, err)
	stream := s.MustCreateStream(t, fan.ID)

	list, err := s.Follows.Followers(ctx, creator.ID, livestream.Page{})
	require.NoError(t, err)
	require.Nil(t, list.Next)
	fan.Email, fan.FollowingCount, fan.LiveStreamID = "", 1, &stream.ID
	require.Equal(t, []livestream.User{fan}, collect(list.Data, func(f livestream.Follow) livestream.User { return f.User }))

	list, err = s.Follows.Followers(ctx, newID(t), livestream.Page{})
	require.NoError(t, err)
	require.Empty(t, list.Data)
	require.NotNil(t, list.Data)
}

func TestPageLimits(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	creator := s.MustCreateUser(t)
	s.MustCreateFollowers(t, creator.ID, 101)
	for limit, want := range map[int]int{0: livestream.DefaultPageLimit, -1: livestream.DefaultPageLimit, 1: 1, 100: 100, 1000: livestream.MaxPageLimit} {
		list, err := s.Follows.Followers(ctx, creator.ID, livestream.Page{Limit: limit})
		require.NoError(t, err)
		require.Len(t, list.Data, want)
		require.NotNil(t, list.Next)
	}
}
