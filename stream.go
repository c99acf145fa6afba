package livestream

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// StreamStatus is where a stream is in its life:
// starting → live ⇄ reconnecting → ending → ended.
type StreamStatus string

const (
	StreamStarting     StreamStatus = "starting"
	StreamLive         StreamStatus = "live"
	StreamReconnecting StreamStatus = "reconnecting"
	StreamEnding       StreamStatus = "ending"
	StreamEnded        StreamStatus = "ended"
)

// Active says whether the stream occupies its creator: one at a time.
func (s StreamStatus) Active() bool {
	return s == StreamStarting || s == StreamLive || s == StreamReconnecting
}

// Ingest is how the media reaches the platform.
type Ingest string

const (
	IngestExternal Ingest = "external" // the caller runs its own media plane
	IngestRTMP     Ingest = "rtmp"
)

// Stream is one broadcast.
type Stream struct {
	ID                uuid.UUID
	UserID            uuid.UUID
	Title             string
	Description       string
	Category          string
	Tags              []string
	Status            StreamStatus
	Ingest            Ingest
	Record            bool
	ViewerCount       int64
	PeakViewerCount   int64
	StartedAt         *time.Time
	EndedAt           *time.Time
	ReconnectDeadline *time.Time
	ArchiveID         *uuid.UUID
	ArchiveReady      bool // whether everybody can play it
	CreatedAt         time.Time
}

// NewStream is what a creator asked for, validated.
type NewStream struct {
	ID          uuid.UUID `json:"id"`
	UserID      uuid.UUID `json:"user_id"`
	Title       string    `json:"title"`
	Description string    `json:"description"`
	Category    string    `json:"category"`
	Tags        []string  `json:"tags"`
	Ingest      Ingest    `json:"ingest"`
	Record      bool      `json:"record"`
}

// StreamPatch changes what is not nil.
type StreamPatch struct {
	Title       *string
	Description *string
	Category    *string
	Tags        *[]string
}

// StreamSort orders a list of streams, highest first.
type StreamSort string

const (
	SortStartedAt StreamSort = "started_at"
	SortViewers   StreamSort = "viewers"
)

// StreamFilter narrows a list of streams; nil fields do not.
type StreamFilter struct {
	Status   *StreamStatus
	UserID   *uuid.UUID
	Category *string
	Sort     StreamSort // empty is SortStartedAt
}

// Matches says whether a stream is one that the filter lets through.
func (f StreamFilter) Matches(s Stream) bool {
	return (f.Status == nil || *f.Status == s.Status) && (f.UserID == nil || *f.UserID == s.UserID) && (f.Category == nil || *f.Category == s.Category)
}

// StreamEventType names an entry of a stream's timeline.
type StreamEventType string

const (
	EventCreated           StreamEventType = "created"
	EventLive              StreamEventType = "live"
	EventReconnecting      StreamEventType = "reconnecting"
	EventEnding            StreamEventType = "ending"
	EventEnded             StreamEventType = "ended"
	EventNotifyStarted     StreamEventType = "notify_started"
	EventNotifyFinished    StreamEventType = "notify_finished"
	EventRecordingReceived StreamEventType = "recording_received"
	EventArchiveStarted    StreamEventType = "archive_started"
	EventArchiveReady      StreamEventType = "archive_ready"
	EventArchiveFailed     StreamEventType = "archive_failed"
)

// StreamEvent is one entry of a stream's timeline. Seq counts from 1 without
// gaps.
type StreamEvent struct {
	Seq  int64
	Type StreamEventType
	At   time.Time
	Data json.RawMessage
}

// NewStreamEvent is an entry to be written. Key is unique within the stream, so
// that writing it twice has the effect of once.
type NewStreamEvent struct {
	StreamID uuid.UUID       `json:"stream_id"`
	Key      string          `json:"key"`
	Type     StreamEventType `json:"type"`
	Data     map[string]any  `json:"data,omitempty"`
}
