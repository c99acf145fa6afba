package main

import (
	"context"
	"time"

	"github.com/livestream-pro/livestream-pro/httpapi"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	"github.com/livestream-pro/livestream-pro/workflows/client"
)

type apiCmd struct {
	config.Log
	config.Listen
	config.Public
	config.Tokens
	config.Postgres
	config.Redis
	config.Temporal
	config.S3
	config.Stripe
}

// Run serves the REST API until ctx ends.
func (c *apiCmd) Run(ctx context.Context) error {
	log, err := telemetry.NewLogger(c.Level, "api")
	if err != nil {
		return err
	}
	now := func() time.Time { return time.Now().UTC() }
	tokens, err := auth.LoadTokens(c.KeyFile, now)
	if err != nil {
		return err
	}
	provider, err := stripe.New(stripe.Config{
		SecretKey: c.Stripe.SecretKey, BaseURL: c.BaseURL, WebhookSecrets: c.WebhookSecrets, Timeout: c.Timeout,
	})
	if err != nil {
		return err
	}
	temporal, err := lazyTemporal(c.Temporal, log)
	if err != nil {
		return err
	}
	defer temporal.Close()
	db, err := openPostgres(ctx, c.Postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	cache, err := openRedis(ctx, c.Redis)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // the process ends
	bucket, err := openS3(c.S3)
	if err != nil {
		return err
	}
	var (
		workflows = client.New(temporal)
		push      = redis.NewNotifications(cache)
	)
	server, err := httpapi.New(httpapi.Config{PublicURL: c.Public.URL, ChatURLs: c.ChatURLs}, httpapi.Deps{
		Tokens: tokens, Passwords: auth.NewPasswords(), Sessions: postgres.NewSessions(db), Logouts: push,
		Users: postgres.NewUsers(db), Follows: postgres.NewFollows(db),
		Streams: postgres.NewStreams(db), Viewers: redis.NewPresence(cache), Recordings: postgres.NewRecordings(db), Uploads: bucket,
		Archives: postgres.NewArchives(db), Media: bucket,
		Notifications: postgres.NewNotifications(db), Push: push,
		Transactions: postgres.NewTransactions(db), StripeEvents: postgres.NewStripeEvents(db), Webhooks: provider,
		Idempotency: postgres.NewIdempotencyKeys(db), Tickets: redis.NewTickets(cache), Workflows: workflows,
		Checks: map[string]func(context.Context) error{
			"postgres": db.Ping, "replicas": db.PingReplicas, "redis": cache.Ping, "temporal": workflows.Ping, "s3": bucket.Ping,
		},
		Log: log, Registry: telemetry.NewRegistry(), Now: now,
	})
	if err != nil {
		return err
	}
	return serve(ctx, c.Listen.Address, server, log, func(context.Context) { server.Drain() })
}
