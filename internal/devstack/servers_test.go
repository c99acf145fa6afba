package devstack

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// again starts the servers of a killed stack in the same folder, on the same ports.
func again(t *testing.T, s *Stack, starts ...func(*Stack, context.Context) error) *Stack {
	t.Helper()
	for _, p := range s.processes {
		p.Kill()
	}
	s.Close()
	lock, err := lockDir(s.options.Dir)
	require.NoError(t, err)
	next := &Stack{options: s.options, ports: s.ports, lock: lock, failed: make(chan error, 1), stopping: make(chan struct{})}
	t.Cleanup(next.Close)
	for _, start := range starts {
		require.NoError(t, start(next, t.Context()))
	}
	return next
}

func TestRedisKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	require.NoError(t, s.redis(t.Context()))
	options, err := redis.ParseURL(s.Env.RedisURL)
	require.NoError(t, err)
	c := redis.NewClient(options)
	defer c.Close()
	require.NoError(t, c.Set(t.Context(), "acknowledged", "yes", 0).Err())

	again(t, s, (*Stack).redis)
	value, err := c.Get(t.Context(), "acknowledged").Result()
	require.NoError(t, err)
	require.Equal(t, "yes", value)
}

func TestTemporalKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	require.NoError(t, s.temporal(t.Context()))
	c, err := client.DialContext(t.Context(), client.Options{HostPort: s.Env.TemporalAddress, Namespace: s.Env.TemporalNamespace, Logger: silent})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "acknowledged", TaskQueue: "nobody"}, "Waits")
	require.NoError(t, err)

	again(t, s, (*Stack).temporal)
	workflow, err := c.DescribeWorkflowExecution(t.Context(), "acknowledged", "")
	require.NoError(t, err)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, workflow.GetWorkflowExecutionInfo().GetStatus())
}

func TestPostgresKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	require.NoError(t, s.postgres(t.Context()))
	execute(t, s.Env.DatabaseURL, "CREATE TABLE kept (word text)")
	execute(t, s.Env.DatabaseURL, "INSERT INTO kept VALUES ('yes')")

	s = again(t, s, (*Stack).postgres)
	require.Equal(t, "yes", word(t, s.Env.DatabaseURL))

	// The replica still follows.
	execute(t, s.Env.DatabaseURL, "UPDATE kept SET word = 'later'")
	require.Len(t, s.Env.DatabaseReplicaURLs, 1)
	require.Eventually(t, func() bool { return word(t, s.Env.DatabaseReplicaURLs[0]) == "later" }, 20*time.Second, 20*time.Millisecond)
}

// A replica whose place in the primary's log is lost cannot follow, however long
// one waits.
func TestAReplicaThatCannotFollowIsCopiedAnew(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	require.NoError(t, s.postgres(t.Context()))
	execute(t, s.Env.DatabaseURL, "CREATE TABLE kept (word text)")
	replica := s.processes[len(s.processes)-1]
	require.Equal(t, "replica-1", replica.Name)
	replica.Kill()
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), s.Env.DatabaseURL)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), "SELECT pg_drop_replication_slot('replica_1')")
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	execute(t, s.Env.DatabaseURL, "INSERT INTO kept VALUES ('while it was away')")

	s = again(t, s, (*Stack).postgres)
	require.Eventually(t, func() bool { return word(t, s.Env.DatabaseReplicaURLs[0]) == "while it was away" }, 20*time.Second, 20*time.Millisecond)
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func word(t *testing.T, url string) (word string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT word FROM kept").Scan(&word))
	return word
}
