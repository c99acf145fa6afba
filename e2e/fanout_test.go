package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// The fan-out in chaos is short in every run of the tests; make chaos-fanout has it long.
var (
	followers   = flag.Int("followers", 20_000, "how many followers TestFanOutInChaos tells")
	workerKills = flag.Int("worker-kills", 3, "how often the worker is killed meanwhile")
)

// outageLimit is how long a part is away at most.
const outageLimit = 2 * time.Second

// The worker is killed at random moments of a fan-out, and after each of them another
// part goes away for a while. In the end each follower has been told once, and their
// inbox counts it once.
func TestFanOutInChaos(t *testing.T) {
	t.Parallel()
	cluster, temporal := testenv.Cluster(t, 0), newTemporal(t, nil)
	require.NoError(t, postgres.Migrate(testenv.Context(t), cluster.PrimaryURL, nil))
	var redis *testenv.Proxy
	s := newStackOn(t, place{database: cluster.PrimaryURL, temporal: temporal}, api|worker, func(env *devstack.Env) {
		redis, env.RedisURL = testenv.NewProxy(t, env.RedisURL)
	})
	away := func() { pause(s.ctx, rand.N(outageLimit)) }
	outages := []func(){
		func() {
			redis.Cut()
			away()
			redis.Restore()
		},
		func() {
			temporal.Kill()
			away()
			require.NoError(t, temporal.Launch(s.ctx))
		},
		func() {
			cluster.KillPrimary()
			away()
			require.NoError(t, cluster.RestartPrimary(s.ctx))
		},
	}
	ada := s.register("ada")
	s.followedBy(ada, *followers)
	stream := ada.start(false)
	told := func() (n int) {
		err := s.db.QueryRow(s.ctx, "SELECT count(*) FROM notifications WHERE key = $1", "stream_live:"+stream.ID).Scan(&n)
		if err != nil {
			return 0 // its connections were to the one that was killed
		}
		return n
	}

	for kill := range *workerKills {
		moment := int((float64(kill) + rand.Float64()) * float64(*followers) / float64(*workerKills+1))
		s.until("the fan-out has come to the next kill", func() bool { return told() >= moment })
		pause(s.ctx, rand.N(100*time.Millisecond))
		s.kill(s.worker)
		t.Logf("killed after %d", told())
		s.restart(s.worker)
		outages[kill%len(outages)]()
	}

	n := int64(*followers)
	t.Logf("the progress: %+v", ada.progressed(stream.ID, "completed")) // the rows are what counts
	s.until("the database takes connections again", func() bool { return told() > 0 })
	require.EqualValues(t, n, told(), "a follower was told twice, or not at all")
	require.EqualValues(t, n, s.number("SELECT count(DISTINCT user_id) FROM notifications WHERE key = $1", "stream_live:"+stream.ID))
	require.EqualValues(t, n, s.number("SELECT count(*) FROM inboxes WHERE unread = 1 AND last_seq = 1"), "the inboxes count it once")
	ada.end(stream)
}

// followedBy gives a creator followers, straight in the database.
func (s *stack) followedBy(creator member, followers int) {
	s.Helper()
	_, err := s.db.Exec(s.ctx, `
		WITH fans AS (
			INSERT INTO users (id, username, email, display_name, password_hash)
			SELECT uuid_v7(), name, name || '@example.com', name, '!'
			FROM (SELECT left(md5($1::text || n), 20) AS name FROM generate_series(1, $2::int) n) names
			RETURNING id
		)
		INSERT INTO follows (follower_id, following_id) SELECT id, $1::uuid FROM fans`, creator.id, followers)
	require.NoError(s, err)
	_, err = s.db.Exec(s.ctx, `INSERT INTO follow_counts (user_id, followers) VALUES ($1, $2)`, creator.id, followers)
	require.NoError(s, err)
}

// follower gives one of them, by their number.
func (s *stack) follower(creator member, number int) (follower uuid.UUID) {
	s.Helper()
	row := s.db.QueryRow(s.ctx, "SELECT follower_id FROM follows WHERE following_id = $1 ORDER BY follower_id OFFSET $2 LIMIT 1", creator.id, number)
	require.NoError(s, row.Scan(&follower))
	return follower
}

// hold makes the inboxes of some followers, by their numbers, busy until release: the
// fan-out gets as far as their ranges and waits there.
func (s *stack) hold(creator member, numbers ...int) (release func()) {
	s.Helper()
	tx := s.begin()
	for _, n := range numbers {
		_, err := tx.Exec(s.ctx, "INSERT INTO inboxes AS i (user_id, last_seq) VALUES ($1, 1) ON CONFLICT (user_id) DO UPDATE SET last_seq = i.last_seq", s.follower(creator, n))
		require.NoError(s, err)
	}
	return func() { require.NoError(s, tx.Rollback(s.ctx)) }
}

// jam makes every attempt at the range of a follower fail, with an error that another
// attempt may get over.
func (s *stack) jam(creator member, number int) {
	s.Helper()
	_, err := s.db.Exec(s.ctx, fmt.Sprintf(`
		CREATE FUNCTION jam() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the inbox is jammed'; END $$;
		CREATE TRIGGER jam BEFORE INSERT OR UPDATE ON inboxes FOR EACH ROW WHEN (NEW.user_id = '%s') EXECUTE FUNCTION jam()`, s.follower(creator, number)))
	require.NoError(s, err)
}

// misplace takes the account of a follower, by their number, and leaves that they follow:
// no attempt at their range works before it is repaired.
func (s *stack) misplace(creator member, number int) (repair func()) {
	s.Helper()
	follower, tx := s.follower(creator, number), s.begin()
	_, err := tx.Exec(s.ctx, "SET LOCAL session_replication_role = replica") // leaves the foreign keys alone
	require.NoError(s, err)
	_, err = tx.Exec(s.ctx, "DELETE FROM users WHERE id = $1", follower)
	require.NoError(s, err)
	require.NoError(s, tx.Commit(s.ctx))
	return func() {
		_, err := s.db.Exec(s.ctx, "DELETE FROM follows WHERE follower_id = $1", follower)
		require.NoError(s, err)
	}
}

// waiting waits until the fan-out waits.
func (s *stack) waiting() {
	s.Helper()
	s.until("the fan-out has come to the busy inbox", func() bool {
		return s.number(`
			SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'transactionid' AND query LIKE '%notify_range%'`) > 0
	})
}
