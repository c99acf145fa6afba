package telemetry

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
)

// InstrumentRedis makes the commands of a client add to the Timings of the
// request that they belong to, and spans of its trace. Spans name commands, never
// what they carry: that holds chat and tickets.
func InstrumentRedis(client *redis.Client, provider trace.TracerProvider) error {
	client.AddHook(redisTimer{})
	err := redisotel.InstrumentTracing(client,
		redisotel.WithTracerProvider(provider), redisotel.WithDBStatement(false), redisotel.WithCallerEnabled(false), redisotel.WithDialFilter(true))
	if err != nil {
		return fmt.Errorf("trace redis: %w", err)
	}
	return nil
}

// redisTimer times commands, the wait for a connection included.
type redisTimer struct{}

func (redisTimer) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (redisTimer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		watch := timingsOf(ctx).ofRedis()
		watch.start(time.Now())
		err := next(ctx, command)
		watch.stop(time.Now())
		return err
	}
}

func (redisTimer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		watch := timingsOf(ctx).ofRedis()
		watch.start(time.Now())
		err := next(ctx, commands)
		watch.stop(time.Now())
		return err
	}
}

var (
	redisConnections = prometheus.NewDesc("redis_pool_connections", "Connections of a pool: in use, idle, or subscribed.", []string{"pool", "state"}, nil)
	redisGot         = prometheus.NewDesc("redis_pool_acquires_total", "Connections that were taken from a pool: a hit was there, a miss had to be made.", []string{"pool", "result"}, nil)
	redisWaits       = prometheus.NewDesc("redis_pool_waits_total", "Those that had to be waited for.", []string{"pool"}, nil)
	redisWaited      = prometheus.NewDesc("redis_pool_wait_seconds_total", "The time of these waits.", []string{"pool"}, nil)
	redisTimeouts    = prometheus.NewDesc("redis_pool_timeouts_total", "Waits that took too long.", []string{"pool"}, nil)
	redisStale       = prometheus.NewDesc("redis_pool_stale_connections_total", "Connections that were replaced.", []string{"pool"}, nil)
)

// redisPools collects the figures of go-redis's pools.
type redisPools struct {
	stats func() map[string]*redis.PoolStats
}

// NewRedisCollector collects the figures of pools, by their names. stats is
// called at each scrape.
func NewRedisCollector(stats func() map[string]*redis.PoolStats) prometheus.Collector {
	return redisPools{stats}
}

func (c redisPools) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{redisConnections, redisGot, redisWaits, redisWaited, redisTimeouts, redisStale} {
		out <- d
	}
}

func (c redisPools) Collect(out chan<- prometheus.Metric) {
	for pool, s := range c.stats() {
		// The two are not read at one moment.
		used := max(float64(s.TotalConns)-float64(s.IdleConns), 0)
		out <- gauge(redisConnections, used, pool, "in_use")
		out <- gauge(redisConnections, float64(s.IdleConns), pool, "idle")
		out <- gauge(redisConnections, float64(s.PubSubStats.Active), pool, "subscribed")
		out <- counter(redisGot, float64(s.Hits), pool, "hit")
		out <- counter(redisGot, float64(s.Misses), pool, "miss")
		out <- counter(redisWaits, float64(s.WaitCount), pool)
		out <- counter(redisWaited, time.Duration(s.WaitDurationNs).Seconds(), pool)
		out <- counter(redisTimeouts, float64(s.Timeouts), pool)
		out <- counter(redisStale, float64(s.StaleConns), pool)
	}
}
