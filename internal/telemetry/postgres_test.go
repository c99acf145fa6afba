package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// openPool is a pool of at most so many connections, measured in registry.
func openPool(t *testing.T, registry *prometheus.Registry, conns int32) *pgxpool.Pool {
	t.Helper()
	tracer, err := telemetry.NewPostgresTracer(registry, noop.NewTracerProvider())
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig(testenv.Database(t))
	require.NoError(t, err)
	config.MaxConns = conns
	config.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// series are a metric's series, by the values of their labels.
func series(t *testing.T, registry *prometheus.Registry, name string) map[string]*dto.Metric {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	found := map[string]*dto.Metric{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			key := ""
			for _, label := range metric.GetLabel() {
				if key != "" {
					key += " "
				}
				key += label.GetValue()
			}
			found[key] = metric
		}
	}
	return found
}

func TestQueriesAreCountedByName(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	pool := openPool(t, registry, 2)
	ctx := testenv.Context(t)

	for range 3 {
		_, err := pool.Exec(ctx, "-- name: users.by_id\nSELECT 1")
		require.NoError(t, err)
	}
	_, err := pool.Exec(ctx, "-- name: users.broken\nSELECT 1/0")
	require.Error(t, err)
	_, err = pool.Exec(ctx, "SELECT 'somebody@example.com'")
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "-- name: users.lock\nSELECT 1")
		return err
	}))
	for _, options := range []pgx.TxOptions{{IsoLevel: pgx.Serializable}, {BeginQuery: "BEGIN; SET LOCAL lock_timeout = 100"}} {
		require.Error(t, pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error { return context.Canceled }))
	}

	counts := map[string]uint64{}
	for query, metric := range series(t, registry, "db_query_duration_seconds") {
		counts[query] = metric.GetHistogram().GetSampleCount()
	}
	require.Equal(t, map[string]uint64{
		"users.by_id": 3, "users.broken": 1, "users.lock": 1, "begin": 3, "commit": 1, "rollback": 2, "other": 1,
	}, counts, "what has no name of ours does not make series")
}

func TestDatabaseTimeOfARequest(t *testing.T) {
	t.Parallel()
	pool := openPool(t, prometheus.NewRegistry(), 4)
	ctx := telemetry.WithTimings(testenv.Context(t))
	began := time.Now()
	var queries errgroup.Group
	for range 4 {
		queries.Go(func() error {
			_, err := pool.Exec(ctx, "-- name: test.sleep\nSELECT pg_sleep(0.1)")
			return err
		})
	}
	require.NoError(t, queries.Wait())
	spent := telemetry.TimingsOf(ctx)
	require.GreaterOrEqual(t, spent.Database, 100*time.Millisecond)
	require.LessOrEqual(t, spent.Database, time.Since(began), "no more than the request itself took")
	require.Zero(t, spent.External)
	require.Zero(t, spent.Redis)
}

// A pool that is used up is a slow database to whoever waits.
func TestTheWaitForAConnectionIsDatabaseTime(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	pool := openPool(t, registry, 1)
	require.NoError(t, registry.Register(telemetry.NewPostgresCollector(func() map[string]*pgxpool.Stat {
		return map[string]*pgxpool.Stat{"primary": pool.Stat()}
	})))
	taken, err := pool.Acquire(testenv.Context(t))
	require.NoError(t, err)

	waiting, cancel := context.WithTimeout(testenv.Context(t), 50*time.Millisecond)
	defer cancel()
	ctx := telemetry.WithTimings(waiting)
	_, err = pool.Exec(ctx, "-- name: test.wait\nSELECT 1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.GreaterOrEqual(t, telemetry.TimingsOf(ctx).Database, 40*time.Millisecond)
	require.Empty(t, series(t, registry, "db_query_duration_seconds"), "the query itself never began")

	connections := series(t, registry, "db_pool_connections")
	require.EqualValues(t, 1, connections["primary acquired"].GetGauge().GetValue())
	require.EqualValues(t, 0, connections["primary idle"].GetGauge().GetValue())
	require.EqualValues(t, 1, series(t, registry, "db_pool_max_connections")["primary"].GetGauge().GetValue())
	require.EqualValues(t, 1, series(t, registry, "db_pool_canceled_acquires_total")["primary"].GetCounter().GetValue())

	done := make(chan error, 1)
	go func() {
		_, err := pool.Exec(testenv.Context(t), "-- name: test.wait\nSELECT 1")
		done <- err
	}()
	taken.Release()
	require.NoError(t, <-done)
	require.Eventually(t, func() bool { return pool.Stat().IdleConns() == 1 }, 10*time.Second, time.Millisecond)
	connections = series(t, registry, "db_pool_connections")
	require.EqualValues(t, 0, connections["primary acquired"].GetGauge().GetValue())
	require.EqualValues(t, 1, connections["primary idle"].GetGauge().GetValue())
	require.NotNil(t, series(t, registry, "db_pool_wait_seconds_total")["primary"])
}

func TestPoolsAreToldApart(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	primary, replica := openPool(t, prometheus.NewRegistry(), 3), openPool(t, prometheus.NewRegistry(), 5)
	require.NoError(t, registry.Register(telemetry.NewPostgresCollector(func() map[string]*pgxpool.Stat {
		return map[string]*pgxpool.Stat{"primary": primary.Stat(), "replica-1": replica.Stat()}
	})))
	most := series(t, registry, "db_pool_max_connections")
	require.EqualValues(t, 3, most["primary"].GetGauge().GetValue())
	require.EqualValues(t, 5, most["replica-1"].GetGauge().GetValue())
}

func TestAMetricIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	_, err := telemetry.NewPostgresTracer(registry, noop.NewTracerProvider())
	require.NoError(t, err)
	_, err = telemetry.NewPostgresTracer(registry, noop.NewTracerProvider())
	require.ErrorContains(t, err, "register")
	_, err = telemetry.NewExternal(registry, noop.NewTracerProvider())
	require.NoError(t, err)
	_, err = telemetry.NewExternal(registry, noop.NewTracerProvider())
	require.ErrorContains(t, err, "register")
}
