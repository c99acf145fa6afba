package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/internal/webpush"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	"github.com/livestream-pro/livestream-pro/storage/s3"
	"github.com/livestream-pro/livestream-pro/workers"
	"github.com/livestream-pro/livestream-pro/workflows"
	steer "github.com/livestream-pro/livestream-pro/workflows/client"
)

type workerCmd struct {
	Queues  []string `required:"" env:"QUEUES" help:"Task queues to serve, separated by commas: stream, notify, archive, transcode, payment, push."`
	Scratch string   `name:"scratch-dir" env:"SCRATCH_DIR" type:"path" help:"Folder in which this process makes one for files that are being worked on; the system's own when it is empty."`

	config.Log
	config.Tracing
	config.Listen
	config.Postgres
	config.Redis
	config.Temporal
	config.S3
	config.Stripe
	config.Payments
	config.Tiers
	config.PushKeys
	config.PushEndpoints
	config.Pushing
}

// Run serves the queues until ctx ends.
func (c *workerCmd) Run(ctx context.Context) error {
	for _, queue := range c.Queues {
		if !workers.Known(queue) {
			return fmt.Errorf("there is no queue %q; there are %v", queue, workers.Queues)
		}
	}
	o, err := observe(ctx, "worker", c.Log, &c.Tracing)
	if err != nil {
		return err
	}
	defer o.close()
	temporal, err := o.dialTemporal(ctx, c.Temporal)
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
	scratch, closeScratch, err := openScratch(c.Scratch)
	if err != nil {
		return err
	}
	defer closeScratch()
	steps, err := c.activities(db, cache, bucket, steer.New(temporal), o, scratch)
	if err != nil {
		return err
	}
	// A worker that ends by itself takes the process with it: one that does nothing
	// must not look healthy.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var stopping sync.WaitGroup
	defer stopping.Wait()
	for _, queue := range c.Queues {
		w, err := workers.New(temporal, queue, steps, workers.Limits{PaymentsPerSecond: c.CallsPerSecond}, fail)
		if err != nil {
			return err
		}
		if err := w.Start(); err != nil {
			return fmt.Errorf("start the worker of queue %s: %w", queue, err)
		}
		defer stopping.Go(w.Stop) // all at once, each takes its time
		go ensureSchedules(ctx, steer.New(temporal), queue, o.log)
	}
	var draining atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if draining.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{}))
	err = serve(ctx, c.Listen.Address, mux, o.log, func(context.Context) { draining.Store(true) })
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("a worker stopped by itself: %w", cause)
	}
	return err
}

// schedulePause is between two tries to see to a queue's schedules.
const schedulePause = 10 * time.Second

// ensureSchedules sees to a queue's schedules until that has worked. Work does not
// wait for it: a Temporal that is too busy for a schedule needs its workers all the
// more.
func ensureSchedules(ctx context.Context, temporal *steer.Client, queue string, log *zap.Logger) {
	for {
		err := temporal.EnsureSchedules(ctx, queue)
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Warn("see to the schedules", zap.String("queue", queue), zap.Error(err))
		select {
		case <-time.After(schedulePause):
		case <-ctx.Done():
		}
	}
}

