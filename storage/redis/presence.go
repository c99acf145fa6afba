package redis

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// PresenceLifetime is how long a node's count stands without being told again: a
// node that was killed stops counting then. Nodes tell theirs every 2 s.
const PresenceLifetime = 12 * time.Second

// peakLifetime outlives the longest stream's end.
const peakLifetime = 7 * 24 * time.Hour

// Presence is who watches what, by node.
type Presence struct{ client *Client }

// NewPresence is the viewers' counts of a Redis.
func NewPresence(client *Client) *Presence { return &Presence{client} }

func viewersKey(id uuid.UUID) string { return "stream:{" + id.String() + "}:viewers" }

// Each node has a field "count:expiry" in the stream's hash; the clock is Redis's,
// because the nodes' may differ. The script drops what has expired, adds up the
// rest and keeps the peak.
var setViewersScript = redis.NewScript(`
local now = tonumber(redis.call('TIME')[1])
if tonumber(ARGV[2]) > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. (now + ARGV[3]))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
local sum = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local count, expiry = string.match(all[i + 1], '(%d+):(%d+)')
  if tonumber(expiry) <= now then redis.call('HDEL', KEYS[1], all[i]) else sum = sum + tonumber(count) end
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
local peak = tonumber(redis.call('GET', KEYS[2]) or '0')
if sum > peak then redis.call('SET', KEYS[2], sum, 'EX', ARGV[4]) end
return sum
`)

// SetViewers says how many viewers of each stream a node has, and gives how many
// there are on all nodes.
//
// Errors: unavailable.
func (p *Presence) SetViewers(ctx context.Context, node string, counts map[uuid.UUID]int) (map[uuid.UUID]int64, error) {
	pipe := p.client.commands.Pipeline()
	replies := make(map[uuid.UUID]*redis.Cmd, len(counts))
	for id, count := range counts {
		replies[id] = setViewersScript.Eval(ctx, pipe, []string{viewersKey(id), viewersKey(id) + ":peak"},
			node, count, int64(PresenceLifetime.Seconds()), int64(peakLifetime.Seconds()))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, edge("count viewers", err)
	}
	totals := make(map[uuid.UUID]int64, len(counts))
	for id, reply := range replies {
		totals[id], _ = reply.Int64()
	}
	return totals, nil
}

// Viewers counts who watches each of the streams now.
//
// Errors: unavailable.
func (p *Presence) Viewers(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]int64, error) {
	pipe := p.client.commands.Pipeline()
	clock := pipe.Time(ctx)
	replies := make(map[uuid.UUID]*redis.MapStringStringCmd, len(ids))
	for _, id := range ids {
		replies[id] = pipe.HGetAll(ctx, viewersKey(id))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, edge("read viewers", err)
	}
	counts := make(map[uuid.UUID]int64, len(ids))
	now := clock.Val().Unix()
	for id, reply := range replies {
		for _, field := range reply.Val() {
			count, expiry, _ := strings.Cut(field, ":")
			until, err := strconv.ParseInt(expiry, 10, 64)
			if err != nil || until <= now {
				continue
			}
			n, _ := strconv.ParseInt(count, 10, 64)
			counts[id] += n
		}
	}
	return counts, nil
}

// Peak is the most that a stream had at once.
func (p *Presence) Peak(ctx context.Context, id uuid.UUID) (int64, error) {
	peak, err := p.client.commands.Get(ctx, viewersKey(id)+":peak").Int64()
	if err == redis.Nil { //nolint:errorlint // go-redis returns the value itself
		return 0, nil
	}
	return peak, edge("read the peak", err)
}
