package postgres_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func TestBlockEndsFollowsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	a, b := s.MustCreateUser(t), s.MustCreateUser(t)
	for _, pair := range [][2]uuid.UUID{{a.ID, b.ID}, {b.ID, a.ID}} {
		_, err := s.Follows.Follow(ctx, pair[0], pair[1])
		require.NoError(t, err)
	}
	for range 2 {
		require.NoError(t, s.Follows.Block(ctx, a.ID, b.ID))
		requireCounts(t, s, a.ID, 0, 0)
		requireCounts(t, s, b.ID, 0, 0)
	}
	_, err := s.Follows.Follow(ctx, a.ID, b.ID)
	requireCode(t, livestream.CodeBlocked, err)
	_, err = s.Follows.Follow(ctx, b.ID, a.ID)
	requireCode(t, livestream.CodeBlocked, err)
	for range 2 {
		require.NoError(t, s.Follows.Unblock(ctx, a.ID, b.ID))
	}
	_, err = s.Follows.Follow(ctx, b.ID, a.ID)
	require.NoError(t, err)
	requireCounts(t, s, a.ID, 1, 0)

	requireCode(t, livestream.CodeCannotBlockSelf, s.Follows.Block(ctx, a.ID, a.ID))
	requireCode(t, livestream.CodeUserNotFound, s.Follows.Block(ctx, a.ID, newID(t)))
}

// However a follow and a block meet, there is no follow beside a block.
func TestFollowAndBlockAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	a, b := s.MustCreateUser(t), s.MustCreateUser(t)
	for range 10 {
		errs := race(4, func(i int) error {
			if i == 0 {
				return s.Follows.Block(ctx, a.ID, b.ID)
			}
			_, err := s.Follows.Follow(ctx, b.ID, a.ID)
			return err
		})
		require.NoError(t, errs[0])
		requireCounts(t, s, a.ID, 0, 0)
		require.NoError(t, s.Follows.Unblock(ctx, a.ID, b.ID))
	}
}

func TestListBlocks(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	me := s.MustCreateUser(t)
	var want []uuid.UUID
	for range 7 {
		other := s.MustCreateUser(t)
		require.NoError(t, s.Follows.Block(ctx, me.ID, other.ID))
		want = append([]uuid.UUID{other.ID}, want...)
	}
	require.NoError(t, s.Follows.Block(ctx, want[0], me.ID))
	got := readAll(t, 3, func(page livestream.Page) (livestream.List[livestream.Block], error) {
		return s.Follows.Blocks(ctx, me.ID, page)
	})
	require.Equal(t, want, collect(got, func(b livestream.Block) uuid.UUID { return b.User.ID }))
}
