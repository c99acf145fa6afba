package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

func TestOpenRefusesBadConfig(t *testing.T) {
	t.Parallel()
	const good = "postgres://user@127.0.0.1/db"
	for name, config := range map[string]postgres.Config{
		"no URL":                   {},
		"a URL that is none":       {URL: "postgres://%"},
		"a replica that is none":   {URL: good, ReplicaURLs: []string{"postgres://%"}},
		"negative connections":     {URL: good, MaxConns: -1},
		"negative connect timeout": {URL: good, ConnectTimeout: -1},
		"negative idle timeout":    {URL: good, IdleTimeout: -1},
		"negative lag":             {URL: good, MaxLag: -1},
		"no statement timeout":     {URL: good, StatementTimeout: time.Microsecond},
		"no lock timeout":          {URL: good, LockTimeout: -1},
		"no idle timeout in tx":    {URL: good, IdleInTxTimeout: -1},
	} {
		_, err := postgres.Open(testenv.Context(t), config)
		require.Error(t, err, name)
	}
}

func TestOpenDoesNotWaitForTheServer(t *testing.T) {
	t.Parallel()
	url := "postgres://user@" + closedPort(t) + "/db"
	s := storeAt(t, postgres.Config{URL: url, ReplicaURLs: []string{url}})
	requireCode(t, livestream.CodeUnavailable, s.Ping(testenv.Context(t)))
	requireCode(t, livestream.CodeUnavailable, s.PingReplicas(testenv.Context(t)))
}

