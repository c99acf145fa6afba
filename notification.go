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

// Limits on how often a recipient is told.
const (
	// GoLivePause is how long a creator who starts again does not ring twice.
	GoLivePause = 10 * time.Minute
	// GoLiveStreams is how many streams of a creator may have been there within a pause
	// for the next one to ring. Who starts and ends more of them rings nobody, not even
	// who has not been rung: each stream makes the next fan-out dearer.
	GoLiveStreams = 10
	// RingsPerHour is how often a recipient is rung for streams, whoever they are of, in
	// the hour that the first ring begins. What comes beyond it is silent: it waits in the
	// inbox. Other types concern their recipient alone, neither count nor are silenced:
	// tips have limits of their own, and new followers are told together.
	RingsPerHour = 30
	// FollowersPause is how long further new followers are added to an unread notice
	// of new followers, instead of one each.
	FollowersPause = 5 * time.Minute
)

// NewNotification is a notification for one recipient. Key and At are unique within
// the recipient's inbox, so that writing it twice has the effect of once.
type NewNotification struct {
	UserID uuid.UUID
	Key    string
	Type   NotificationType
	// From is the member who caused it: a recipient who has blocked them is not told. The
	// zero id is nobody.
	From uuid.UUID
	// At is when what it tells of happened: the same at each attempt.
	At   time.Time
	Data any
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
	// Before fences the audience: who followed later is not told. It dates the
	// notifications too.
	Before time.Time `json:"before"`
}

// RangeResult is what became of a range of followers; the same after a retry.
type RangeResult struct {
	Notified int64 `json:"notified"`
	// Skipped do not want to be told, or were told of the creator's stream before.
	Skipped int64 `json:"skipped,omitempty"`
	// Ended says that the stream is over, and so nobody was told.
	Ended bool `json:"ended,omitempty"`
}

// NotifyStatus is where a fan-out is.
type NotifyStatus string

const (
	NotifyPending NotifyStatus = "pending"
	NotifyRunning NotifyStatus = "running"
	NotifyPaused  NotifyStatus = "paused"
	// NotifyIncomplete waits for an operator's retry of the ranges that failed.
	NotifyIncomplete NotifyStatus = "incomplete"
	NotifyCompleted  NotifyStatus = "completed"
	NotifyCanceled   NotifyStatus = "canceled"
	// NotifyStopped ended because the stream did.
	NotifyStopped NotifyStatus = "stopped"
)

// NotifyProgress is how far a fan-out is.
type NotifyProgress struct {
	Status NotifyStatus `json:"status"`
	// FollowersTotal is the kept count at the start; once the fan-out is completed,
	// those who were in it.
	FollowersTotal int64      `json:"followers_total"`
	Notified       int64      `json:"notified"`
	Skipped        int64      `json:"skipped"` // who did not want to be told, or just were
	Failed         int64      `json:"failed"`  // followers in ranges that were given up
	Rate           float64    `json:"rate"`    // followers a second, pauses left out
	StartedAt      *time.Time `json:"started_at"`
	FinishedAt     *time.Time `json:"finished_at"`
}

// Done is how many followers the fan-out is done with.
func (p NotifyProgress) Done() int64 { return p.Notified + p.Skipped + p.Failed }

// Left is how long a fan-out that is running still takes, if it goes on as it did;
// zero when nothing can be said.
func (p NotifyProgress) Left() time.Duration {
	if p.Status != NotifyRunning || p.Rate <= 0 {
		return 0
	}
	return time.Duration(float64(max(p.FollowersTotal-p.Done(), 0)) / p.Rate * float64(time.Second))
}

// NotificationPush says who may have news in their inbox, and nothing of what it is.
// A chat node looks into the inboxes of those recipients that are connected to it.
type NotificationPush struct {
	Key string    `json:"key"` // the notifications' key
	At  time.Time `json:"at"`  // when they are dated
	// Range is of the followers of CreatorID.
	Range     *FollowerRange `json:"range,omitempty"`
	CreatorID uuid.UUID      `json:"creator_id,omitzero"`
	User      *uuid.UUID     `json:"user,omitempty"` // instead of Range
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
