package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// found is what Redis has of entries; "" stands for nothing.
type found struct{ copies, afters []string }

// complete says whether nothing has to be loaded.
func (f found) complete() bool {
	if strings.HasPrefix(f.copies[0], isNotThere) {
		return true
	}
	for _, text := range f.copies {
		if text == "" {
			return false
		}
	}
	return true
}

// position is the last write that invalidated one of them lately.
func (f found) position() livestream.Position {
	var last livestream.Position
	for _, after := range f.afters {
		var position uint64
		if after == "" {
			continue
		}
		if _, err := fmt.Sscanf(after, "%016x:", &position); err != nil {
			return PositionUnknown
		}
		last = max(last, livestream.Position(position))
	}
	return last
}

func foundIn(reply []any) found {
	var f found
	for i := 0; i+1 < len(reply); i += 2 {
		text, _ := reply[i].(string)
		after, _ := reply[i+1].(string)
		f.copies, f.afters = append(f.copies, text), append(f.afters, after)
	}
	return f
}

// entryKeys are the keys of the scripts: each entry's copy and last invalidation.
func entryKeys(entries []CacheEntry) []string {
	keys := make([]string, 0, 2*len(entries)+1)
	for _, entry := range entries {
		keys = append(keys, entry.Key, entry.after())
	}
	return keys
}

func (c *Cache) call(ctx context.Context, entries []CacheEntry, fn func(ctx context.Context) error) error {
	err := c.breaker.call(ctx, fn)
	if err != nil && !refused(err) && !errors.Is(err, errCallerGone) {
		c.metrics.errors.WithLabelValues(entries[0].Kind).Inc()
	}
	return err
}

func (c *Cache) look(ctx context.Context, entries []CacheEntry) (found, error) {
	var reply []any
	err := c.call(ctx, entries, func(ctx context.Context) (err error) {
		reply, err = c.client.commands.MGet(ctx, entryKeys(entries)...).Result()
		return err
	})
	return foundIn(reply), err
}

// The lock is asked for and the entries are read in one step: what another process
// has stored meanwhile is not loaded again. A token that has the lock already is
// one whose first answer was lost.
var claimScript = redis.NewScript(`
local token, lifetime = ARGV[1], ARGV[2]
local lock = table.remove(KEYS)
local got = redis.call('MGET', unpack(KEYS))
local missing = false
for i = 1, #got, 2 do missing = missing or not got[i] end
if got[1] and string.sub(got[1], 1, 1) == '-' then missing = false end
local mine = 0
if missing and (redis.call('SET', lock, token, 'NX', 'PX', lifetime) or redis.call('GET', lock) == token) then mine = 1 end
got[#got + 1] = mine
return got
`)

func (c *Cache) claim(ctx context.Context, entries []CacheEntry, token string) (f found, mine bool, err error) {
	var reply []any
	err = c.call(ctx, entries, func(ctx context.Context) (err error) {
		keys := append(entryKeys(entries), entries[0].loader())
		reply, err = claimScript.Run(ctx, c.client.commands, keys, token, loaderLifetime.Milliseconds()).Slice()
		return err
	})
	if err != nil {
		return found{}, false, err
	}
	return foundIn(reply), reply[len(reply)-1] == int64(1), nil
}

// A copy is kept only if nothing invalidated the entry since the load began.
var storeScript = redis.NewScript(`
local lock = table.remove(KEYS)
local token = table.remove(ARGV)
for i = 1, #KEYS, 2 do
  local at = (i - 1) / 2 * 3
  local copy, after, ttl = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if copy ~= '' and (redis.call('GET', KEYS[i + 1]) or '') == after then redis.call('SET', KEYS[i], copy, 'PX', ttl) end
end
return redis.call('GET', lock) == token and redis.call('DEL', lock) or 0
`)

// store keeps what was loaded and lets the next one load. That it fails is no
// matter: the copy is missing then.
func (c *Cache) store(ctx context.Context, entries []CacheEntry, f found, token string, copies []string) {
	keys := append(entryKeys(entries), entries[0].loader())
	args := make([]any, 0, 3*len(entries)+1)
	for i, entry := range entries {
		text, ttl := "", entry.TTL
		if copies != nil {
			text = copies[i]
		}
		if strings.HasPrefix(text, isNotThere) {
			ttl = notFoundTTL
		}
		args = append(args, text, f.afters[i], jitter(ttl).Milliseconds())
	}
	_ = c.call(ctx, entries, func(ctx context.Context) error {
		return storeScript.Run(ctx, c.client.commands, keys, append(args, token)...).Err()
	})
}

func jitter(ttl time.Duration) time.Duration {
	return time.Duration(float64(ttl) * (0.9 + 0.2*rand.Float64()))
}

// What a copy begins with.
const (
	isThere    = "+" // the value follows, in JSON
	isNotThere = "-" // there is no such thing; the error follows, in JSON
)

type notFoundCopy struct {
	Code    livestream.Code `json:"code"`
	Message string          `json:"message"`
}

func encodeNotFound(entries []CacheEntry, e *livestream.Error) ([]string, error) {
	content, err := json.Marshal(notFoundCopy{e.Code, e.Message})
	if err != nil {
		return nil, fmt.Errorf("write a copy: %w", err)
	}
	copies := make([]string, len(entries))
	copies[0] = isNotThere + string(content)
	return copies, nil
}

// notFound is the error that a copy stands for; nil for a value.
func notFound(text string) error {
	content, is := strings.CutPrefix(text, isNotThere)
	if !is {
		return nil
	}
	var e notFoundCopy
	if err := json.Unmarshal([]byte(content), &e); err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return livestream.Errorf(e.Code, "%s", e.Message)
}

func decode(text string, into any) error {
	if err := json.Unmarshal([]byte(strings.TrimPrefix(text, isThere)), into); err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return nil
}
