package redis

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// PresenceLifetime is how long a node's count stands without being told again: a
// node that was killed stops counting then. Nodes tell theirs every 2 s.
const PresenceLifetime = 10 * time.Second

// peakLifetime outlives the longest stream's end.
const peakLifetime = 7 * 24 * time.Hour

// ranking is the streams that are watched now, by viewers.
const ranking = "streams:viewers"

// Presence is who watches what, by node.
type Presence struct{ client *Client }

// NewPresence is the viewers' counts of a Redis.
func NewPresence(client *Client) *Presence { return &Presence{client} }

func viewersKey(id uuid.UUID) string { return "stream:{" + id.String() + "}:viewers" }

func connectionsKey(id uuid.UUID) string { return "stream:{" + id.String() + "}:connections" }

// Each node has a field "count:expiry" in the stream's hash; the clock is Redis's,
// because the nodes' may differ. The script drops what has expired, with the
// connections of the node that let it, adds up the rest and keeps the peak.
var setViewersScript = redis.NewScript(`
local now = tonumber(redis.call('TIME')[1])
if tonumber(ARGV[2]) > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. (now + ARGV[3]))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
local sum, gone = 0, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local count, expiry = string.match(all[i + 1], '(%d+):(%d+)')
  if tonumber(expiry) <= now then
    redis.call('HDEL', KEYS[1], all[i])
    gone[all[i]] = true
  else
    sum = sum + tonumber(count)
  end
end
if next(gone) then
  local open = redis.call('HGETALL', KEYS[3])
  for i = 1, #open, 2 do
    if gone[string.match(open[i + 1], '^[^ ]+')] then redis.call('HDEL', KEYS[3], open[i]) end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[3], ARGV[3])
local peak = tonumber(redis.call('GET', KEYS[2]) or '0')
if sum > peak then redis.call('SET', KEYS[2], sum, 'EX', ARGV[4]) end
return sum
`)

// connectionBatch is how many connections one command tells of.
const connectionBatch = 500

// SetViewers says how many viewers of each stream a node has and which connections
// were opened and closed, and gives how many viewers there are on all nodes.
//
// A connection is a field "node user since" of the stream's hash, by its id.
//
// Errors: unavailable.
func (p *Presence) SetViewers(ctx context.Context, node string, viewers map[uuid.UUID]livestream.ChatViewers) (map[uuid.UUID]int64, error) {
	pipe := p.client.commands.Pipeline()
	replies := make(map[uuid.UUID]*redis.Cmd, len(viewers))
	for id, v := range viewers {
		key, fields := connectionsKey(id), make([]any, 0, 2*min(len(v.Opened), connectionBatch))
		for i, c := range v.Opened {
			user := "-"
			if c.UserID != uuid.Nil {
				user = c.UserID.String()
			}
			fields = append(fields, c.ID, node+" "+user+" "+c.Since.UTC().Format(time.RFC3339))
			if len(fields) == 2*connectionBatch || i == len(v.Opened)-1 {
				pipe.HSet(ctx, key, fields...)
				fields = make([]any, 0, 2*connectionBatch)
			}
		}
		for begin := 0; begin < len(v.Closed); begin += connectionBatch {
			pipe.HDel(ctx, key, v.Closed[begin:min(begin+connectionBatch, len(v.Closed))]...)
		}
		replies[id] = setViewersScript.Eval(ctx, pipe, []string{viewersKey(id), viewersKey(id) + ":peak", key},
			node, v.Count, int64(PresenceLifetime.Seconds()), int64(peakLifetime.Seconds()))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, edge("count viewers", err)
	}
	totals := make(map[uuid.UUID]int64, len(viewers))
	var ranked []redis.Z
	var empty []any
	for id, reply := range replies {
		totals[id], _ = reply.Int64()
		if totals[id] > 0 {
			ranked = append(ranked, redis.Z{Score: float64(totals[id]), Member: id.String()})
		} else {
			empty = append(empty, id.String())
		}
	}
	pipe = p.client.commands.Pipeline()
	if len(ranked) > 0 {
		pipe.ZAdd(ctx, ranking, ranked...)
	}
	if len(empty) > 0 {
		pipe.ZRem(ctx, ranking, empty...)
	}
	_, err := pipe.Exec(ctx)
	return totals, edge("rank streams", err)
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
	now := clock.Val()
	for id, reply := range replies {
		if sum := sumOfNodes(reply.Val(), now); sum > 0 {
			counts[id] = sum
		}
	}
	return counts, nil
}

