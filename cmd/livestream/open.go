package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	"github.com/livestream-pro/livestream-pro/storage/s3"
)

// dialTemporal waits for Temporal, so that a role may be started before it.
func (o *observed) dialTemporal(ctx context.Context, c config.Temporal) (client.Client, error) {
	options, err := o.temporalOptions(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		temporal, err := client.DialContext(ctx, options)
		if err == nil {
			return temporal, nil
		}
		o.log.Warn("waiting for Temporal", zap.String("address", c.Address), zap.Error(err))
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("temporal at %s (TEMPORAL_ADDRESS) is not there: %w", c.Address, err)
		case <-time.After(time.Second):
		}
	}
}

// lazyTemporal connects on first use: reads and playback work without Temporal.
func (o *observed) lazyTemporal(c config.Temporal) (client.Client, error) {
	options, err := o.temporalOptions(c)
	if err != nil {
		return nil, err
	}
	return client.NewLazyClient(options)
}

// temporalOptions are a client's. Its workers trace too.
func (o *observed) temporalOptions(c config.Temporal) (client.Options, error) {
	tracing, err := telemetry.NewTemporalTracing(o.traces)
	if err != nil {
		return client.Options{}, err
	}
	return client.Options{
		HostPort: c.Address, Namespace: c.Namespace, Logger: telemetry.NewTemporalLogger(o.log),
		Interceptors:      []interceptor.ClientInterceptor{tracing},
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{o.external.TemporalCalls()}},
	}, nil
}

func (o *observed) openPostgres(ctx context.Context, c config.Postgres) (*postgres.DB, error) {
	tracer, err := telemetry.NewPostgresTracer(o.registry, o.traces)
	if err != nil {
		return nil, err
	}
	settings := postgresConfig(c)
	settings.Tracer = tracer
	db, err := postgres.Open(ctx, settings)
	if err != nil {
		return nil, err
	}
	for _, collector := range []prometheus.Collector{telemetry.NewPostgresCollector(db.Stats), newReads(db.ReadStats)} {
		if err := o.registry.Register(collector); err != nil {
			db.Close()
			return nil, fmt.Errorf("register the database's metrics: %w", err)
		}
	}
	return db, nil
}

func postgresConfig(c config.Postgres) postgres.Config {
	return postgres.Config{
		URL: c.URL, ReplicaURLs: c.ReplicaURLs, MaxConns: c.MaxConns, ConnectTimeout: c.Connect, IdleTimeout: c.Idle,
		MaxLag: c.MaxLag, StatementTimeout: c.Statement, LockTimeout: c.Lock,
	}
}

func (o *observed) openRedis(ctx context.Context, c config.Redis) (*redis.Client, error) {
	cache, err := redis.Open(ctx, redis.Config{
		URL: c.URL, PoolSize: c.Active, MaxIdle: c.Idle, ConnMaxLifetime: c.Lifetime,
		Instrument: func(client *goredis.Client) error { return telemetry.InstrumentRedis(client, o.traces) },
	})
	if err != nil {
		return nil, err
	}
	if err := o.registry.Register(telemetry.NewRedisCollector(cache.Stats)); err != nil {
		cache.Close() //nolint:errcheck // it was not used
		return nil, fmt.Errorf("register the pools' metrics: %w", err)
	}
	return cache, nil
}

// openS3 opens the bucket; a call of zero has the usual time.
func (o *observed) openS3(ctx context.Context, c config.S3, call time.Duration) (*s3.Bucket, error) {
	return s3.Open(ctx, s3.Config{
		Endpoint: c.Endpoint, PublicEndpoint: c.Public, Region: c.Region, Bucket: c.Bucket,
		CallTimeout: call,
		Transport:   o.external.Transport("s3"),
	})
}

// probeLease is longer than a call of Stripe takes, its wait for its turn included.
const probeLease = 3 * time.Second

// openStripe guards the calls of all processes together, through Redis.
func (o *observed) openStripe(c config.Stripe, cache *redis.Client) (*stripe.Client, error) {
	circuit, err := redis.NewCircuit(cache, livestream.CircuitPolicy{
		Name: "stripe", Window: c.BreakerWindow, Minimum: c.BreakerMinimum, Rate: c.BreakerRate, Pause: c.BreakerPause,
		Probes: 3, Lease: c.Timeout + probeLease,
	})
	if err != nil {
		return nil, err
	}
	limiter := redis.NewRateLimiter(cache)
	for _, collector := range []prometheus.Collector{circuit, limiter} {
		if err := o.registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register the metrics of Stripe's guard: %w", err)
		}
	}
	return stripe.New(stripe.Config{
		SecretKey: c.SecretKey, BaseURL: c.BaseURL, Timeout: c.Timeout, Transport: o.external.Transport("stripe"),
		Breaker: circuit, Limiter: limiter, CallsPerSecond: c.CallsPerSecond,
	})
}
