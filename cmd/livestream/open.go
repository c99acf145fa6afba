package main

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.uber.org/zap"

	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	"github.com/livestream-pro/livestream-pro/storage/s3"
)

// dialTemporal waits for Temporal, so that a role may be started before it.
func dialTemporal(ctx context.Context, c config.Temporal, log *zap.Logger) (client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		temporal, err := client.DialContext(ctx, client.Options{
			HostPort: c.Address, Namespace: c.Namespace, Logger: telemetry.NewTemporalLogger(log),
		})
		if err == nil {
			return temporal, nil
		}
		log.Warn("waiting for Temporal", zap.String("address", c.Address), zap.Error(err))
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("temporal at %s (TEMPORAL_ADDRESS) is not there: %w", c.Address, err)
		case <-time.After(time.Second):
		}
	}
}

// lazyTemporal connects on first use: reads and playback work without Temporal.
func lazyTemporal(c config.Temporal, log *zap.Logger) (client.Client, error) {
	return client.NewLazyClient(client.Options{HostPort: c.Address, Namespace: c.Namespace, Logger: telemetry.NewTemporalLogger(log)})
}

func openPostgres(ctx context.Context, c config.Postgres) (*postgres.DB, error) {
	return postgres.Open(ctx, postgres.Config{
		URL: c.URL, ReplicaURLs: c.ReplicaURLs, MaxConns: c.MaxConns, ConnectTimeout: c.Connect, IdleTimeout: c.Idle,
	})
}

func openRedis(ctx context.Context, c config.Redis) (*redis.Client, error) {
	return redis.Open(ctx, redis.Config{URL: c.URL, PoolSize: c.Active, MaxIdle: c.Idle, ConnMaxLifetime: c.Lifetime})
}

func openS3(c config.S3) (*s3.Bucket, error) {
	return s3.Open(s3.Config{Endpoint: c.Endpoint, PublicEndpoint: c.Public, Region: c.Region, Bucket: c.Bucket, AccessKey: c.AccessKey, SecretKey: c.SecretKey})
}
