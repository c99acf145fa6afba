package cached

import (
	"context"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// Database says how far the primary's log is.
type Database interface {
	Position(ctx context.Context) (livestream.Position, error)
}

// Cache is what the stores share.
type Cache struct {
	copies   *redis.Cache
	database Database
}

// New keeps copies of what is in a database.
func New(copies *redis.Cache, database Database) *Cache { return &Cache{copies, database} }

// wroteTimeout bounds what an invalidation adds to a write.
const wroteTimeout = time.Second

// wrote drops the copies of what a write has changed. A write whose outcome is not
// known counts as made; one that was refused has changed nothing.
//
// The caller may be gone: the write is there all the same.
func (c *Cache) wrote(ctx context.Context, outcome error, entries ...redis.CacheEntry) {
	if refused(outcome) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wroteTimeout)
	defer cancel()
	position, err := c.database.Position(ctx)
	if err != nil {
		position = redis.PositionUnknown
	}
	c.copies.Invalidate(context.WithoutCancel(ctx), position, entries...)
}

func refused(err error) bool {
	switch livestream.CodeOf(err) {
	case "", livestream.CodeUnavailable, livestream.CodeInternal:
		return false
	}
	return true
}
