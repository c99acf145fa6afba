package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// How much of a chat is kept for those who come back.
const (
	chatHistory = 1000
	// chatUnsaved is how much is kept while Postgres is away, which is where history
	// goes: about 10 MB of one chat.
	chatUnsaved  = 20_000
	chatLifetime = 24 * 60 * 60 // seconds after the last event
)

// Chat is the streams' chats: ids, history and fan-out.
type Chat struct {
	client *Client
	kept   ChatKept
}

// ChatKept says which events are kept for good.
type ChatKept interface {
	LastID(ctx context.Context, streamID uuid.UUID) (int64, error)
}

// NewChat is the chats of a Redis. A chat that Redis does not know goes on after
// what is kept of it.
func NewChat(client *Client, kept ChatKept) *Chat { return &Chat{client: client, kept: kept} }

// ChatChannel is the channel that carries a stream's chat between nodes.
func ChatChannel(streamID uuid.UUID) string { return "chat:{" + streamID.String() + "}" }

// chatUnsavedKey are the streams that have events which are not kept yet, by the
// time from which on they are to be looked at.
const chatUnsavedKey = "chat:unsaved"

type chatKeys struct{ id, history, state string }

func keysOf(streamID uuid.UUID) chatKeys {
	channel := ChatChannel(streamID)
	return chatKeys{channel + ":id", channel + ":history", channel + ":state"}
}

// One script checks the sender's pace, gives the id, keeps the event and publishes
// it, so that order and history agree on every node. A nonce that is known gives
// the first event again and publishes nothing. The history's entries have the
// event's id as theirs. What is not kept elsewhere yet stays in the history.
//
// A chat that is not known is begun only with a seed, behind which its ids start:
// -1 asks for one. -2 and -3 are slow mode and too many messages.
var appendScript = redis.NewScript(`
local known = redis.call('GET', KEYS[3])
if known then return {known, 0} end
if redis.call('EXISTS', KEYS[1], KEYS[5]) < 2 then
  if ARGV[7] == '' then return {'', -1} end
  redis.call('DEL', KEYS[2])
  redis.call('SET', KEYS[1], ARGV[7])
  redis.call('HSET', KEYS[5], 'epoch', ARGV[6], 'base', ARGV[7], 'saved', ARGV[7])
end
local slow = tonumber(ARGV[8])
if slow > 0 then
  local left = redis.call('PTTL', KEYS[6])
  if left > 0 then return {'', -2, left} end
end
local every = tonumber(ARGV[9])
if every > 0 then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local full = math.max(tonumber(redis.call('GET', KEYS[7]) or '0'), now) + every
  local wait = full - now - every * ARGV[10]
  if wait > 0 then return {'', -3, math.ceil(wait / 1000)} end
  redis.call('SET', KEYS[7], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
end
if slow > 0 then redis.call('SET', KEYS[6], 1, 'PX', slow) end
local id = redis.call('INCR', KEYS[1])
local event = '{"id":' .. string.format('%.0f', id) .. ',' .. string.sub(ARGV[1], 2)
redis.call('XADD', KEYS[2], string.format('%.0f-0', id), 'e', event)
local length = redis.call('XLEN', KEYS[2])
if length > tonumber(ARGV[3]) then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[3])
elseif length > tonumber(ARGV[2]) then
  local keep = math.min(id - ARGV[2], tonumber(redis.call('HGET', KEYS[5], 'saved'))) + 1
  redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', keep))
end
redis.call('EXPIRE', KEYS[1], ARGV[4] * 7)
redis.call('EXPIRE', KEYS[5], ARGV[4] * 7)
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('SET', KEYS[3], event, 'EX', ARGV[5])
redis.call('SPUBLISH', KEYS[4], event)
return {event, 1}
`)

