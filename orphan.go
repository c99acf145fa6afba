package livestream

import "time"

// Orphan is what the bucket has and no row owns: all files of one archive, or one
// recording.
type Orphan struct {
	Prefix    string    `json:"prefix"`
	Objects   int       `json:"objects"`
	SizeBytes int64     `json:"size_bytes"`
	Newest    time.Time `json:"newest"` // when the last of them was written
}

// OrphanArea is a part of the bucket whose owners are found in one way.
type OrphanArea string

const (
	AreaArchives   OrphanArea = "archives"   // archives/{archive}/
	AreaWork       OrphanArea = "work"       // work/{archive}/, what is needed until one is made
	AreaRecordings OrphanArea = "recordings" // recordings/{stream}/{upload}
	AreaUploads    OrphanArea = "uploads"    // multipart uploads that nobody completed
)

// Orphans is what a sweep found in an area.
type Orphans struct {
	Area      OrphanArea `json:"area"`
	Looked    int        `json:"looked"` // archives or recordings
	Count     int        `json:"count"`
	SizeBytes int64      `json:"size_bytes"`
	First     []Orphan   `json:"first"` // up to MaxOrphansNamed
}

// MaxOrphansNamed is how many orphans of an area a report names.
const MaxOrphansNamed = 100

// OrphanAge is how old what has no owner must be: what is being written may have its
// row soon. What is being deleted is old, and found for some minutes.
const OrphanAge = 48 * time.Hour

// WorkKept is how long what the making of an archive needs is kept after it failed: for
// longer than it may be retried.
const WorkKept = 31 * 24 * time.Hour

// Add notes an orphan.
func (o *Orphans) Add(orphan Orphan) {
	o.Count++
	o.SizeBytes += orphan.SizeBytes
	if len(o.First) < MaxOrphansNamed {
		o.First = append(o.First, orphan)
	}
}
