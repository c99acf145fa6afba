package auth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
)

func TestMediaGrant(t *testing.T) {
	t.Parallel()
	clock := time.Date(2026, 3, 1, 12, 10, 0, 0, time.UTC)
	now := func() time.Time { return clock }
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	tokens, err := auth.NewTokens(private, now)
	require.NoError(t, err)
	_, private, err = ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	foreign, err := auth.NewTokens(private, now)
	require.NoError(t, err)
	member := uuid.New()
	grant, until, err := tokens.GrantMedia(member)
	require.NoError(t, err)
	require.NotContains(t, grant, "/")

	of, err := tokens.VerifyMedia(grant)
	require.NoError(t, err)
	require.Equal(t, member, of)
	_, err = tokens.Verify(grant)
	require.Error(t, err, "it opens nothing but media")
	_, err = foreign.VerifyMedia(grant)
	require.Error(t, err)
	access, err := tokens.Issue(livestream.Identity{UserID: member})
	require.NoError(t, err)
	for _, bad := range []string{"", access, grant + "x", grant[:len(grant)-4] + "AAAA", strings.ToUpper(grant), "a.b.c"} {
		_, err = tokens.VerifyMedia(bad)
		require.Error(t, err, bad)
	}

	clock = clock.Add(40 * time.Minute)
	again, _, err := tokens.GrantMedia(member)
	require.NoError(t, err)
	require.Equal(t, grant, again, "the same for an hour, so that caches find what they have")
	clock = clock.Add(20 * time.Minute)
	again, _, err = tokens.GrantMedia(member)
	require.NoError(t, err)
	require.NotEqual(t, grant, again)

	clock = until.Add(-time.Second)
	_, err = tokens.VerifyMedia(grant)
	require.NoError(t, err)
	clock = until.Add(time.Second)
	_, err = tokens.VerifyMedia(grant)
	require.Error(t, err)
}