func (c *workerCmd) activities(db *postgres.DB, cache *redis.Client, bucket *s3.Bucket, temporal *steer.Client, o *observed, scratch string) (workers.Activities, error) {
	rows, err := o.openStores(db, cache)
	if err != nil {
		return workers.Activities{}, err
	}
	var (
		notifications = postgres.NewNotifications(db)
		chat          = redis.NewChat(cache, postgres.NewChats(db))
		push          = redis.NewNotifications(cache)
		subscriptions = postgres.NewPushSubscriptions(db)
		browsers      = steer.NewBrowsers(temporal, subscriptions)
		now           = func() time.Time { return time.Now().UTC() }
	)
	steps := workers.Activities{
		Streams: &activities.Streams{
			Store: rows.streams, Recordings: rows.recordings, Uploads: bucket,
			Viewers: redis.NewPresence(cache), Chat: chat, Now: now,
		},
		Notifications: &activities.Notifications{Store: notifications, Timeline: rows.streams, Push: push, Browsers: browsers, Now: now},
		Housekeeping:  &activities.Housekeeping{Notifications: notifications, Keys: postgres.NewIdempotencyKeys(db), Sessions: postgres.NewSessions(db), StripeEvents: postgres.NewStripeEvents(db), Views: postgres.NewViews(db), Now: now},
		Views:         &activities.Views{Counts: redis.NewViews(cache), Store: postgres.NewViews(db)},
		Archives:      &activities.Archives{Store: rows.archives, Recordings: rows.recordings, Timeline: rows.streams, Objects: bucket, Notify: notifications, Push: push, Browsers: browsers, Now: now},
	}
	steps.Tiers = &activities.Tiers{Store: rows.archives, Objects: bucket, Notify: notifications, Push: push, Browsers: browsers, Rules: tierRules(c.Tiers), Now: now}
	orphans, err := telemetry.NewOrphans(o.registry, now)
	if err != nil {
		return steps, err
	}
	steps.Orphans = &activities.Orphans{Owners: postgres.NewOwners(db), Objects: bucket, Gauge: orphans, Now: now}
	if slices.Contains(c.Queues, workflows.QueuePayment) {
		provider, err := o.openStripe(c.Stripe, cache)
		if err != nil {
			return steps, err
		}
		payments := postgres.NewTransactions(db)
		steps.Transactions = &activities.Transactions{
			Store: payments, Stripe: provider, Users: rows.users, Chat: chat, Push: push, Browsers: browsers, Now: now, Hold: c.Hold,
			Limits: livestream.TipLimits{HourlyCount: c.HourlyCount, DailyCount: c.DailyCount, HourlyAmount: c.HourlyAmount, DailyAmount: c.DailyAmount},
		}
		refunds := postgres.NewRefunds(db)
		steps.Refunds = &activities.Refunds{Store: refunds, Payments: payments, Stripe: provider, Now: now, Hold: c.Hold}
		disputes, books := postgres.NewDisputes(db), postgres.NewReconciliation(db)
		steps.StripeEvents = &activities.StripeEvents{
			Payments: payments, Refunds: refunds, Disputes: disputes, Stripe: provider, Now: now, Hold: c.Hold,
		}
		differences, err := telemetry.NewDifferences(o.registry)
		if err != nil {
			return steps, err
		}
		steps.Reconciliation = &activities.Reconciliation{
			Books: books, Findings: books, Stripe: provider, Payments: payments, Refunds: refunds, Disputes: disputes, Counter: differences,
			Now: now, Hold: c.Hold,
		}
	}
	if slices.Contains(c.Queues, workflows.QueuePush) {
		if c.PushKeys.File == "" {
			return steps, errors.New("queue push needs a key: VAPID_PRIVATE_KEY_FILE")
		}
		keys, err := webpush.LoadKeys(c.PushKeys.File, c.PushKeys.PreviousFiles...)
		if err != nil {
			return steps, err
		}
		sender, err := webpush.New(webpush.Config{
			Keys: keys, Contact: c.Contact, PerSecond: c.PerSecond, AllowLoopback: c.AllowLoopback, Registry: o.registry,
		})
		if err != nil {
			return steps, err
		}
		steps.Pushes = &activities.Pushes{Store: subscriptions, Sender: sender}
	}
	if slices.Contains(c.Queues, workflows.QueueTranscode) {
		if err := ffmpeg.Conceal(); err != nil {
			return steps, err
		}
		tool, err := ffmpeg.New(ffmpeg.Config{})
		if err != nil {
			return steps, err
		}
		steps.Media = &activities.Media{
			Tool: tool, Plan: ffmpeg.Playlists{}, Store: bucket, Meter: redis.NewArchives(cache), Progress: rows.archives, Scratch: scratch,
		}
	}
	return steps, nil
}
