package redis_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

func TestATicketIsUsedOnce(t *testing.T) {
	t.Parallel()
	tickets, ctx := redis.NewTickets(open(t, testenv.Redis(t))), testenv.Context(t)
	want := livestream.Ticket{
		Purpose: livestream.TicketChat, StreamID: uuid.New(),
		Identity: livestream.Identity{UserID: uuid.New(), Role: livestream.RoleMember, FamilyID: uuid.New()},
	}
	token, err := tickets.Issue(ctx, want)
	require.NoError(t, err)
	got, err := tickets.Redeem(ctx, token)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, token := range []string{token, "", "guessed", strings.Repeat("x", 10_000)} {
		_, err = tickets.Redeem(ctx, token)
		requireCode(t, livestream.CodeInvalidWebSocketTicket, err)
	}

	token, err = tickets.Issue(ctx, want)
	require.NoError(t, err)
	var admitted atomic.Int32
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			if _, err := tickets.Redeem(ctx, token); err == nil {
				admitted.Add(1)
			}
		})
	}
	running.Wait()
	require.Equal(t, int32(1), admitted.Load(), "of several at once, one gets in")
}

func TestATicketExpiresAndIsStoredAsAHash(t *testing.T) {
	t.Parallel()
	url, ctx := testenv.Redis(t), testenv.Context(t)
	tickets, operator := redis.NewTickets(open(t, url)), raw(t, url)
	token, err := tickets.Issue(ctx, livestream.Ticket{Purpose: livestream.TicketNotifications})
	require.NoError(t, err)
	keys, err := operator.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.NotContains(t, keys[0], token)
	require.NotContains(t, operator.Get(ctx, keys[0]).Val(), token)
	ttl := operator.TTL(ctx, keys[0]).Val()
	require.Greater(t, ttl, time.Duration(0))
	require.LessOrEqual(t, ttl, livestream.TicketLifetime)
	require.NoError(t, operator.PExpire(ctx, keys[0], time.Millisecond).Err()) // its time passes
	require.Eventually(t, func() bool { return operator.Exists(ctx, keys[0]).Val() == 0 }, 5*time.Second, time.Millisecond)
	_, err = tickets.Redeem(ctx, token)
	requireCode(t, livestream.CodeInvalidWebSocketTicket, err)
}
