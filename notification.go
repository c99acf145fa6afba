package livestream

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// NotificationType is what a notification tells of.
type NotificationType string

const (
	NotifyStreamLive   NotificationType = "stream_live"
	NotifyTipReceived  NotificationType = "tip_received"
	NotifyNewFollower  NotificationType = "new_follower"
	NotifyArchiveReady NotificationType = "archive_ready"
)

// Notification is one entry of a member's inbox. Seq grows within a recipient's
// inbox; a client resumes from it.
type Notification struct {
	ID        uuid.UUID
	Seq       int64
	UserID    uuid.UUID // the recipient
	Type      NotificationType
	Read      bool
	CreatedAt time.Time
	Data      json.RawMessage
}

// NewNotification is a notification for one recipient. Key is unique within the
// recipient's inbox, so that writing it twice has the effect of once.
type NewNotification struct {
	UserID uuid.UUID
	Key    string
	Type   NotificationType
	Data   any
}

// NotificationSettings says which types a member wants; all of them at first.
type NotificationSettings struct {
	StreamLive   bool
	TipReceived  bool
	NewFollower  bool
	ArchiveReady bool
}

// FollowerRange is a range of followers by key: those after After, up to and
// including Upto.
type FollowerRange struct {
	After uuid.UUID `json:"after"`
	Upto  uuid.UUID `json:"upto"`
	Count int64     `json:"count"` // followers in it when it was planned
}

// GoLive is what followers are told when a stream starts.
type GoLive struct {
	StreamID  uuid.UUID `json:"stream_id"`
	CreatorID uuid.UUID `json:"creator_id"`
	Title     string    `json:"title"`
	// Before fences the audience: who followed later is not told.
	Before time.Time `json:"before"`
}

// NotifyStatus is where a fan-out is.
type NotifyStatus string

const (
	NotifyPending   NotifyStatus = "pending"
	NotifyRunning   NotifyStatus = "running"
	NotifyPaused    NotifyStatus = "paused"
	NotifyCompleted NotifyStatus = "completed"
	NotifyCanceled  NotifyStatus = "canceled"
)

// NotifyProgress is how far a fan-out is.
type NotifyProgress struct {
	Status         NotifyStatus `json:"status"`
	FollowersTotal int64        `json:"followers_total"`
	Notified       int64        `json:"notified"`
	Failed         int64        `json:"failed"` // followers in ranges that were given up
	StartedAt      *time.Time   `json:"started_at"`
	FinishedAt     *time.Time   `json:"finished_at"`
}

// NotificationPush tells chat nodes that inboxes changed. A node loads the rows
// of those recipients that are connected to it; nobody else's travel.
type NotificationPush struct {
	Key   string         `json:"key"` // the notifications' key
	Range *FollowerRange `json:"range,omitempty"`
	User  *uuid.UUID     `json:"user,omitempty"` // instead of Range
}

// StreamLiveKey is the key of the notifications that tell of a stream's start.
func StreamLiveKey(stream uuid.UUID) string { return string(NotifyStreamLive) + ":" + stream.String() }

// TipReceivedKey is the key of the notification that tells of a tip.
func TipReceivedKey(transaction uuid.UUID) string {
	return string(NotifyTipReceived) + ":" + transaction.String()
}

// NewFollowerKey is the key of the notification that tells of a follower.
func NewFollowerKey(follower uuid.UUID) string {
	return string(NotifyNewFollower) + ":" + follower.String()
}

// ArchiveReadyKey is the key of the notification that tells of an archive.
func ArchiveReadyKey(archive uuid.UUID) string {
	return string(NotifyArchiveReady) + ":" + archive.String()
}
