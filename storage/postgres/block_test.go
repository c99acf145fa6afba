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

// Neither tips the other while one has blocked the other.
func TestBlockRefusesTips(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	a, b := s.MustCreateUser(t), s.MustCreateUser(t)
	tip := func(from, to uuid.UUID) error {
		_, err := s.Transactions.Create(ctx, newTip(t, from, to, 500), livestream.TipLimits{})
		return err
	}
	before := newTip(t, b.ID, a.ID, 500)
	_, err := s.Transactions.Create(ctx, before, livestream.TipLimits{})
	require.NoError(t, err)
	require.NoError(t, s.Follows.Block(ctx, a.ID, b.ID))
	requireCode(t, livestream.CodeBlocked, tip(b.ID, a.ID))
	requireCode(t, livestream.CodeBlocked, tip(a.ID, b.ID))
	require.NoError(t, tip(b.ID, s.MustCreateUser(t).ID), "others may")
	_, err = s.Transactions.Create(ctx, before, livestream.TipLimits{})
	require.NoError(t, err, "what is there stays")
	require.NoError(t, s.Follows.Unblock(ctx, a.ID, b.ID))
	require.NoError(t, tip(b.ID, a.ID))
}

// A tip that was under way when its recipient blocked its sender is theirs, and they
// are not told of it.
func TestABlockedTipIsBookedQuietly(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	recipient, blocked, other := s.MustCreateUser(t), s.MustCreateUser(t), s.MustCreateUser(t)
	var tips []livestream.Transaction
	for _, sender := range []livestream.User{blocked, other} {
		tips = append(tips, s.MustCreateTip(t, sender.ID, recipient.ID, 1000))
	}
	require.NoError(t, s.Follows.Block(ctx, recipient.ID, blocked.ID))
	require.NoError(t, s.Follows.Block(ctx, other.ID, s.MustCreateUser(t).ID))
	for _, tip := range tips {
		settled, err := s.Transactions.Settle(ctx, tip.ID, now(), hold)
		require.NoError(t, err)
		require.Equal(t, livestream.TransactionSucceeded, settled.Status)
	}
	told := inbox(t, s, recipient.ID)
	require.Len(t, told, 1)
	require.Contains(t, string(told[0].Data), other.ID.String())
	require.EqualValues(t, 1, s.unread(t, recipient.ID))
	requireKept(t, s)
	balances, err := s.Transactions.Balances(ctx, recipient.ID)
	require.NoError(t, err)
	require.Len(t, balances, 1)
	require.Equal(t, 2*(1000-livestream.PlatformFee(1000)), balances[0].Pending)
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
