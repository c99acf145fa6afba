package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func newClaim(tb testing.TB, user uuid.UUID, request string) livestream.IdempotencyClaim {
	return livestream.IdempotencyClaim{UserID: user, Operation: "create_tip", Key: "key", RequestHash: []byte(request), ResourceID: newID(tb)}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	first := newClaim(t, user, "request")
	record, err := s.Keys.Claim(ctx, first)
	require.NoError(t, err)
	require.Equal(t, livestream.IdempotencyRecord{ResourceID: first.ResourceID}, record)

	record, err = s.Keys.Claim(ctx, newClaim(t, user, "request"))
	require.NoError(t, err)
	require.Equal(t, livestream.IdempotencyRecord{ResourceID: first.ResourceID}, record, "the first one's id, and no answer yet")

	for _, status := range []int{201, 500} {
		require.NoError(t, s.Keys.SaveResponse(ctx, user, first.Operation, first.Key, status, []byte("answer")))
		record, err = s.Keys.Claim(ctx, newClaim(t, user, "request"))
		require.NoError(t, err)
		require.Equal(t, livestream.IdempotencyRecord{ResourceID: first.ResourceID, Status: 201, Response: []byte("answer")}, record, "the first answer stays")
	}
}

func TestClaimErrors(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	_, err := s.Keys.Claim(ctx, newClaim(t, user, "request"))
	require.NoError(t, err)
	_, err = s.Keys.Claim(ctx, newClaim(t, user, "another request"))
	requireCode(t, livestream.CodeIdempotencyKeyReused, err)
	_, err = s.Keys.Claim(ctx, newClaim(t, newID(t), "request"))
	requireCode(t, livestream.CodeUserNotFound, err)
	require.NoError(t, s.Keys.SaveResponse(ctx, user, "create_tip", "a key that nobody claimed", 201, nil))
}

func TestDeleteOldKeys(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	for i := range 5 {
		claim := newClaim(t, user, "request")
		claim.Key = fmt.Sprint("key ", i)
		_, err := s.Keys.Claim(ctx, claim)
		require.NoError(t, err)
		s.MustExec(t, "UPDATE idempotency_keys SET created_at = now() - $1 * interval '10 hours' WHERE key = $2", i, claim.Key)
	}
	left := func() int64 { return s.Number(t, "SELECT count(*) FROM idempotency_keys") }

	yesterday := now().Add(-24 * time.Hour)
	deleted, err := s.Keys.DeleteOld(ctx, yesterday, 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted, "as many as it may")
	require.Zero(t, s.Number(t, "SELECT count(*) FROM idempotency_keys WHERE key = 'key 4'"), "the oldest first")
	deleted, err = s.Keys.DeleteOld(ctx, yesterday, 100)
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted)
	require.EqualValues(t, 3, left(), "those of the last 24 hours stay")
	deleted, err = s.Keys.DeleteOld(ctx, yesterday, 100)
	require.NoError(t, err)
	require.Zero(t, deleted)

	for _, err := range race(4, func(int) error {
		_, err := s.Keys.DeleteOld(ctx, now().Add(time.Minute), 2)
		return err
	}) {
		require.NoError(t, err, "several may do it at once")
	}
}

// A payment's workflow is named after the key: whoever comes with it years later must
// not meet another request's payment.
func TestPaymentsKeysAreKept(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	first := newClaim(t, s.MustCreateUser(t).ID, "request")
	first.Operation = "transaction"
	_, err := s.Keys.Claim(ctx, first)
	require.NoError(t, err)
	s.MustExec(t, "UPDATE idempotency_keys SET created_at = now() - interval '3 years'")
	deleted, err := s.Keys.DeleteOld(ctx, now(), 100)
	require.NoError(t, err)
	require.Zero(t, deleted)
	record, err := s.Keys.Claim(ctx, first)
	require.NoError(t, err)
	require.Equal(t, first.ResourceID, record.ResourceID)
}

func TestKeysBelongToOneUserAndOperation(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	_, err := s.Keys.Claim(ctx, newClaim(t, user, "request"))
	require.NoError(t, err)

	foreign := newClaim(t, s.MustCreateUser(t).ID, "another request")
	record, err := s.Keys.Claim(ctx, foreign)
	require.NoError(t, err)
	require.Equal(t, foreign.ResourceID, record.ResourceID)
	other := newClaim(t, user, "another request")
	other.Operation = "create_stream"
	record, err = s.Keys.Claim(ctx, other)
	require.NoError(t, err)
	require.Equal(t, other.ResourceID, record.ResourceID)
}

func TestClaimsAtOnceGetOneResource(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t).ID
	claims, given := make([]livestream.IdempotencyClaim, 40), make([]uuid.UUID, 40)
	for i := range claims {
		claims[i] = newClaim(t, user, "request")
	}
	for _, err := range race(len(claims), func(i int) error {
		record, err := s.Keys.Claim(ctx, claims[i])
		given[i] = record.ResourceID
		return err
	}) {
		require.NoError(t, err)
	}
	first := 0
	for i := range claims {
		require.Equal(t, given[0], given[i])
		if claims[i].ResourceID == given[i] {
			first++
		}
	}
	require.Equal(t, 1, first)
}
