package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// LastWrites are how far members' own writes are in the database's log.
type LastWrites struct {
	client  *Client
	breaker breaker
}

// NewLastWrites are the last writes of a Redis.
func NewLastWrites(client *Client) *LastWrites {
	return &LastWrites{client: client, breaker: newBreaker("last writes", quickTimeout, nil)}
}

// lastWriteLifetime is longer than any replica that is read from is behind.
const lastWriteLifetime = time.Minute

func lastWriteKey(userID uuid.UUID) string { return "user:{" + userID.String() + "}:last_write" }

// A later position is not replaced by an earlier one, whose process was slower.
// Positions are compared as texts of one width, because Lua's numbers are too
// short for them.
var noteWriteScript = redis.NewScript(`
local known = redis.call('GET', KEYS[1])
if known and known >= ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
`)

// Note remembers a member's write.
func (w *LastWrites) Note(ctx context.Context, userID uuid.UUID, position livestream.Position) error {
	text := fmt.Sprintf("%016x", uint64(position))
	return edge("note a write", w.breaker.call(ctx, func(ctx context.Context) error {
		err := noteWriteScript.Run(ctx, w.client.commands, []string{lastWriteKey(userID)}, text, int(lastWriteLifetime.Seconds())).Err()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	}))
}

// Of gives a member's last write; 0 when there was none lately.
func (w *LastWrites) Of(ctx context.Context, userID uuid.UUID) (livestream.Position, error) {
	text := ""
	err := w.breaker.call(ctx, func(ctx context.Context) (err error) {
		text, err = w.client.commands.Get(ctx, lastWriteKey(userID)).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	})
	if err != nil || text == "" {
		return 0, edge("read a last write", err)
	}
	position, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("read a last write: %w", err)
	}
	return livestream.Position(position), nil
}
