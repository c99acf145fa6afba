package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// replicated is a database with two replicas of the test's own.
type replicated struct {
	*store
	cluster *devstack.Cluster
	config  postgres.Config
}

func newReplicated(t *testing.T) *replicated {
	t.Helper()
	cluster := testenv.Cluster(t, 2)
	ctx := testenv.Context(t)
	require.NoError(t, postgres.Migrate(ctx, cluster.PrimaryURL, nil))
	config := postgres.Config{URL: cluster.PrimaryURL, ReplicaURLs: cluster.ReplicaURLs}
	r := &replicated{store: storeAt(t, config), cluster: cluster, config: config}
	r.awaitRotation(t, true, true)
	return r
}

func execAt(tb testing.TB, url, sql string, args ...any) {
	tb.Helper()
	ctx := testenv.Context(tb)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(tb, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	require.NoError(tb, err)
}

// awaitRotation waits until exactly these replicas are asked.
func (r *replicated) awaitRotation(tb testing.TB, want ...bool) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		for i, replica := range r.ReadStats().Replicas {
			if replica.InRotation != want[i] {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond, "%+v", r.ReadStats())
}

// awaitReplayed waits until all replicas have replayed a position.
func (r *replicated) awaitReplayed(tb testing.TB, position livestream.Position) {
	tb.Helper()
	ctx := testenv.Context(tb)
	for _, url := range r.cluster.ReplicaURLs {
		conn, err := pgx.Connect(ctx, url)
		require.NoError(tb, err)
		defer conn.Close(ctx)
		require.Eventually(tb, func() bool {
			var there bool
			err := conn.QueryRow(ctx, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position.String()).Scan(&there)
			return err == nil && there
		}, 30*time.Second, 5*time.Millisecond)
	}
}

// fromReplicas allows replicas that have replayed a position.
func fromReplicas(ctx context.Context, after livestream.Position) context.Context {
	return livestream.WithReadPolicy(ctx, livestream.ReadPolicy{Replica: true, After: after})
}

// since gives the numbers of what happened since others were taken.
func since(now, then postgres.ReadStats) (primary, replicas int64, fallbacks postgres.FallbackStats) {
	for i := range now.Replicas {
		replicas += now.Replicas[i].Reads - then.Replicas[i].Reads
	}
	return now.Primary - then.Primary, replicas, postgres.FallbackStats{
		Down: now.Fallbacks.Down - then.Fallbacks.Down, Lag: now.Fallbacks.Lag - then.Fallbacks.Lag, Behind: now.Fallbacks.Behind - then.Fallbacks.Behind,
	}
}

// writeAndRead has clients change a profile and read it, n times in all, each with
// the position that its write gave, and counts the reads that lack the write.
func (r *replicated) writeAndRead(t *testing.T, n int) (stale int64) {
	t.Helper()
	const clients = 20
	ctx := testenv.Context(t)
	var wrong atomic.Int64
	var wait sync.WaitGroup
	for range clients {
		user := r.MustCreateUser(t)
		wait.Go(func() {
			for i := range n / clients {
				name := fmt.Sprint("name ", i)
				_, err := r.Users.Update(ctx, user.ID, livestream.UserPatch{DisplayName: &name})
				if !assert.NoError(t, err) {
					return
				}
				position, err := r.Position(ctx)
				if !assert.NoError(t, err) {
					return
				}
				got, err := r.Users.ByID(fromReplicas(ctx, position), user.ID)
				if !assert.NoError(t, err) {
					return
				}
				if got.DisplayName != name {
					wrong.Add(1)
				}
			}
		})
	}
	wait.Wait()
	return wrong.Load()
}

// C3: each client reads what it wrote, whatever the replicas do, and replicas
// serve what they can.
func TestReplicas(t *testing.T) {
	t.Parallel()
	r := newReplicated(t)
	ctx := testenv.Context(t)
	const pairs = 10_000

	t.Run("healthy", func(t *testing.T) {
		const pairs = 2000
		before := r.ReadStats()
		require.Zero(t, r.writeAndRead(t, pairs), "stale reads")
		primary, replicas, fallbacks := since(r.ReadStats(), before)
		t.Logf("%d reads by the primary, %d by replicas, %+v", primary, replicas, fallbacks)
		require.EqualValues(t, pairs, primary+replicas)
		require.GreaterOrEqual(t, replicas, int64(pairs*8/10))
		for i, replica := range r.ReadStats().Replicas {
			require.Greater(t, replica.Reads-before.Replicas[i].Reads, int64(pairs/10), "both take part")
		}
	})

	t.Run("the zero policy reads the primary", func(t *testing.T) {
		before := r.ReadStats()
		_, err := r.Streams.List(ctx, livestream.StreamFilter{}, livestream.Page{})
		require.NoError(t, err)
		primary, replicas, fallbacks := since(r.ReadStats(), before)
		require.EqualValues(t, 1, primary)
		require.Zero(t, replicas)
		require.Zero(t, fallbacks, "nobody wanted a replica")
	})

	t.Run("every list may", func(t *testing.T) {
		id, page, free := newID(t), livestream.Page{}, fromReplicas(ctx, 0)
		for name, list := range map[string]func() error{
			"streams": func() error { _, err := r.Streams.List(free, livestream.StreamFilter{}, page); return err },
			"by viewers": func() error {
				_, err := r.Streams.List(free, livestream.StreamFilter{Sort: livestream.SortViewers}, page)
				return err
			},
			"timeline":      func() error { _, err := r.Streams.Timeline(free, id, page); return err },
			"archives":      func() error { _, err := r.Archives.List(free, livestream.ArchiveFilter{}, page); return err },
			"followers":     func() error { _, err := r.Follows.Followers(free, id, page); return err },
			"following":     func() error { _, err := r.Follows.Following(free, id, page); return err },
			"notifications": func() error { _, err := r.Notifications.List(free, id, false, page); return err },
			"progress":      func() error { _, err := r.Notifications.Progress(free, id); return err },
			"a user":        func() error { _, err := r.Users.ByID(free, id); return notFound(err, livestream.CodeUserNotFound) },
			"a stream":      func() error { _, err := r.Streams.ByID(free, id); return notFound(err, livestream.CodeStreamNotFound) },
			"an archive": func() error {
				_, err := r.Archives.ByID(free, id)
				return notFound(err, livestream.CodeArchiveNotFound)
			},
		} {
			before := r.ReadStats()
			require.NoError(t, list(), name)
			primary, replicas, _ := since(r.ReadStats(), before)
			require.Zero(t, primary, name)
			require.EqualValues(t, 1, replicas, name)
		}
	})

	t.Run("money, permissions and credentials never do", func(t *testing.T) {
		payer, creator := r.MustCreateUser(t), r.MustCreateUser(t)
		tip := r.MustCreateTip(t, payer.ID, creator.ID, 500)
		free, before := fromReplicas(ctx, 0), r.ReadStats()
		_, err := r.Transactions.ByID(free, tip.ID, payer.ID)
		require.NoError(t, err)
		_, err = r.Transactions.List(free, livestream.TransactionFilter{UserID: payer.ID}, livestream.Page{})
		require.NoError(t, err)
		_, err = r.Transactions.Balances(free, creator.ID)
		require.NoError(t, err)
		_, err = r.Users.CredentialsByEmail(free, payer.Email)
		require.NoError(t, err)
		_, err = r.Sessions.Ended(free, nil)
		require.NoError(t, err)
		_, err = r.Notifications.Settings(free, payer.ID)
		require.NoError(t, err)
		_, err = r.Streams.Update(free, newID(t), payer.ID, livestream.StreamPatch{})
		requireCode(t, livestream.CodeStreamNotFound, err)
		requireCode(t, livestream.CodeArchiveNotFound, r.Archives.Delete(free, newID(t), newID(t), payer.ID))
		_, replicas, _ := since(r.ReadStats(), before)
		require.Zero(t, replicas)
	})

	t.Run("a position that nobody wrote is not waited for", func(t *testing.T) {
		user := r.MustCreateUser(t)
		before := r.ReadStats()
		for range 20 {
			_, err := r.Users.ByID(fromReplicas(ctx, 1<<63), user.ID)
			require.NoError(t, err)
		}
		primary, _, fallbacks := since(r.ReadStats(), before)
		require.EqualValues(t, 20, primary)
		require.EqualValues(t, 20, fallbacks.Behind)
	})

	t.Run("a replica that lags 2 s", func(t *testing.T) {
		execAt(t, r.cluster.ReplicaURLs[0], "ALTER SYSTEM SET recovery_min_apply_delay = '2s'")
		execAt(t, r.cluster.ReplicaURLs[0], "SELECT pg_reload_conf()")
		before := r.ReadStats()
		require.Zero(t, r.writeAndRead(t, pairs), "stale reads")
		primary, replicas, fallbacks := since(r.ReadStats(), before)
		t.Logf("%d reads by the primary, %d by replicas, %+v", primary, replicas, fallbacks)
		require.Greater(t, replicas, primary, "the other one goes on")
		r.MustCreateUser(t)
		r.awaitRotation(t, false, true)
		require.Greater(t, r.ReadStats().Replicas[0].Lag, time.Second)

		execAt(t, r.cluster.ReplicaURLs[0], "ALTER SYSTEM RESET recovery_min_apply_delay")
		execAt(t, r.cluster.ReplicaURLs[0], "SELECT pg_reload_conf()")
		r.awaitRotation(t, true, true)
		require.Eventually(t, func() bool { return r.ReadStats().Replicas[0].Lag == 0 }, 10*time.Second, 10*time.Millisecond, "nothing is written, and nothing lacks")
	})

	t.Run("no replica replays", func(t *testing.T) {
		for _, url := range r.cluster.ReplicaURLs {
			execAt(t, url, "SELECT pg_wal_replay_pause()")
		}
		before := r.ReadStats()
		require.Zero(t, r.writeAndRead(t, pairs), "stale reads")
		primary, replicas, fallbacks := since(r.ReadStats(), before)
		t.Logf("%d reads by the primary, %d by replicas, %+v", primary, replicas, fallbacks)
		require.EqualValues(t, pairs, primary+replicas)
		require.Positive(t, fallbacks.Behind, "at first they are waited for")
		require.Positive(t, fallbacks.Lag, "and then no more")
		r.awaitRotation(t, false, false)
		for _, url := range r.cluster.ReplicaURLs {
			execAt(t, url, "SELECT pg_wal_replay_resume()")
		}
		r.awaitRotation(t, true, true)
	})

	t.Run("a replica is killed under load", func(t *testing.T) {
		load := r.readAlways(t)
		load.more(t, 1000)
		before := r.ReadStats()
		r.cluster.Replicas[0].Kill()
		r.awaitRotation(t, false, true)
		load.more(t, 1000)
		r.restart(t, 0)
		r.awaitRotation(t, true, true)
		back := r.ReadStats().Replicas[0].Reads
		load.more(t, 1000)
		load.stop()
		require.Greater(t, r.ReadStats().Replicas[0].Reads, back, "it is asked again")
		primary, replicas, fallbacks := since(r.ReadStats(), before)
		t.Logf("%d reads by the primary, %d by replicas, %+v", primary, replicas, fallbacks)
		require.Greater(t, replicas, primary, "the other one takes over")
	})

	t.Run("a replica hangs under load", func(t *testing.T) {
		proxy, url := testenv.NewProxy(t, r.cluster.ReplicaURLs[0])
		config := r.config
		config.ReplicaURLs = []string{url, r.cluster.ReplicaURLs[1]}
		r := &replicated{store: storeAt(t, config), cluster: r.cluster, config: config}
		r.awaitRotation(t, true, true)
		load := r.readAlways(t)
		load.more(t, 1000)
		proxy.Freeze()
		r.awaitRotation(t, false, true)
		load.more(t, 1000)
		proxy.Thaw()
		r.awaitRotation(t, true, true)
		load.more(t, 1000)
		load.stop()
	})

	// Last: it does not come back from this.
	t.Run("a replica that becomes a primary", func(t *testing.T) {
		user := r.MustCreateUser(t)
		position, err := r.Position(ctx)
		require.NoError(t, err)
		r.awaitReplayed(t, position)
		execAt(t, r.cluster.ReplicaURLs[0], "SELECT pg_promote()")
		r.awaitRotation(t, false, true)
		execAt(t, r.cluster.ReplicaURLs[0], "UPDATE users SET display_name = 'of another history' WHERE id = $1", user.ID)
		for range 20 {
			got, err := r.Users.ByID(fromReplicas(ctx, 0), user.ID)
			require.NoError(t, err)
			require.Equal(t, user.DisplayName, got.DisplayName)
		}
	})
}

// load is readers who read one member all the time, as far as replicas have it.
type load struct {
	reads atomic.Int64
	stop  func()
}

func (r *replicated) readAlways(t *testing.T) *load {
	t.Helper()
	user := r.MustCreateUser(t)
	ctx, cancel := context.WithCancel(testenv.Context(t))
	position, err := r.Position(ctx)
	require.NoError(t, err)
	l := &load{}
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			for ctx.Err() == nil {
				_, err := r.Users.ByID(fromReplicas(ctx, position), user.ID)
				if ctx.Err() == nil && !assert.NoError(t, err) {
					return
				}
				l.reads.Add(1)
			}
		})
	}
	l.stop = func() {
		cancel()
		readers.Wait()
	}
	t.Cleanup(l.stop)
	return l
}

// more waits until there were n more reads.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	have := l.reads.Load()
	require.Eventually(t, func() bool { return l.reads.Load() > have+n }, 30*time.Second, time.Millisecond)
}

func notFound(err error, code livestream.Code) error {
	if livestream.CodeOf(err) == code {
		return nil
	}
	return err
}

func (r *replicated) restart(t *testing.T, i int) {
	t.Helper()
	ctx := testenv.Context(t)
	process := r.cluster.Replicas[i]
	require.NoError(t, process.Start())
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(ctx, r.cluster.ReplicaURLs[i])
		if err == nil {
			conn.Close(ctx)
			return true
		}
		select {
		case <-process.Done(): // connections of its predecessor were still there
			require.NoError(t, process.Start())
		default:
		}
		return false
	}, time.Minute, 50*time.Millisecond)
}