// Append adds an event to a stream's chat and tells every node. The second
// result is false when the nonce was known: the event is the first one's, and
// nobody was told again.
//
// An event without a nonce gets one of its own, because the driver sends a script
// again whose answer was lost.
//
// Errors: unavailable, *livestream.ChatTooFast.
func (c *Chat) Append(ctx context.Context, event livestream.NewChatEvent) (livestream.ChatEvent, bool, error) {
	body, err := withType(event.Type, event.Body)
	if err != nil {
		return livestream.ChatEvent{}, false, err
	}
	nonce, lifetime := event.Nonce, livestream.ChatNonceLifetime
	if nonce == "" {
		nonce = uuid.NewString()
	} else if event.Pace == nil {
		lifetime = livestream.ChatStepNonceLifetime
	}
	keys, pace := keysOf(event.StreamID), livestream.ChatPace{}
	if event.Pace != nil {
		pace = *event.Pace
	}
	channel := ChatChannel(event.StreamID)
	names := []string{
		keys.id, keys.history, channel + ":nonce:" + nonce, channel, keys.state,
		channel + ":slow:" + pace.UserID.String(), channel + ":rate:" + pace.UserID.String(),
	}
	seed := ""
	for {
		reply, err := c.append(ctx, event.StreamID, names, body, chatHistory, chatUnsaved, chatLifetime, int(lifetime.Seconds()), uuid.NewString(), seed,
			pace.Slow.Milliseconds(), pace.Every.Microseconds(), pace.Burst)
		if err != nil {
			return livestream.ChatEvent{}, false, edge("append to a chat", err)
		}
		text, _ := reply[0].(string)
		switch result, _ := reply[1].(int64); result {
		case -1:
			if seed, err = c.seed(ctx, event.StreamID); err != nil {
				return livestream.ChatEvent{}, false, err
			}
			continue
		case -2, -3:
			wait, _ := reply[2].(int64)
			return livestream.ChatEvent{}, false, &livestream.ChatTooFast{Slow: result == -2, RetryAfter: time.Duration(wait) * time.Millisecond}
		default:
			said, err := chatEvent(text)
			return said, result == 1, err
		}
	}
}

// append runs the script. The stream is marked as one with unsaved events before
// and after, in one message: whoever looks in between finds it again.
func (c *Chat) append(ctx context.Context, streamID uuid.UUID, keys []string, args ...any) ([]any, error) {
	mark := redis.ZAddArgs{LT: true, Members: []redis.Z{{Score: 0, Member: streamID.String()}}}
	send := func(run func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd) ([]any, error) {
		pipe := c.client.commands.Pipeline()
		pipe.ZAddArgs(ctx, chatUnsavedKey, mark)
		reply := run(ctx, pipe, keys, args...)
		pipe.ZAddArgs(ctx, chatUnsavedKey, mark)
		_, err := pipe.Exec(ctx)
		if reply.Err() == nil && err == nil {
			return reply.Slice()
		}
		return nil, errors.Join(reply.Err(), err)
	}
	reply, err := send(appendScript.EvalSha)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		return send(appendScript.Eval)
	}
	return reply, err
}

// seedGap is more than what could be said and lost before it was kept.
const seedGap = 1_000_000

// seed is behind which id a chat begins that Redis does not know: 0 when it is
// new, and beyond all ids that it may have had when Redis lost it.
func (c *Chat) seed(ctx context.Context, streamID uuid.UUID) (string, error) {
	last, err := c.kept.LastID(ctx, streamID)
	if err != nil || last == 0 {
		return "0", err
	}
	return strconv.FormatInt(last+seedGap, 10), nil
}

func chatEvent(text string) (livestream.ChatEvent, error) {
	said := livestream.ChatEvent{JSON: json.RawMessage(text)}
	var head struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal(said.JSON, &head); err != nil {
		return said, fmt.Errorf("read a chat event: %w", err)
	}
	said.ID = head.ID
	return said, nil
}

// withType is the event as clients get it, but for its id.
func withType(kind livestream.ChatEventType, body any) (string, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("write a chat event: %w", err)
	}
	if len(content) < 2 || content[0] != '{' {
		return "", fmt.Errorf("a chat event's body is a %T, not an object", body)
	}
	head := `{"type":"` + string(kind) + `"`
	if string(content) == "{}" {
		return head + "}", nil
	}
	return head + "," + string(content[1:]), nil
}

