package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus/promhttp"

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
	config.Proxies
	config.Postgres
	config.Redis
	config.Chat
}

// gcPercent collects garbage more often than usual: what a connection keeps is
// small, and what little CPU that costs is less dear than the memory.
const gcPercent = 40

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
	proxies, err := prefixes(c.TrustedProxies)
	if err != nil {
		return err
	}
	limits := chat.Config{
		AllowedOrigins: c.Origins, TrustedProxies: proxies, FlushInterval: c.FlushInterval, DrainTime: c.DrainTime, MaxQueue: c.MaxQueue,
		MaxConnections: c.MaxConnections, MaxPerUser: c.MaxPerUser, MaxPerAddress: c.MaxPerAddress, MessagesPerSecond: c.MessagesPerSecond,
	}
	if c.Load() {
		limits.MessagesPerSecond, limits.MaxPerUser, limits.MaxPerAddress = loadMessagesPerSecond, limits.MaxConnections, limits.MaxConnections
	}
	chats := postgres.NewChats(db)
	events := redis.NewChat(cache, chats)
	server, err := chat.New(limits, chat.Deps{
		Events: events, Unsaved: events, History: chats, Rules: chats, Subscriber: redis.NewSubscriber(ctx, cache), Presence: redis.NewPresence(cache),
		Inboxes: postgres.NewNotifications(db), Logins: postgres.NewSessions(db), Users: postgres.NewUsers(db), Tickets: redis.NewTickets(cache),
		Channel: redis.ChatChannel,
		Shared: func(channel, payload string) *chat.Shared {
			return (*chat.Shared)(redis.ReadNotification(channel, payload))
		},
		Checks: map[string]func(context.Context) error{"postgres": db.Ping, "redis": cache.Ping},
		Log:    o.log, Metrics: o.registry,
	})
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
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

// prefixes reads networks; an address is a network of one.
func prefixes(texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if address, e := netip.ParseAddr(text); e == nil {
			prefix, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("trusted proxies: %w", err)
		}
		list = append(list, prefix)
	}
	return list, nil
}
