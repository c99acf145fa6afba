package telemetry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// NewPostgresTracer sees every query of a pool: it observes
// db_query_duration_seconds by the query's name, adds to the Timings of the
// request that it belongs to, and makes it a span of the request's trace.
func NewPostgresTracer(registry prometheus.Registerer, provider trace.TracerProvider) (pgx.QueryTracer, error) {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "db_query_duration_seconds", Help: "Time of a query until its rows are read, by the name in its first line.",
		Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
	}, []string{"query"})
	if err := registry.Register(seconds); err != nil {
		return nil, fmt.Errorf("register the queries' metric: %w", err)
	}
	spans := otelpgx.NewTracer(
		otelpgx.WithTracerProvider(provider),
		otelpgx.WithSpanNameFunc(queryName),
		otelpgx.WithDisableConnectionDetailsInAttributes(),
	)
	return multitracer.New(&queryTimer{seconds}, spans), nil
}

// queryName is the name in a query's first line, "-- name: noun.action". The
// names are constants of storage/postgres, which bounds them. What has none is
// the driver's own: the statements around a transaction, and "other".
func queryName(sql string) string {
	rest, named := strings.CutPrefix(sql, "-- name: ")
	if !named {
		word, _, _ := strings.Cut(sql, " ") // options and settings may follow
		switch word = strings.ToLower(strings.TrimSuffix(word, ";")); word {
		case "begin", "commit", "rollback":
			return word
		}
		return "other"
	}
	name, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(name)
}

// queryTimer times queries and the wait for a connection.
type queryTimer struct{ seconds *prometheus.HistogramVec }

var _ pgxpool.AcquireTracer = (*queryTimer)(nil)

type queryKey struct{}

type query struct {
	name  string
	began time.Time
}

func (t *queryTimer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	now := time.Now()
	timingsOf(ctx).ofDatabase().start(now)
	return context.WithValue(ctx, queryKey{}, query{queryName(data.SQL), now})
}

func (t *queryTimer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	now := time.Now()
	timingsOf(ctx).ofDatabase().stop(now)
	if q, ok := ctx.Value(queryKey{}).(query); ok {
		t.seconds.WithLabelValues(q.name).Observe(now.Sub(q.began).Seconds())
	}
}

func (t *queryTimer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	timingsOf(ctx).ofDatabase().start(time.Now())
	return ctx
}

func (t *queryTimer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	timingsOf(ctx).ofDatabase().stop(time.Now())
}

var (
	dbConnections = prometheus.NewDesc("db_pool_connections", "Connections of a pool: acquired, idle or being made.", []string{"pool", "state"}, nil)
	dbMax         = prometheus.NewDesc("db_pool_max_connections", "Connections that a pool opens at most.", []string{"pool"}, nil)
	dbAcquires    = prometheus.NewDesc("db_pool_acquires_total", "Connections that were taken from a pool.", []string{"pool"}, nil)
	dbWaits       = prometheus.NewDesc("db_pool_waits_total", "Those that had to be waited for.", []string{"pool"}, nil)
	dbWaited      = prometheus.NewDesc("db_pool_wait_seconds_total", "The time of these waits.", []string{"pool"}, nil)
	dbGivenUp     = prometheus.NewDesc("db_pool_canceled_acquires_total", "Waits whose caller gave up.", []string{"pool"}, nil)
)

// postgresPools collects the figures of pgx's pools.
type postgresPools struct {
	stats func() map[string]*pgxpool.Stat
}

// NewPostgresCollector collects the figures of pools, by their names: "primary",
// "replica-1" and so on. stats is called at each scrape.
func NewPostgresCollector(stats func() map[string]*pgxpool.Stat) prometheus.Collector {
	return postgresPools{stats}
}

func (c postgresPools) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{dbConnections, dbMax, dbAcquires, dbWaits, dbWaited, dbGivenUp} {
		out <- d
	}
}

func (c postgresPools) Collect(out chan<- prometheus.Metric) {
	for pool, s := range c.stats() {
		out <- gauge(dbConnections, float64(s.AcquiredConns()), pool, "acquired")
		out <- gauge(dbConnections, float64(s.IdleConns()), pool, "idle")
		out <- gauge(dbConnections, float64(s.ConstructingConns()), pool, "constructing")
		out <- gauge(dbMax, float64(s.MaxConns()), pool)
		out <- counter(dbAcquires, float64(s.AcquireCount()), pool)
		out <- counter(dbWaits, float64(s.EmptyAcquireCount()), pool)
		out <- counter(dbWaited, s.EmptyAcquireWaitTime().Seconds(), pool)
		out <- counter(dbGivenUp, float64(s.CanceledAcquireCount()), pool)
	}
}

func gauge(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func counter(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
}