// Since reads what came after a position, up to 1,000 events, and how far the chat
// is. gap says that some of it is not kept any more, or was lost with an epoch;
// then there are no events. A position without an epoch is taken to be of the one
// that lasts.
func (c *Chat) Since(ctx context.Context, streamID uuid.UUID, since livestream.ChatPosition) (events []livestream.ChatEvent, at livestream.ChatPosition, gap bool, err error) {
	keys := keysOf(streamID)
	pipe := c.client.commands.Pipeline()
	state, id := pipe.HMGet(ctx, keys.state, "epoch", "base"), pipe.Get(ctx, keys.id)
	entries := pipe.XRangeN(ctx, keys.history, strconv.FormatInt(since.ID+1, 10)+"-0", "+", chatHistory+1)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, at, false, edge("read a chat", err)
	}
	at, base := positionOf(state, id)
	events = chatEvents(entries.Val())
	if len(events) > 0 {
		at.ID = max(at.ID, events[len(events)-1].ID)
	}
	switch {
	case since.Epoch != "" && since.Epoch != at.Epoch, since.ID > at.ID, since.ID < base, len(events) > chatHistory:
		return nil, at, true, nil
	case since.ID < at.ID && (len(events) == 0 || events[0].ID != since.ID+1):
		return nil, at, true, nil
	}
	return events, at, false, nil
}

func positionOf(state *redis.SliceCmd, id *redis.StringCmd) (at livestream.ChatPosition, base int64) {
	at.ID, _ = id.Int64() // 0 before the first
	if fields := state.Val(); len(fields) == 2 {
		at.Epoch, _ = fields[0].(string)
		text, _ := fields[1].(string)
		base, _ = strconv.ParseInt(text, 10, 64)
	}
	return at, base
}

// Last reads the last n events before an id, the oldest first; 0 is the end.
func (c *Chat) Last(ctx context.Context, streamID uuid.UUID, before int64, n int) ([]livestream.ChatEvent, error) {
	from := "+"
	if before > 0 {
		from = strconv.FormatInt(before-1, 10) + "-0"
	}
	entries, err := c.client.commands.XRevRangeN(ctx, keysOf(streamID).history, from, "-", int64(n)).Result()
	if err != nil {
		return nil, edge("read a chat", err)
	}
	events := chatEvents(entries)
	slices.Reverse(events)
	return events, nil
}

// Position is how far a chat is: id 0 before the first event.
func (c *Chat) Position(ctx context.Context, streamID uuid.UUID) (livestream.ChatPosition, error) {
	keys := keysOf(streamID)
	pipe := c.client.commands.Pipeline()
	state, id := pipe.HMGet(ctx, keys.state, "epoch", "base"), pipe.Get(ctx, keys.id)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return livestream.ChatPosition{}, edge("read a chat", err)
	}
	at, _ := positionOf(state, id)
	return at, nil
}

// ByID finds an event that is still in the history; nil when it is not.
func (c *Chat) ByID(ctx context.Context, streamID uuid.UUID, id int64) (*livestream.ChatEvent, error) {
	entry := strconv.FormatInt(id, 10) + "-0"
	entries, err := c.client.commands.XRange(ctx, keysOf(streamID).history, entry, entry).Result()
	if err != nil || len(entries) == 0 {
		return nil, edge("read a chat", err)
	}
	return &chatEvents(entries)[0], nil
}

// epochGap is more than what a server that takes over can lack.
const epochGap = 10_000

var newEpochScript = redis.NewScript(`
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return 0 end
local base = string.format('%.0f', math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[2])) + ARGV[4])
redis.call('SET', KEYS[1], base, 'KEEPTTL')
redis.call('HSET', KEYS[2], 'epoch', ARGV[3], 'base', base)
return 1
`)

// NewEpoch ends an epoch of which events were lost: one that knows how far the
// chat was says so. Ids go on beyond all that there were. When the epoch is another
// one already, nothing changes.
func (c *Chat) NewEpoch(ctx context.Context, streamID uuid.UUID, was livestream.ChatPosition) error {
	keys := keysOf(streamID)
	return edge("begin an epoch", newEpochScript.Run(ctx, c.client.commands, []string{keys.id, keys.state}, was.Epoch, was.ID, uuid.NewString(), epochGap).Err())
}

