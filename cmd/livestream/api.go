package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/httpapi"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/cdn"
	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/webpush"
	"github.com/livestream-pro/livestream-pro/storage/cached"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	"github.com/livestream-pro/livestream-pro/workflows/client"
)

type apiCmd struct {
	config.Log
	config.Tracing
	config.Listen
	config.Public
	config.Media
	config.Tokens
	config.PushKeys
	config.PushEndpoints
	config.Limits
	config.Proxies
	config.Requests
	config.Tips
	config.Postgres
	config.Redis
	config.Temporal
	config.S3
	config.StripeWebhooks
}

// loadPerMinute is what one client may ask in a load test, where it stands for
// many.
const loadPerMinute = 10_000_000

// mediaTimeout is how long a player waits for the first byte of a file.
const mediaTimeout = 3 * time.Second

// collectAt lets the heap grow to five times what is live before it is collected:
// little of it is, and a cached read takes a sixth less time (docs/performance.md).
// GOGC in the environment has precedence.
const collectAt = 400

// Run serves the REST API until ctx ends.
func (c *apiCmd) Run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	o, err := observe(ctx, "api", c.Log, &c.Tracing)
	if err != nil {
		return err
	}
	defer o.close()
	now := func() time.Time { return time.Now().UTC() }
	tokens, err := auth.LoadTokens(c.Tokens.KeyFile, now, c.PreviousKeyFiles...)
	if err != nil {
		return err
	}
	webhooks, err := stripe.NewWebhooks(c.WebhookSecrets)
	if err != nil {
		return err
	}
	temporal, err := o.lazyTemporal(c.Temporal)
	if err != nil {
		return err
	}
	defer temporal.Close()
	db, err := o.openPostgres(ctx, c.Postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	cache, err := o.openRedis(ctx, c.Redis)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // the process ends
	bucket, err := o.openS3(ctx, c.S3, 0)
	if err != nil {
		return err
	}
	media, err := o.openS3(ctx, c.S3, mediaTimeout)
	if err != nil {
		return err
	}
	var cookies httpapi.MediaCookies
	if c.Media.KeyPairID != "" {
		if cookies, err = cdn.NewCloudFront(cdn.Config{KeyPairID: c.Media.KeyPairID, PrivateKeyFile: c.Media.KeyFile, Domain: c.Media.CookieDomain}); err != nil {
			return err
		}
	}
	var pushKeys webpush.Keys
	if c.PushKeys.File != "" {
		if pushKeys, err = webpush.LoadKeys(c.PushKeys.File); err != nil {
			return err
		}
	}
	rows, err := o.openStores(db, cache)
	if err != nil {
		return err
	}
	go rows.copies.KeepNear(ctx)
	limits := httpapi.Limits{
		ReadsPerMinute: c.ReadsPerMinute, WritesPerMinute: c.WritesPerMinute, LoginsPerMinute: c.LoginsPerMinute, LoginsPerAccount: c.LoginsPerAccount,
	}
	if c.Limits.Load() {
		limits = httpapi.Limits{ReadsPerMinute: loadPerMinute, WritesPerMinute: loadPerMinute, LoginsPerMinute: loadPerMinute, LoginsPerAccount: loadPerMinute}
	}
	ranges, err := tipRanges(c.Ranges)
	if err != nil {
		return err
	}
	var (
		workflows     = client.New(temporal)
		subscriptions = postgres.NewPushSubscriptions(db)
		push          = redis.NewNotifications(cache)
		chats         = postgres.NewChats(db)
		limiter       = redis.NewRateLimiter(cache)
	)
	if err := o.registry.Register(limiter); err != nil {
		return err
	}
	server, err := httpapi.New(httpapi.Config{
		PublicURL: c.Public.URL, MediaURL: c.Media.URL, MaxMedia: c.MaxFiles, MaxMediaPerAddress: c.MaxPerAddress, ChatURLs: c.ChatURLs, AllowedOrigins: c.Origins, TrustedProxies: c.TrustedProxies, Limits: limits, TipRanges: ranges, PushKey: pushKeys.Public, PushAnywhere: c.AllowLoopback,
	}, httpapi.Deps{
		Tokens: tokens, Passwords: auth.NewPasswords(), Sessions: postgres.NewSessions(db), Logouts: push,
		Users: rows.users, Follows: rows.follows,
		Streams: rows.streams, StreamRows: postgres.NewStreams(db), Viewers: cached.NewViewers(redis.NewPresence(cache)), Recordings: rows.recordings, Uploads: bucket,
		Archives: rows.archives, Media: media, MediaCookies: cookies, Views: redis.NewViews(cache),
		Notifications: postgres.NewNotifications(db), Push: push, PushSubscriptions: subscriptions, Browsers: client.NewBrowsers(workflows, subscriptions),
		Transactions: postgres.NewTransactions(db), StripeEvents: postgres.NewStripeEvents(db), Webhooks: webhooks,
		Chats: chats, ChatEvents: redis.NewChat(cache, chats), Moderators: push,
		Idempotency: postgres.NewIdempotencyKeys(db), Tickets: redis.NewTickets(cache), Workflows: workflows,
		Database: db, LastWrites: redis.NewLastWrites(cache), RateLimiter: limiter,
		Checks: map[string]func(context.Context) error{
			"postgres": db.Ping, "replicas": db.PingReplicas, "redis": cache.Ping, "temporal": workflows.Ping, "s3": bucket.Ping,
		},
		Log: o.log, Registry: o.registry, Traces: o.traces, Now: now,
	})
	if err != nil {
		return err
	}
	return serve(ctx, c.Listen.Address, server, o.log, func(ctx context.Context) {
		server.Drain()
		select {
		case <-time.After(c.Notice):
		case <-ctx.Done():
		}
	})
}

// tipRanges reads the ranges of tips: "100-50000" by currency.
func tipRanges(texts map[string]string) (map[string]livestream.AmountRange, error) {
	ranges := map[string]livestream.AmountRange{}
	for currency, text := range texts {
		var r livestream.AmountRange
		if n, err := fmt.Sscanf(text, "%d-%d", &r.Min, &r.Max); n != 2 || err != nil || r.Min < livestream.MinTipAmount || r.Max > livestream.MaxTipAmount || r.Min > r.Max {
			return nil, fmt.Errorf("the range of tips in %s is %q: it is two amounts within %d-%d", currency, text, livestream.MinTipAmount, livestream.MaxTipAmount)
		}
		ranges[currency] = r
	}
	return ranges, nil
}
