package livestream

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// MaxChatText is a chat message's length in characters.
const MaxChatText = 500

// ChatEventType names what a chat event tells.
type ChatEventType string

const (
	ChatMessage        ChatEventType = "message"
	ChatMessageDeleted ChatEventType = "message_deleted"
	ChatUserBanned     ChatEventType = "user_banned"
	ChatUserUnbanned   ChatEventType = "user_unbanned"
	ChatSettingsEvent  ChatEventType = "settings"
	ChatTip            ChatEventType = "tip"
	ChatStreamStatus   ChatEventType = "stream"
)

// Roles that a chat shows.
const (
	ChatOwner     = "owner"
	ChatModerator = "moderator"
	ChatAdmin     = "admin"
)

// ChatUser is a member as a chat shows them.
type ChatUser struct {
	ID          uuid.UUID `json:"id"`
	Username    string    `json:"username"`
	DisplayName string    `json:"display_name"`
	Roles       []string  `json:"roles"`
}

// NewChatEvent is an event to be appended to a stream's chat. Nonce makes a
// second append within its lifetime give the first one's id.
type NewChatEvent struct {
	StreamID uuid.UUID
	Nonce    string
	Type     ChatEventType
	// Body is the event's fields without id and type.
	Body any
	// Pace is what its sender must keep to; nil for what the platform itself says.
	Pace *ChatPace
}

// ChatPace is how fast one member may write to one chat, over all their
// connections to all nodes.
type ChatPace struct {
	UserID uuid.UUID
	// Slow is the least time between two messages; zero for a chat without slow mode.
	Slow time.Duration
	// Every is the time that each message costs, and Burst how many may come at once.
	Every time.Duration
	Burst int
}

// ChatTooFast says that a message was refused for its sender's pace.
type ChatTooFast struct {
	// Slow says that it was slow mode's doing.
	Slow       bool
	RetryAfter time.Duration
}

func (e *ChatTooFast) Error() string { return "too fast" }

// How long a nonce is remembered. A step of a workflow may be tried again for
// days: what it says must not be said twice.
const (
	ChatNonceLifetime     = 10 * time.Minute
	ChatStepNonceLifetime = 7 * 24 * time.Hour
)

// ChatEvent is an event of a stream's chat: ID grows within the stream, and JSON
// is the whole of it, as clients get it.
type ChatEvent struct {
	ID   int64
	JSON json.RawMessage
}

// ChatPosition is how far a chat is. Another Epoch means that events were lost,
// and that ids of the epoch before say nothing about the ones that follow.
type ChatPosition struct {
	Epoch string
	ID    int64
}

// ChatMessageBody is a message's fields.
type ChatMessageBody struct {
	User   ChatUser  `json:"user"`
	Text   string    `json:"text"`
	SentAt time.Time `json:"sent_at"`
	Nonce  string    `json:"nonce,omitempty"`
}

// ChatDeletedBody tells that a message is gone.
type ChatDeletedBody struct {
	MessageID int64 `json:"message_id"`
}

// ChatBannedBody tells that a member may not write; Until is nil for ever.
type ChatBannedBody struct {
	UserID uuid.UUID  `json:"user_id"`
	Until  *time.Time `json:"until"`
}

// ChatUnbannedBody tells that a member may write again.
type ChatUnbannedBody struct {
	UserID uuid.UUID `json:"user_id"`
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

// ChatSettings are a chat's modes.
type ChatSettings struct {
	SlowModeSeconds       int  `json:"slow_mode_seconds"`
	FollowersOnly         bool `json:"followers_only"`
	FollowerMinAgeSeconds int  `json:"follower_min_age_seconds"`
	// BlockedTerms is for the owner and moderators alone; nil is left out.
	BlockedTerms []string `json:"blocked_terms,omitempty"`
}

// ChatSettingsPatch changes what is not nil.
type ChatSettingsPatch struct {
	SlowModeSeconds       *int
	FollowersOnly         *bool
	FollowerMinAgeSeconds *int
	BlockedTerms          *[]string
}

// Public is the settings as everybody may see them.
func (s ChatSettings) Public() ChatSettings {
	s.BlockedTerms = nil
	return s
}

// ChatBan keeps a member from writing to a chat.
type ChatBan struct {
	StreamID uuid.UUID
	UserID   uuid.UUID
	By       uuid.UUID
	Until    *time.Time // nil for ever
	Reason   string
}

// ChatRules are what a stream's messages are checked against.
type ChatRules struct {
	OwnerID    uuid.UUID
	Ended      bool // the stream has
	Settings   ChatSettings
	Bans       map[uuid.UUID]*time.Time // nil for ever
	Moderators map[uuid.UUID]bool
}

// Roles are a member's in the chat, in the order owner, moderator, admin.
func (r ChatRules) Roles(userID uuid.UUID, role Role) []string {
	roles := []string{}
	if userID == r.OwnerID {
		roles = append(roles, ChatOwner)
	}
	if r.Moderators[userID] {
		roles = append(roles, ChatModerator)
	}
	if role == RoleAdmin {
		roles = append(roles, ChatAdmin)
	}
	return roles
}

// Banned says whether a member may not write at a time. A ban ends by itself.
func (r ChatRules) Banned(userID uuid.UUID, now time.Time) bool {
	until, banned := r.Bans[userID]
	return banned && (until == nil || now.Before(*until))
}

// Blocked says whether a text has one of the blocked terms, in whatever case.
func (s ChatSettings) Blocked(text string) bool {
	if len(s.BlockedTerms) == 0 {
		return false
	}
	text = strings.ToLower(text)
	return slices.ContainsFunc(s.BlockedTerms, func(term string) bool { return strings.Contains(text, strings.ToLower(term)) })
}

// ChatRecord is a message as it is kept.
type ChatRecord struct {
	ID     int64           `json:"id"`
	User   ChatUser        `json:"user"`
	Text   string          `json:"text"`
	SentAt time.Time       `json:"sent_at"`
	Nonce  string          `json:"nonce,omitempty"`
	Type   ChatEventType   `json:"type"`
	JSON   json.RawMessage `json:"-"`
}

// ReadChatRecord reads a chat event; its Type says whether it is a message.
func ReadChatRecord(event ChatEvent) (ChatRecord, error) {
	var r ChatRecord
	if err := json.Unmarshal(event.JSON, &r); err != nil {
		return r, err
	}
	r.ID, r.JSON = event.ID, event.JSON
	return r, nil
}

// ChatConnection is what is known of an open connection.
type ChatConnection struct {
	ID     string
	UserID uuid.UUID // the zero id for a viewer without a ticket
	Since  time.Time
}

// ChatViewers is what a node tells of its viewers of one stream.
type ChatViewers struct {
	Count  int
	Opened []ChatConnection
	Closed []string
}

// ChatSaved is an event to be kept.
type ChatSaved struct {
	StreamID uuid.UUID
	ChatEvent
	Type ChatEventType
}

// Moderator is a member who moderates a creator's chats.
type Moderator struct {
	User    User
	AddedAt time.Time
}

// ViewerCount is how many watch a stream now, and the most that did at once.
type ViewerCount struct{ Now, Peak int64 }

// WatchedStream is a stream that has viewers now.
type WatchedStream struct {
	ID      uuid.UUID
	Viewers int64
}

// ChatClaim is streams whose events one node is about to keep, before others may.
type ChatClaim struct {
	Streams []uuid.UUID
	Lease   int64 // of the one who gave it
}
