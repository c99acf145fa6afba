package livestream

import (
	"time"

	"github.com/google/uuid"
)

// ArchiveStatus is where an archive is in its making.
type ArchiveStatus string

const (
	ArchiveProcessing ArchiveStatus = "processing"
	ArchiveReady      ArchiveStatus = "ready"
	ArchiveFailed     ArchiveStatus = "failed"
)

// ArchiveVisibility says who may play an archive.
type ArchiveVisibility string

// A private archive is its owner's alone: others do not find it.
const (
	VisibilityPublic  ArchiveVisibility = "public"
	VisibilityPrivate ArchiveVisibility = "private"
)

// Archive is a stream's recording made playable.
type Archive struct {
	ID              uuid.UUID
	StreamID        uuid.UUID
	UserID          uuid.UUID
	Title           string
	Visibility      ArchiveVisibility
	Status          ArchiveStatus
	Progress        float64 // 0 to 1
	DurationSeconds float64
	SizeBytes       int64
	Renditions      []Rendition
	StorageClass    StorageClass // of its media
	ViewCount       int64
	Failure         *Failure
	CreatedAt       time.Time
	ReadyAt         *time.Time
}

// ArchivePlayback is what decides whether somebody may play an archive.
type ArchivePlayback struct {
	UserID       uuid.UUID // the owner
	Visibility   ArchiveVisibility
	StorageClass StorageClass
	Restoring    bool // it is on its way back from GLACIER
}

// ArchiveFilter narrows a list of archives; nil fields do not.
type ArchiveFilter struct {
	UserID   *uuid.UUID
	StreamID *uuid.UUID
	Status   *ArchiveStatus
	// Viewer is who asks. Their private archives are in the lists of themself and of
	// their streams; those of everybody have public ones alone.
	Viewer *uuid.UUID
}

// Failure says in a user's words why something did not work.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Codes of an archive's failure.
const (
	FailureNotVideo    = "not_a_video"
	FailureCorrupt     = "corrupt"
	FailureUnsupported = "unsupported"
	FailureTooLong     = "too_long"
	FailureInternal    = "internal"
)

// ArchivePrefix is where an archive's objects live, without a leading slash.
func ArchivePrefix(id uuid.UUID) string { return "archives/" + id.String() + "/" }

// An archive's well-known objects.
const (
	MasterPlaylist = "master.m3u8"
	Poster         = "poster.jpg"     // up to 1280 pixels wide
	Thumbnail      = "thumbnail.jpg"  // the same picture, up to 480
	Storyboard     = "storyboard.vtt" // small pictures for the seek bar
)
