package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func newToken(tb testing.TB, user uuid.UUID) livestream.RefreshToken {
	hash := newID(tb)
	return livestream.RefreshToken{Hash: hash[:], FamilyID: newID(tb), UserID: user, ExpiresAt: now().Add(livestream.RefreshTokenLifetime)}
}

func (s *store) MustLogIn(tb testing.TB, user uuid.UUID) livestream.RefreshToken {
	tb.Helper()
	token := newToken(tb, user)
	require.NoError(tb, s.Sessions.Create(testenv.Context(tb), token))
	return token
}

// successor is what a token is rotated to; its family and user are the stores to
// know.
func successor(tb testing.TB) livestream.RefreshToken {
	hash := newID(tb)
	return livestream.RefreshToken{Hash: hash[:], ExpiresAt: now().Add(livestream.RefreshTokenLifetime)}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	token := s.MustLogIn(t, user.ID)
	require.NoError(t, s.Sessions.Create(ctx, token), "twice is once")
	require.NoError(t, s.Users.SetRole(ctx, user.Username, livestream.RoleAdmin))

	for range 3 {
		next := successor(t)
		stored, role, err := s.Sessions.Rotate(ctx, token.Hash, next, now())
		require.NoError(t, err)
		require.Equal(t, livestream.RoleAdmin, role, "the role is as of now")
		next.FamilyID, next.UserID = token.FamilyID, user.ID
		require.Equal(t, next, stored)
		token = next
	}
}

func TestCreateSessionOfNobody(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	requireCode(t, livestream.CodeUserNotFound, s.Sessions.Create(testenv.Context(t), newToken(t, newID(t))))
}

func TestRotateAgainInGraceGivesTheSameSuccessor(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	token, next, at := s.MustLogIn(t, s.MustCreateUser(t).ID), successor(t), now()
	first, _, err := s.Sessions.Rotate(ctx, token.Hash, next, at)
	require.NoError(t, err)

	later := next
	later.ExpiresAt = next.ExpiresAt.Add(livestream.RefreshGrace)
	again, _, err := s.Sessions.Rotate(ctx, token.Hash, later, at.Add(livestream.RefreshGrace))
	require.NoError(t, err)
	require.Equal(t, first, again, "as it was stored")

	_, _, err = s.Sessions.Rotate(ctx, next.Hash, successor(t), at.Add(time.Minute))
	require.NoError(t, err, "the family is not revoked")
}

func TestReuseRevokesTheFamily(t *testing.T) {
	t.Parallel()
	for name, reuse := range map[string]struct {
		after time.Duration
		same  bool
	}{
		"after the grace":   {after: livestream.RefreshGrace + time.Millisecond, same: true},
		"another successor": {after: 0, same: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ctx := newStore(t), testenv.Context(t)
			user := s.MustCreateUser(t)
			token, other, next, at := s.MustLogIn(t, user.ID), s.MustLogIn(t, user.ID), successor(t), now()
			_, _, err := s.Sessions.Rotate(ctx, token.Hash, next, at)
			require.NoError(t, err)

			again := next
			if !reuse.same {
				again = successor(t)
			}
			stored, _, err := s.Sessions.Rotate(ctx, token.Hash, again, at.Add(reuse.after))
			requireCode(t, livestream.CodeRefreshTokenReused, err)
			require.Equal(t, token.FamilyID, stored.FamilyID, "so that what it opened can be closed")

			_, _, err = s.Sessions.Rotate(ctx, next.Hash, successor(t), at.Add(reuse.after))
			requireCode(t, livestream.CodeInvalidRefreshToken, err)
			_, _, err = s.Sessions.Rotate(ctx, other.Hash, successor(t), at)
			require.NoError(t, err, "another login of the same member goes on")
		})
	}
}

func TestRotateRefusesBadTokens(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	_, _, err := s.Sessions.Rotate(ctx, []byte("of no known token"), successor(t), now())
	requireCode(t, livestream.CodeInvalidRefreshToken, err)

	token := s.MustLogIn(t, user.ID)
	_, _, err = s.Sessions.Rotate(ctx, token.Hash, successor(t), token.ExpiresAt)
	requireCode(t, livestream.CodeInvalidRefreshToken, err)
	_, _, err = s.Sessions.Rotate(ctx, token.Hash, successor(t), token.ExpiresAt.Add(-time.Microsecond))
	require.NoError(t, err, "it was used by nobody")
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	token, next := s.MustLogIn(t, s.MustCreateUser(t).ID), successor(t)
	_, _, err := s.Sessions.Rotate(ctx, token.Hash, next, now())
	require.NoError(t, err)

	for range 2 {
		family, err := s.Sessions.Revoke(ctx, token.Hash)
		require.NoError(t, err)
		require.Equal(t, token.FamilyID, family, "any token of the family ends it")
		_, _, err = s.Sessions.Rotate(ctx, next.Hash, successor(t), now())
		requireCode(t, livestream.CodeInvalidRefreshToken, err)
	}
	family, err := s.Sessions.Revoke(ctx, []byte("of no known token"))
	require.NoError(t, err)
	require.Equal(t, uuid.Nil, family)
}

