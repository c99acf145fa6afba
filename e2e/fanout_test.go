package e2e

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

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
	require.EqualValues(t, n, told(), "a follower was told twice, or not at all")
	require.EqualValues(t, n, s.number("SELECT count(DISTINCT user_id) FROM notifications WHERE key = $1", "stream_live:"+stream.ID))
	require.EqualValues(t, n, s.number("SELECT count(*) FROM inboxes WHERE unread = 1 AND last_seq = 1"), "the inboxes count it once")
	ada.end(stream)
}
