// Package redis keeps what is loud and short-lived: chat, viewer counts, tickets
// and pushes. It knows neither Temporal nor Gin.
package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Config says where Redis is and how much of it a process may use.
type Config struct {
	URL string
	// PoolSize is how many connections are open at most; default 50.
	PoolSize int
	// MaxIdle is how many unused ones are kept; default 20.
	MaxIdle int
	// ConnMaxLifetime replaces a connection; default 5 min.
	ConnMaxLifetime time.Duration
	// Instrument gets the client of the commands before its first use, to measure
	// them; nil leaves it as it is.
	Instrument func(*redis.Client) error
}

func (c Config) withDefaults() Config {
	if c.PoolSize == 0 {
		c.PoolSize = 50
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = 20
	}
	if c.ConnMaxLifetime == 0 {
		c.ConnMaxLifetime = 5 * time.Minute
	}
	return c
}

// silent drops the driver's own lines, which are not JSON: what goes wrong is an
// error that somebody gets.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// Client is the connections to Redis. Subscriptions have connections of their
// own, so that a busy one does not hold up commands.
type Client struct {
	commands *redis.Client
	pubsub   *redis.Client
}

// callTimeout bounds one command: what is kept here is not worth a longer wait.
const callTimeout = 2 * time.Second

// Open makes the client; it connects on first use.
func Open(_ context.Context, config Config) (*Client, error) {
	config = config.withDefaults()
	options, err := redis.ParseURL(config.URL)
	if err != nil {
		// The error repeats the URL, which may hold a password.
		return nil, errors.New("redis: the URL cannot be read; it looks like redis://host:6379/0")
	}
	options.ContextTimeoutEnabled = true // it is off by default
	options.DialTimeout = callTimeout
	options.ReadTimeout = callTimeout
	options.WriteTimeout = callTimeout
	options.PoolTimeout = callTimeout
	options.MaxRetries = 1
	options.DialerRetries = 1 // the retry above is enough
	pubsub := *options
	options.PoolSize = config.PoolSize
	options.MaxIdleConns = config.MaxIdle
	options.ConnMaxLifetime = config.ConnMaxLifetime
	c := &Client{commands: redis.NewClient(options), pubsub: redis.NewClient(&pubsub)}
	if config.Instrument != nil {
		if err := config.Instrument(c.commands); err != nil {
			return nil, errors.Join(fmt.Errorf("redis: %w", err), c.Close())
		}
	}
	return c, nil
}

// Stats are the states of the pools, for metrics: "commands" and "pubsub".
func (c *Client) Stats() map[string]*redis.PoolStats {
	return map[string]*redis.PoolStats{"commands": c.commands.PoolStats(), "pubsub": c.pubsub.PoolStats()}
}

// Close closes all connections.
func (c *Client) Close() error { return errors.Join(c.commands.Close(), c.pubsub.Close()) }

// Ping asks whether Redis answers.
func (c *Client) Ping(ctx context.Context) error {
	return edge("ping", c.commands.Ping(ctx).Err())
}

// away are answers of a Redis that is there and cannot serve at the moment.
var away = []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF", "OOM", "BUSY"}

// edge turns an error of the driver into the domain's. Redis refuses nothing that
// we ask: it is there or it is not.
func edge(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	var reply redis.Error
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.As(err, &reply) && !slices.ContainsFunc(away, func(prefix string) bool { return redis.HasErrorPrefix(reply, prefix) }) {
		return err
	}
	return livestream.Unavailable("live data", err)
}
