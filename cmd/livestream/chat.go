package main

import (
	"context"
	"net/http"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/chat"
	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

type chatCmd struct {
	config.Log
	config.Listen
	config.Public
	config.Limits
	config.Postgres
	config.Redis
}

// loadMessagesPerSecond is what one connection may write in a load test, whose
// few senders stand for many.
const loadMessagesPerSecond = 1000

// Run serves the WebSockets until ctx ends.
func (c *chatCmd) Run(ctx context.Context) error {
	o, err := observe(ctx, "chat", c.Log, nil)
	if err != nil {
		return err
	}
	defer o.close()
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
	limits := chat.Config{AllowedOrigins: c.Origins}
	if c.Load() {
		limits.MessagesPerSecond = loadMessagesPerSecond
	}
	server, err := chat.New(limits, chat.Deps{
		Events: redis.NewChat(cache), Subscriber: redis.NewSubscriber(cache), Presence: redis.NewPresence(cache),
		Inboxes: postgres.NewNotifications(db), Logins: postgres.NewSessions(db), Streams: postgres.NewStreams(db), Users: postgres.NewUsers(db), Tickets: redis.NewTickets(cache),
		Channel: redis.ChatChannel,
		Shared: func(channel, payload string) (*livestream.NotificationPush, *uuid.UUID) {
			heard := redis.ReadNotification(channel, payload)
			if heard == nil {
				return nil, nil
			}
			return heard.Push, heard.Logout
		},
		Checks: map[string]func(context.Context) error{"postgres": db.Ping, "redis": cache.Ping},
		Log:    o.log, Metrics: o.registry,
	})
	if err != nil {
		return err
	}
	// The node hears the others until its last client has gone.
	hearing, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		server.Run(hearing)
	}()
	defer func() {
		stop()
		<-stopped
	}()
	mux := http.NewServeMux()
	mux.Handle("/", server)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{}))
	return serve(ctx, c.Listen.Address, mux, o.log, server.Drain)
}