func chatEvents(entries []redis.XMessage) []livestream.ChatEvent {
	events := make([]livestream.ChatEvent, 0, len(entries))
	for _, entry := range entries {
		var id int64
		if _, err := fmt.Sscanf(entry.ID, "%d-", &id); err != nil {
			continue
		}
		text, _ := entry.Values["e"].(string)
		events = append(events, livestream.ChatEvent{ID: id, JSON: json.RawMessage(text)})
	}
	return events
}

var claimChatsScript = redis.NewScript(`
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
local lease = string.format('%.0f', now + ARGV[2])
for _, stream in ipairs(due) do redis.call('ZADD', KEYS[1], lease, stream) end
table.insert(due, 1, lease)
return due
`)

// claimLease is when another takes over what was claimed and not finished.
const claimLease = 20 * time.Second

// Claim takes up to n streams that have events which are not kept yet. Who takes
// them and dies has delayed them, and nothing more.
func (c *Chat) Claim(ctx context.Context, n int) (livestream.ChatClaim, error) {
	reply, err := claimChatsScript.Run(ctx, c.client.commands, []string{chatUnsavedKey}, n, claimLease.Milliseconds()).StringSlice()
	if err != nil || len(reply) == 0 {
		return livestream.ChatClaim{}, edge("claim chats", err)
	}
	var claim livestream.ChatClaim
	claim.Lease, _ = strconv.ParseInt(reply[0], 10, 64)
	for _, text := range reply[1:] {
		if id, err := uuid.Parse(text); err == nil {
			claim.Streams = append(claim.Streams, id)
		}
	}
	return claim, nil
}

// Unsaved reads the events of claimed streams that are not kept yet, up to n of
// each.
func (c *Chat) Unsaved(ctx context.Context, claim livestream.ChatClaim, n int) (map[uuid.UUID][]livestream.ChatEvent, error) {
	saved := make([]*redis.StringCmd, len(claim.Streams))
	pipe := c.client.commands.Pipeline()
	for i, id := range claim.Streams {
		saved[i] = pipe.HGet(ctx, keysOf(id).state, "saved")
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, edge("read unsaved events", err)
	}
	entries := make([]*redis.XMessageSliceCmd, len(claim.Streams))
	pipe = c.client.commands.Pipeline()
	for i, id := range claim.Streams {
		upto, _ := saved[i].Int64()
		entries[i] = pipe.XRangeN(ctx, keysOf(id).history, strconv.FormatInt(upto+1, 10)+"-0", "+", int64(n))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, edge("read unsaved events", err)
	}
	unsaved := make(map[uuid.UUID][]livestream.ChatEvent, len(claim.Streams))
	for i, id := range claim.Streams {
		unsaved[id] = chatEvents(entries[i].Val())
	}
	return unsaved, nil
}

// A chat that was begun anew meanwhile has nothing that is saved so far up.
var savedScript = redis.NewScript(`
local saved = tonumber(redis.call('HGET', KEYS[1], 'saved') or '0')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[1]) > saved and tonumber(ARGV[1]) <= last then redis.call('HSET', KEYS[1], 'saved', ARGV[1]) end
return 0
`)

var doneScript = redis.NewScript(`
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[1] then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return 0
`)

// Saved says up to which id the events of claimed streams are kept. Those that
// have more, which more says, stay to be claimed again; so do those in which
// something was said meanwhile.
func (c *Chat) Saved(ctx context.Context, claim livestream.ChatClaim, upto map[uuid.UUID]int64, more map[uuid.UUID]bool) error {
	pipe := c.client.commands.Pipeline()
	done := []any{claim.Lease}
	for _, id := range claim.Streams {
		if last := upto[id]; last > 0 {
			keys := keysOf(id)
			savedScript.Eval(ctx, pipe, []string{keys.state, keys.id}, last)
		}
		if more[id] {
			pipe.ZAdd(ctx, chatUnsavedKey, redis.Z{Score: 0, Member: id.String()})
		} else {
			done = append(done, id.String())
		}
	}
	doneScript.Eval(ctx, pipe, []string{chatUnsavedKey}, done...)
	_, err := pipe.Exec(ctx)
	return edge("note what is saved", err)
}
