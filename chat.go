package livestream

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// MaxChatText is a chat message's length in characters.
const MaxChatText = 500

// ChatEventType names what a chat event tells.
type ChatEventType string

const (
	ChatMessage      ChatEventType = "message"
	ChatTip          ChatEventType = "tip"
	ChatStreamStatus ChatEventType = "stream"
)

// ChatUser is a member as a chat shows them.
type ChatUser struct {
	ID          uuid.UUID `json:"id"`
	Username    string    `json:"username"`
	DisplayName string    `json:"display_name"`
	Roles       []string  `json:"roles"`
}

// NewChatEvent is an event to be appended to a stream's chat. Nonce makes a
// second append within ChatNonceLifetime give the first one's id.
type NewChatEvent struct {
	StreamID uuid.UUID
	Nonce    string
	Type     ChatEventType
	// Body is the event's fields without id and type.
	Body any
}

// ChatNonceLifetime is how long a nonce is remembered.
const ChatNonceLifetime = 10 * time.Minute

// ChatEvent is an event of a stream's chat: ID grows within the stream, and JSON
// is the whole of it, as clients get it.
type ChatEvent struct {
	ID   int64
	JSON json.RawMessage
}

// ChatMessageBody is a message's fields.
type ChatMessageBody struct {
	User   ChatUser  `json:"user"`
	Text   string    `json:"text"`
	SentAt time.Time `json:"sent_at"`
	Nonce  string    `json:"nonce,omitempty"`
}

// ChatTipBody is a paid tip's fields.
type ChatTipBody struct {
	User     ChatUser `json:"user"`
	Amount   int64    `json:"amount"`
	Currency string   `json:"currency"`
	Message  string   `json:"message"`
}

// ChatStreamBody tells that the stream changed its state.
type ChatStreamBody struct {
	Status StreamStatus `json:"status"`
}
