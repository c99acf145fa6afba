package chat

import (
	"context"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Events is the chats' history and fan-out.
type Events interface {
	Append(ctx context.Context, event livestream.NewChatEvent) (livestream.ChatEvent, bool, error)
	Since(ctx context.Context, streamID uuid.UUID, since livestream.ChatPosition) (events []livestream.ChatEvent, at livestream.ChatPosition, gap bool, err error)
	Last(ctx context.Context, streamID uuid.UUID, before int64, n int) ([]livestream.ChatEvent, error)
	ByID(ctx context.Context, streamID uuid.UUID, id int64) (*livestream.ChatEvent, error)
	Position(ctx context.Context, streamID uuid.UUID) (livestream.ChatPosition, error)
	NewEpoch(ctx context.Context, streamID uuid.UUID, was livestream.ChatPosition) error
}

// Subscriber hears what other nodes say.
type Subscriber interface {
	Add(ctx context.Context, channel string) error
	Remove(ctx context.Context, channel string) error
	Run(ctx context.Context, message func(channel, payload string), reset func())
}

// Presence counts viewers over all nodes.
type Presence interface {
	SetViewers(ctx context.Context, node string, viewers map[uuid.UUID]livestream.ChatViewers) (map[uuid.UUID]int64, error)
}

// Rules are what messages are checked against. They are read from the primary.
type Rules interface {
	Rules(ctx context.Context, streamID uuid.UUID) (livestream.ChatRules, error)
	FollowedAt(ctx context.Context, follower, followee uuid.UUID) (*time.Time, error)
}

// Inboxes are the members' notifications, and who of a creator's followers lies in a
// range of them.
type Inboxes interface {
	Since(ctx context.Context, last map[uuid.UUID]int64, limit int) ([]livestream.Notification, error)
	LastSeq(ctx context.Context, userID uuid.UUID) (int64, error)
	FollowersIn(ctx context.Context, creator uuid.UUID, r livestream.FollowerRange, limit int) ([]uuid.UUID, error)
}

// Logins says which of the logins, by their families, have ended.
type Logins interface {
	Ended(ctx context.Context, families []uuid.UUID) ([]uuid.UUID, error)
}

// Users finds users, and Tickets opens connections.
type (
	Users interface {
		ByID(ctx context.Context, id uuid.UUID) (livestream.User, error)
	}
	Tickets interface {
		Redeem(ctx context.Context, token string) (livestream.Ticket, error)
	}
)

// Deps are what a node works with; all of them are needed.
type Deps struct {
	Events     Events
	Subscriber Subscriber
	Presence   Presence
	Rules      Rules
	Unsaved    Unsaved
	History    History
	Inboxes    Inboxes
	Logins     Logins
	Users      Users
	Tickets    Tickets
	// Channel names the channel of a stream's chat.
	Channel func(streamID uuid.UUID) string
	// Shared reads a message of a channel that every node hears, and gives nil for
	// one of a stream's.
	Shared func(channel, payload string) *Shared
	// Checks are what /ready asks, by name. Without "redis" a node is down; without
	// another it goes on for those who are connected.
	Checks  map[string]func(context.Context) error
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// Shared is what concerns every node; one of the fields is set.
type Shared struct {
	Push   *livestream.NotificationPush
	Logout *uuid.UUID // the login that ended, by its family
	// Creator is one whose moderators changed.
	Creator *uuid.UUID
}

// Config is a node's limits; a zero value is the default.
type Config struct {
	// AllowedOrigins are the web pages that may connect, as "https://host"; clients
	// that send no Origin always may.
	AllowedOrigins []string
	// FlushInterval is how long a room rests when it was written to, so that events
	// share a frame, and up to half as long again by chance; default 50 ms. The
	// contract allows 100 in all.
	FlushInterval time.Duration
	// MaxConnections of this node; default 20,000. Beyond it upgrades get 503.
	MaxConnections int
	// MaxPerUser and MaxPerAddress are how many of them one member and one address may
	// have; default 50 and 2,000, which is for many people behind one address. Beyond
	// it upgrades get 429.
	MaxPerUser    int
	MaxPerAddress int
	// TrustedProxies are the networks whose X-Forwarded-For is believed; none by
	// default.
	TrustedProxies []netip.Prefix
	// MessagesPerSecond of one member in one chat, over all connections, with bursts of
	// five times that; default 2.
	MessagesPerSecond float64
	// MaxQueue is how many bytes may wait for a client that reads slowly; default
	// 256 KiB. Beyond it the client is told to come back for the rest.
	MaxQueue int
	// DrainTime is over what time a node that stops sends its clients away; default
	// 50 s, and shorter when they are few.
	DrainTime time.Duration
}

func (c Config) withDefaults() Config {
	if c.FlushInterval == 0 {
		c.FlushInterval = 50 * time.Millisecond
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 20_000
	}
	if c.MaxPerUser == 0 {
		c.MaxPerUser = 50
	}
	if c.MaxPerAddress == 0 {
		c.MaxPerAddress = 2000
	}
	if c.MessagesPerSecond == 0 {
		c.MessagesPerSecond = 2
	}
	if c.MaxQueue == 0 {
		c.MaxQueue = 256 << 10
	}
	if c.DrainTime == 0 {
		c.DrainTime = 50 * time.Second
	}
	return c
}
