package livestream

import (
	"time"

	"github.com/google/uuid"
)

// Limits of a recording. S3 would take 10,000 parts of 5 MiB or more; each of ours
// is an address that is signed while the client waits, so they are fewer and larger.
const (
	MaxRecordingBytes   = 100 << 30
	MinRecordingPart    = 16 << 20
	MaxRecordingParts   = 1000
	RecordingURLExpires = 6 * time.Hour
	// RecordingWindow is how long after its end a stream still takes a recording.
	RecordingWindow = 24 * time.Hour
	// UploadsKept is how long after its stream's end an upload is kept that was not
	// completed: what is taken at the window's last moment may still be written.
	UploadsKept = RecordingWindow + time.Hour
	// MaxOpenUploads is how many of a stream's uploads may be under way: those whose
	// addresses are good. A client that broke off and forgot them begins again.
	MaxOpenUploads = 5
)

// RecordingPartSize is the size of each part but the last of an upload.
func RecordingPartSize(size int64) int64 {
	part := int64(MinRecordingPart)
	for size > part*MaxRecordingParts {
		part *= 2
	}
	return part
}

// RecordingPrefix is where the recordings of a stream live in object storage.
func RecordingPrefix(stream uuid.UUID) string { return "recordings/" + stream.String() + "/" }

// Upload is a recording on its way to object storage. ID is ours and opaque;
// the storage's own id never leaves the server.
type Upload struct {
	ID          uuid.UUID
	StreamID    uuid.UUID
	Key         string // object key, made by the server
	StorageID   string // the multipart upload's id at the storage
	ContentType string
	SizeBytes   int64
	PartSize    int64
	ArchiveID   *uuid.UUID // set when it is complete
	CreatedAt   time.Time
}

// UploadPart is a part that the client uploaded.
type UploadPart struct {
	Number int32  `json:"part_number"`
	ETag   string `json:"etag"`
}
