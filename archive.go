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

// Archive is a stream's recording made playable.
type Archive struct {
	ID              uuid.UUID
	StreamID        uuid.UUID
	UserID          uuid.UUID
	Title           string
	Status          ArchiveStatus
	Progress        float64 // 0 to 1
	DurationSeconds float64
	SizeBytes       int64
	Renditions      []Rendition
	StorageClass    string
	ViewCount       int64
	Failure         *Failure
	CreatedAt       time.Time
	ReadyAt         *time.Time
}

// ArchiveFilter narrows a list of archives; nil fields do not.
type ArchiveFilter struct {
	UserID   *uuid.UUID
	StreamID *uuid.UUID
	Status   *ArchiveStatus
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

// MasterPlaylist and Thumbnail are an archive's well-known objects.
const (
	MasterPlaylist = "master.m3u8"
	Thumbnail      = "thumbnail.jpg"
)
