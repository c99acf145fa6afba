package livestream

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// StorageClass is how an object store keeps an object: what that costs, and how soon
// it can be read. The names are S3's.
type StorageClass string

const (
	StorageStandard    StorageClass = "STANDARD"
	StorageIntelligent StorageClass = "INTELLIGENT_TIERING" // cheaper where it is not read, and read as soon
	StorageGlacier     StorageClass = "GLACIER"             // cheapest, and read after hours
)

// TieredArchive is what decides how an archive's media are kept.
type TieredArchive struct {
	ID         uuid.UUID
	ReadyAt    time.Time
	RestoredAt *time.Time   // when it was last asked to come back from GLACIER
	SizeBytes  int64        // of all files
	Views      int64        // within ViewWindow
	Class      StorageClass // in which its media are
	Tier       StorageClass // in which they are to be: the same, where the store has classes
}

// TierRules say which archives are kept how.
type TierRules struct {
	// PopularViews is how many views within ViewWindow keep an archive in STANDARD.
	PopularViews int64
	// IntelligentAfter and GlacierAfter are the ages at which others leave it.
	IntelligentAfter, GlacierAfter time.Duration
}

// TierOf says in which class an archive is to be. Its age counts from when it was
// published, or last asked to come back. What is in GLACIER stays: it comes back by a
// restore alone, which somebody asks for who wants to watch.
func (r TierRules) TierOf(a TieredArchive, now time.Time) StorageClass {
	since := a.ReadyAt
	if a.RestoredAt != nil && a.RestoredAt.After(since) {
		since = *a.RestoredAt
	}
	switch age := now.Sub(since); {
	case a.Class == StorageGlacier:
		return StorageGlacier
	case a.Views >= r.PopularViews || age < r.IntelligentAfter:
		return StorageStandard
	case age < r.GlacierAfter:
		return StorageIntelligent
	default:
		return StorageGlacier
	}
}

// TierMove takes an archive's media to another class.
type TierMove struct {
	ArchiveID uuid.UUID    `json:"archive_id"`
	From      StorageClass `json:"from"`
	To        StorageClass `json:"to"`
	SizeBytes int64        `json:"size_bytes"`
}

// Tiered says whether a file of an archive moves with its tier: the media do. Playlists
// and pictures are small, and lists show pictures whatever the tier.
func Tiered(key string) bool { return strings.HasSuffix(key, ".m4s") }

// StoredObject is an object as the store lists it.
type StoredObject struct {
	Key        string
	SizeBytes  int64
	ModifiedAt time.Time
	Class      StorageClass
	// Restoring and Restored are of an object in GLACIER: it was asked for, and it can be
	// read for some days.
	Restoring, Restored bool
}
