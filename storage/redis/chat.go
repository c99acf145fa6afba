package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// How much of a chat is kept for those who come back.
const (
	chatHistory  = 1000
	chatLifetime = 24 * 60 * 60 // seconds after the last event
)

// Chat is the streams' chats: ids, history and fan-out.
type Chat struct{ client *Client }

// NewChat is the chats of a Redis.
func NewChat(client *Client) *Chat { return &Chat{client} }

// ChatChannel is the channel that carries a stream's chat between nodes.
func ChatChannel(streamID uuid.UUID) string { return "chat:{" + streamID.String() + "}" }

func chatKeys(streamID uuid.UUID, nonce string) []string {
	channel := ChatChannel(streamID)
	return []string{channel + ":id", channel + ":history", channel + ":nonce:" + nonce, channel}
}

// One script gives the id, keeps the event and publishes it, so that order and
// history agree on every node. A nonce that is known gives the first event again
// and publishes nothing. The history's entries have the event's id as theirs.
var appendScript = redis.NewScript(`
local known = redis.call('GET', KEYS[3])
if known then return {known, 0} end
local id = redis.call('INCR', KEYS[1])
local event = '{"id":' .. id .. ',' .. string.sub(ARGV[1], 2)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[2], id .. '-0', 'e', event)
redis.call('EXPIRE', KEYS[1], ARGV[3] * 7)
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('SET', KEYS[3], event, 'EX', ARGV[4])
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
// Errors: unavailable.
func (c *Chat) Append(ctx context.Context, event livestream.NewChatEvent) (livestream.ChatEvent, bool, error) {
	body, err := withType(event.Type, event.Body)
	if err != nil {
		return livestream.ChatEvent{}, false, err
	}
	nonce := event.Nonce
	if nonce == "" {
		nonce = uuid.NewString()
	}
	reply, err := appendScript.Run(ctx, c.client.commands, chatKeys(event.StreamID, nonce),
		body, chatHistory, chatLifetime, int(livestream.ChatNonceLifetime.Seconds())).Slice()
	if err != nil {
		return livestream.ChatEvent{}, false, edge("append to a chat", err)
	}
	text, _ := reply[0].(string)
	first, _ := reply[1].(int64)
	said := livestream.ChatEvent{JSON: json.RawMessage(text)}
	var head struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal(said.JSON, &head); err != nil {
		return said, false, fmt.Errorf("read a chat event: %w", err)
	}
	said.ID = head.ID
	return said, first == 1, nil
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

// Since reads what came after an event. gap says that some of it is not kept any
// more; then there are no events.
func (c *Chat) Since(ctx context.Context, streamID uuid.UUID, since int64) (events []livestream.ChatEvent, gap bool, err error) {
	last, err := c.LastID(ctx, streamID)
	if err != nil {
		return nil, false, err
	}
	if since > last {
		return nil, true, nil // Redis lost its data, or the client is mistaken
	}
	if since == last {
		return nil, false, nil
	}
	entries, err := c.client.commands.XRange(ctx, chatKeys(streamID, "")[1], strconv.FormatInt(since+1, 10)+"-0", "+").Result()
	if err != nil {
		return nil, false, edge("read a chat", err)
	}
	events = chatEvents(entries)
	if len(events) == 0 || events[0].ID != since+1 {
		return nil, true, nil
	}
	return events, false, nil
}

// Last reads the last n events, the oldest first.
func (c *Chat) Last(ctx context.Context, streamID uuid.UUID, n int) ([]livestream.ChatEvent, error) {
	entries, err := c.client.commands.XRevRangeN(ctx, chatKeys(streamID, "")[1], "+", "-", int64(n)).Result()
	if err != nil {
		return nil, edge("read a chat", err)
	}
	events := chatEvents(entries)
	for i, j := 0, len(events)-1; i < j; i, j = i+1, j-1 {
		events[i], events[j] = events[j], events[i]
	}
	return events, nil
}

// LastID is the id of a chat's last event, 0 before the first.
func (c *Chat) LastID(ctx context.Context, streamID uuid.UUID) (int64, error) {
	id, err := c.client.commands.Get(ctx, chatKeys(streamID, "")[0]).Int64()
	if err == redis.Nil { //nolint:errorlint // go-redis returns the value itself
		return 0, nil
	}
	return id, edge("read a chat", err)
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
