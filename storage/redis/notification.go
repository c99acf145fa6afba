package redis

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Channels that every node hears.
const (
	channelNotifications = "notifications"
	channelLogouts       = "logouts"
	channelModerators    = "moderators"
)

// Notifications tells chat nodes of what concerns those connected to them.
type Notifications struct{ client *Client }

// NewNotifications tells over a Redis.
func NewNotifications(client *Client) *Notifications { return &Notifications{client} }

// Publish tells every node that inboxes changed.
func (n *Notifications) Publish(ctx context.Context, push livestream.NotificationPush) error {
	content, err := json.Marshal(push)
	if err != nil {
		return fmt.Errorf("write a push: %w", err)
	}
	return edge("publish a push", n.client.commands.Publish(ctx, channelNotifications, content).Err())
}

// PublishLogout tells every node that a login ended.
func (n *Notifications) PublishLogout(ctx context.Context, family uuid.UUID) error {
	return edge("publish a logout", n.client.commands.Publish(ctx, channelLogouts, family.String()).Err())
}

// PublishModerators tells every node that a creator's moderators changed.
func (n *Notifications) PublishModerators(ctx context.Context, creator uuid.UUID) error {
	return edge("publish moderators", n.client.commands.Publish(ctx, channelModerators, creator.String()).Err())
}

// Heard is a message that concerns every node; one of its fields is set.
type Heard struct {
	Push   *livestream.NotificationPush
	Logout *uuid.UUID
	// Creator is one whose moderators changed.
	Creator *uuid.UUID
}

// ReadNotification reads a message of a channel that every node hears; nil when
// it is of another channel or cannot be read.
func ReadNotification(channel, payload string) *Heard {
	switch channel {
	case channelNotifications:
		var push livestream.NotificationPush
		if json.Unmarshal([]byte(payload), &push) == nil {
			return &Heard{Push: &push}
		}
	case channelLogouts:
		if family, err := uuid.Parse(payload); err == nil {
			return &Heard{Logout: &family}
		}
	case channelModerators:
		if creator, err := uuid.Parse(payload); err == nil {
			return &Heard{Creator: &creator}
		}
	}
	return nil
}