// sumOfNodes adds up what nodes told of a stream and what has not expired.
func sumOfNodes(fields map[string]string, now time.Time) (sum int64) {
	for _, field := range fields {
		count, expiry, _ := strings.Cut(field, ":")
		until, err := strconv.ParseInt(expiry, 10, 64)
		if err != nil || until <= now.Unix() {
			continue
		}
		n, _ := strconv.ParseInt(count, 10, 64)
		sum += n
	}
	return sum
}

// Counts gives who watches each of the streams now, and the most that did at once;
// every stream has an entry.
//
// Errors: unavailable.
func (p *Presence) Counts(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]livestream.ViewerCount, error) {
	type replies struct {
		nodes *redis.MapStringStringCmd
		peak  *redis.StringCmd
	}
	pipe := p.client.commands.Pipeline()
	clock, asked := pipe.Time(ctx), make(map[uuid.UUID]replies, len(ids))
	for _, id := range ids {
		asked[id] = replies{pipe.HGetAll(ctx, viewersKey(id)), pipe.Get(ctx, viewersKey(id)+":peak")}
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, edge("read viewers", err)
	}
	counts := make(map[uuid.UUID]livestream.ViewerCount, len(ids))
	for id, replies := range asked {
		now := sumOfNodes(replies.nodes.Val(), clock.Val())
		peak, _ := replies.peak.Int64() // none was kept yet
		counts[id] = livestream.ViewerCount{Now: now, Peak: max(peak, now)}
	}
	return counts, nil
}

// Watched gives the streams that are watched now, most viewers first, with their
// counts: up to n, after a place in the list.
//
// Errors: unavailable.
func (p *Presence) Watched(ctx context.Context, after *livestream.Cursor, n int) ([]livestream.WatchedStream, error) {
	var watched []livestream.WatchedStream
	from, skip := "+inf", 0
	if after != nil {
		from = strconv.FormatInt(after.Number, 10)
	}
	for len(watched) < n {
		entries, err := p.client.commands.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: ranking, Start: from, Stop: "(0", ByScore: true, Rev: true, Offset: int64(skip), Count: int64(n),
		}).Result()
		if err != nil {
			return nil, edge("rank streams", err)
		}
		page := make([]livestream.WatchedStream, 0, len(entries))
		ids := make([]uuid.UUID, 0, len(entries))
		for _, entry := range entries {
			text, _ := entry.Member.(string)
			id, err := uuid.Parse(text)
			// Those with as many viewers are in the order of their ids, highest first.
			if err != nil || after != nil && int64(entry.Score) == after.Number && text >= after.ID.String() {
				continue
			}
			page, ids = append(page, livestream.WatchedStream{ID: id, Viewers: int64(entry.Score)}), append(ids, id)
		}
		counts, err := p.Viewers(ctx, ids...)
		if err != nil {
			return nil, err
		}
		for _, stream := range page {
			if counts[stream.ID] > 0 { // a node that was killed tells nothing any more
				watched = append(watched, stream)
			}
		}
		if len(entries) < n {
			break
		}
		skip += n
	}
	return watched[:min(n, len(watched))], nil
}

// Peak is the most that a stream had at once.
func (p *Presence) Peak(ctx context.Context, id uuid.UUID) (int64, error) {
	peak, err := p.client.commands.Get(ctx, viewersKey(id)+":peak").Int64()
	if err == redis.Nil { //nolint:errorlint // go-redis returns the value itself
		return 0, nil
	}
	return peak, edge("read the peak", err)
}