func TestEndedSessions(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	open, ended := s.MustLogIn(t, user), s.MustLogIn(t, user)
	_, err := s.Sessions.Revoke(ctx, ended.Hash)
	require.NoError(t, err)
	families, err := s.Sessions.Ended(ctx, []uuid.UUID{open.FamilyID, ended.FamilyID, newID(t)})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{ended.FamilyID}, families)
}

// One client whose requests cross gets one successor.
func TestRotateAtOnceForTheSameSuccessor(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	token, next, at := s.MustLogIn(t, s.MustCreateUser(t).ID), successor(t), now()
	for _, err := range race(30, func(int) error {
		stored, _, err := s.Sessions.Rotate(ctx, token.Hash, next, at)
		if err == nil && stored.FamilyID != token.FamilyID {
			t.Error("another family")
		}
		return err
	}) {
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, s.Number(t, "SELECT count(*) FROM refresh_tokens"))
}

// Of a thief and a victim at the same moment one gets a token, and then both are
// out.
func TestRotateAtOnceForDifferentSuccessors(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	token := s.MustLogIn(t, s.MustCreateUser(t).ID)
	next := make([]livestream.RefreshToken, 30)
	for i := range next {
		next[i] = successor(t)
	}
	errs := race(len(next), func(i int) error { _, _, err := s.Sessions.Rotate(ctx, token.Hash, next[i], now()); return err })
	require.Equal(t, map[livestream.Code]int{"": 1, livestream.CodeRefreshTokenReused: 1, livestream.CodeInvalidRefreshToken: 28}, codes(errs))
	for i := range next {
		_, _, err := s.Sessions.Rotate(ctx, next[i].Hash, successor(t), now())
		requireCode(t, livestream.CodeInvalidRefreshToken, err)
	}
}

// A token that is issued while its login is revoked does not escape.
func TestRotateAndRevokeAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	token, next := s.MustLogIn(t, s.MustCreateUser(t).ID), successor(t)
	race(2, func(i int) error {
		if i == 0 {
			_, err := s.Sessions.Revoke(ctx, token.Hash)
			return err
		}
		_, _, err := s.Sessions.Rotate(ctx, token.Hash, next, now())
		return err
	})
	_, _, err := s.Sessions.Rotate(ctx, next.Hash, successor(t), now())
	requireCode(t, livestream.CodeInvalidRefreshToken, err)
}

func TestDeleteOldSessions(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	over, kept := s.MustLogIn(t, user), s.MustLogIn(t, user)
	next := successor(t)
	_, _, err := s.Sessions.Rotate(ctx, kept.Hash, next, now())
	require.NoError(t, err)
	for _, token := range []livestream.RefreshToken{over, kept} {
		s.MustExec(t, "UPDATE refresh_tokens SET expires_at = now() - interval '2 days' WHERE hash = $1", token.Hash)
	}

	for _, deleted := range []int64{1, 1, 0} {
		n, err := s.Sessions.DeleteOld(ctx, now().Add(-24*time.Hour), 1)
		require.NoError(t, err)
		require.Equal(t, deleted, n)
	}
	require.Zero(t, s.Number(t, "SELECT count(*) FROM sessions WHERE id = $1", over.FamilyID), "it had no other token")
	_, _, err = s.Sessions.Rotate(ctx, over.Hash, successor(t), now())
	requireCode(t, livestream.CodeInvalidRefreshToken, err)
	_, _, err = s.Sessions.Rotate(ctx, next.Hash, successor(t), now())
	require.NoError(t, err, "its login goes on")
}

func TestDeleteOldSessionsAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	token := s.MustLogIn(t, s.MustCreateUser(t).ID)
	for range 40 {
		next := successor(t)
		_, _, err := s.Sessions.Rotate(ctx, token.Hash, next, now())
		require.NoError(t, err)
		token = next
	}
	sweep := func(int) error {
		for {
			if n, err := s.Sessions.DeleteOld(ctx, now().Add(2*livestream.RefreshTokenLifetime), 3); err != nil || n == 0 {
				return err
			}
		}
	}
	for _, err := range race(8, sweep) {
		require.NoError(t, err)
	}
	require.NoError(t, sweep(0), "who found the login in others' hands left the rest of it")
	require.Zero(t, s.Number(t, "SELECT count(*) FROM refresh_tokens"))
	require.Zero(t, s.Number(t, "SELECT count(*) FROM sessions"), "whoever takes the last token takes the login")
}