// S5: the figures of a pool that says nothing else.
func TestPoolDefaults(t *testing.T) {
	t.Parallel()
	url := "postgres://user@" + closedPort(t) + "/db"
	configs := storeAt(t, postgres.Config{URL: url, ReplicaURLs: []string{url}}).PoolConfigs()
	require.Len(t, configs, 2)
	for _, config := range configs {
		require.EqualValues(t, 10, config.MaxConns)
		require.Equal(t, 30*time.Second, config.ConnConfig.ConnectTimeout)
		require.Equal(t, 10*time.Minute, config.MaxConnIdleTime)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := storeAt(t, postgres.Config{URL: url, ReplicaURLs: []string{url}, MaxConns: 3})
	require.NoError(t, s.Ping(testenv.Context(t)))
	require.NoError(t, s.PingReplicas(testenv.Context(t)))
	require.EqualValues(t, 3, s.Stats()["primary"].MaxConns())
}

// Each noun says "unavailable", with a time to come back, when there is no
// database, in reads, in writes and in transactions.
func TestUnavailableWithoutServer(t *testing.T) {
	t.Parallel()
	s := storeAt(t, postgres.Config{URL: "postgres://user@" + closedPort(t) + "/db"})
	ctx, id := testenv.Context(t), newID(t)
	for name, call := range map[string]func() error{
		"create user": func() error { _, err := s.Users.Create(ctx, someone(t)); return err },
		"read user":   func() error { _, err := s.Users.ByID(ctx, id); return err },
		"rotate": func() error {
			_, _, err := s.Sessions.Rotate(ctx, []byte("x"), livestream.RefreshToken{}, now())
			return err
		},
		"revoke":            func() error { _, err := s.Sessions.Revoke(ctx, []byte("x")); return err },
		"follow":            func() error { _, err := s.Follows.Follow(ctx, id, newID(t)); return err },
		"list followers":    func() error { _, err := s.Follows.Followers(ctx, id, livestream.Page{}); return err },
		"create stream":     func() error { _, err := s.Streams.Create(ctx, newStream(t, id), now()); return err },
		"update stream":     func() error { _, err := s.Streams.Update(ctx, id, id, livestream.StreamPatch{}); return err },
		"finish stream":     func() error { _, err := s.Streams.Finish(ctx, id, now(), 0, 0); return err },
		"timeline":          func() error { _, err := s.Streams.Timeline(ctx, id, livestream.Page{}); return err },
		"complete upload":   func() error { _, err := s.Recordings.Complete(ctx, id, id, now()); return err },
		"abandoned uploads": func() error { _, err := s.Recordings.Abandoned(ctx, id); return err },
		"archive ready": func() error {
			_, err := s.Archives.MarkReady(ctx, id, livestream.MediaInfo{}, nil, 0, now())
			return err
		},
		"delete archive": func() error { return s.Archives.Delete(ctx, id, id, id) },
		"notify range": func() error {
			_, err := s.Notifications.NotifyRange(ctx, livestream.GoLive{}, livestream.FollowerRange{})
			return err
		},
		"settings": func() error { _, err := s.Notifications.Settings(ctx, id); return err },
		"progress": func() error { _, err := s.Notifications.Progress(ctx, id); return err },
		"create tip": func() error {
			_, err := s.Transactions.Create(ctx, newTip(t, id, newID(t), 100), livestream.TipLimits{})
			return err
		},
		"settle":         func() error { _, err := s.Transactions.Settle(ctx, id, now(), hold); return err },
		"balances":       func() error { _, err := s.Transactions.Balances(ctx, id); return err },
		"claim a key":    func() error { _, err := s.Keys.Claim(ctx, livestream.IdempotencyClaim{}); return err },
		"save an event":  func() error { _, err := s.StripeEvents.Save(ctx, livestream.StripeEvent{}); return err },
		"mark delivered": func() error { return s.StripeEvents.MarkDelivered(ctx, "evt") },
	} {
		err := call()
		requireCode(t, livestream.CodeUnavailable, err)
		var told *livestream.Error
		require.ErrorAs(t, err, &told, name)
		require.Positive(t, told.ComeBack(), name)
		require.NotContains(t, told.Message, "127.0.0.1", name)
	}
}

func TestConnectionIsCutAndComesBack(t *testing.T) {
	t.Parallel()
	url, wire := proxied(t, testenv.Database(t))
	s, ctx := storeAt(t, postgres.Config{URL: url}), testenv.Context(t)
	user := s.MustCreateUser(t)

	wire.Stop()
	_, err := s.Users.ByID(ctx, user.ID)
	requireCode(t, livestream.CodeUnavailable, err)
	_, err = s.Streams.Create(ctx, newStream(t, user.ID), now())
	requireCode(t, livestream.CodeUnavailable, err)

	require.NoError(t, wire.Start())
	require.Eventually(t, func() bool {
		_, err := s.Users.ByID(ctx, user.ID)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
}

// A database that is there but does not answer is as good as none, and is left
// when the caller's time is over.
func TestServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	url, wire := proxied(t, testenv.Database(t))
	s := storeAt(t, postgres.Config{URL: url})
	user := s.MustCreateUser(t)
	_, err := wire.Toxics.AddToxicJson(strings.NewReader(`{"type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`))
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(testenv.Context(t), 200*time.Millisecond)
	defer cancel()
	_, err = s.Users.ByID(ctx, user.ID)
	requireCode(t, livestream.CodeUnavailable, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A statement that waits for somebody else is given up in time, alone and in a
// transaction, and what it held is free.
func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	s, ctx := storeAt(t, postgres.Config{URL: testenv.Database(t), StatementTimeout: 500 * time.Millisecond, LockTimeout: 100 * time.Millisecond}), testenv.Context(t)
	user := s.MustCreateUser(t)
	stream := s.MustCreateStream(t, user.ID)
	conn, err := pgx.Connect(ctx, s.URL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "BEGIN; LOCK TABLE users, streams")
	require.NoError(t, err)

	_, err = s.Users.ByID(ctx, user.ID)
	requireCode(t, livestream.CodeUnavailable, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = s.Streams.Finish(ctx, stream.ID, now(), 0, 0)
	requireCode(t, livestream.CodeUnavailable, err)
	require.ErrorContains(t, err, "lock timeout")
	require.Eventually(t, func() bool {
		return s.Number(t, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 0
	}, 10*time.Second, 10*time.Millisecond, "nobody waits on the server")

	_, err = conn.Exec(ctx, "ROLLBACK")
	require.NoError(t, err)
	_, err = s.Streams.Finish(ctx, stream.ID, now(), 0, 0)
	require.NoError(t, err)
}

func TestSlowStatementInTransaction(t *testing.T) {
	t.Parallel()
	database, ctx := testenv.Database(t), testenv.Context(t)
	patient, s := storeAt(t, postgres.Config{URL: database}), storeAt(t, postgres.Config{URL: database, StatementTimeout: 100 * time.Millisecond})
	follower, followee := patient.MustCreateUser(t), patient.MustCreateUser(t)
	patient.MustExec(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END';
		CREATE TRIGGER slow BEFORE INSERT ON follows FOR EACH ROW EXECUTE FUNCTION slow()`)
	_, err := s.Follows.Follow(ctx, follower.ID, followee.ID)
	requireCode(t, livestream.CodeUnavailable, err)
	require.Zero(t, patient.Number(t, "SELECT count(*) FROM follows"))
}

// The locks of a process that hangs, or whose network is gone, do not stay.
func TestLocksOfWhoFallsSilentEnd(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	direct := storeAt(t, postgres.Config{URL: database})
	proxy, url := testenv.NewProxy(t, database)
	s, ctx := storeAt(t, postgres.Config{URL: url, IdleInTxTimeout: 200 * time.Millisecond, LockTimeout: time.Minute, StatementTimeout: time.Minute}), testenv.Context(t)
	stream := direct.MustCreateStream(t, direct.MustCreateUser(t).ID)
	conn, err := pgx.Connect(ctx, database)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "BEGIN; LOCK TABLE streams")
	require.NoError(t, err)

	silent, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.Streams.Finish(silent, stream.ID, now(), 0, 0) // it never hears
	}()
	require.Eventually(t, func() bool { return direct.Number(t, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 1 }, 10*time.Second, 10*time.Millisecond)
	proxy.Freeze()
	_, err = conn.Exec(ctx, "ROLLBACK")
	require.NoError(t, err)
	_, err = direct.Streams.Finish(ctx, stream.ID, now(), 0, 0)
	require.NoError(t, err, "the row is free within the lock timeout of another one")
	cancel()
	<-ended
}

func TestCallerWhoGoesAwayIsNoOutage(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx, cancel := context.WithCancel(testenv.Context(t))
	cancel()
	_, err := s.Users.ByID(ctx, newID(t))
	requireCode(t, livestream.CodeInternal, err)
	require.ErrorIs(t, err, context.Canceled)
}

func TestClosedPoolIsUnavailable(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.Close()
	_, err := s.Users.ByID(testenv.Context(t), newID(t))
	requireCode(t, livestream.CodeUnavailable, err)
}

// Text that Postgres cannot hold is the client's mistake, whatever let it through.
func TestTextThatCannotBeStored(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	user := someone(t)
	user.DisplayName = "NUL \x00"
	_, err := s.Users.Create(testenv.Context(t), user)
	requireCode(t, livestream.CodeInvalidRequest, err)
	user.DisplayName = "half a \xc3"
	_, err = s.Users.Create(testenv.Context(t), user)
	requireCode(t, livestream.CodeInvalidRequest, err)
}

// What is nobody's fault but ours stays an internal error, with its cause.
func TestUnforeseenErrorIsInternal(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	user := someone(t)
	user.DisplayName = strings.Repeat("x", 51)
	_, err := s.Users.Create(testenv.Context(t), user)
	requireCode(t, livestream.CodeInternal, err)
	require.ErrorContains(t, err, "create user: ")
	require.False(t, errors.As(err, new(*livestream.Error)))
}
