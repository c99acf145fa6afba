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
	RestoredAt *time.Time // when it was last asked to come back from GLACIER
	SizeBytes  int64      // of all files
	Seconds    float64    // that it plays
	Renditions int
	Views      int64        // within ViewWindow
	Class      StorageClass // in which its media are
	Tier       StorageClass // in which they are to be: the same, where the store has classes
	Moving     bool         // a move has begun and not ended
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

// RestoreWindow is how long an archive may be on its way back from GLACIER, which takes
// the store half a day. RestoreGivenUp is the age from which nobody sees to it any more.
const (
	RestoreWindow  = 7 * 24 * time.Hour
	RestoreGivenUp = RestoreWindow + 24*time.Hour
)

// Move says where an archive is to be, and whether it is moved there now. What is on its
// way back is left alone until that was given up. Where the store has no classes, the
// decision alone is noted.
func (r TierRules) Move(a TieredArchive, now time.Time, classes bool) (to StorageClass, moves bool) {
	to = r.TierOf(a, now)
	if a.Class == StorageGlacier && a.Tier == StorageStandard && a.RestoredAt != nil && now.Sub(*a.RestoredAt) < RestoreGivenUp {
		return to, false
	}
	return to, to != a.Tier || classes && (to != a.Class || a.Moving) // or by halves
}

// TierMove takes an archive's media to another class.
type TierMove struct {
	ArchiveID uuid.UUID    `json:"archive_id"`
	From      StorageClass `json:"from"`
	To        StorageClass `json:"to"`
	SizeBytes int64        `json:"size_bytes"`
	// RestoredAt is the archive's when the move was planned: one that was asked for since
	// is not taken away again.
	RestoredAt *time.Time `json:"restored_at,omitempty"`
}

// segmentSeconds is how long a segment plays.
const segmentSeconds = 4

// Files is about how many files of an archive move, its sound among them.
func (a TieredArchive) Files() int64 {
	return int64(a.Seconds/segmentSeconds+1) * int64(a.Renditions+1)
}

// StoragePrices are what a store asks.
type StoragePrices struct {
	Standard, Intelligent, Glacier float64 // for a GB and month
	Monitoring                     float64 // for 1,000 files and a month in INTELLIGENT_TIERING
	Copy, GlacierCopy              float64 // for 1,000 copies, to GLACIER and to others
}

// What S3 adds to each file in GLACIER, in GB: some of it at STANDARD's price.
const (
	glacierIndex = 32 << 10 / 1e9
	glacierName  = 8 << 10 / 1e9
)

// Month is what an archive costs a month in a class.
func (p StoragePrices) Month(class StorageClass, a TieredArchive) float64 {
	gb, files := float64(a.SizeBytes)/1e9, float64(a.Files())
	switch class {
	case StorageIntelligent:
		return gb*p.Intelligent + files/1000*p.Monitoring
	case StorageGlacier:
		return (gb+files*glacierIndex)*p.Glacier + files*glacierName*p.Standard
	default:
		return gb * p.Standard
	}
}

// Move is what it costs once to take an archive to a class.
func (p StoragePrices) Move(to StorageClass, a TieredArchive) float64 {
	price := p.Copy
	if to == StorageGlacier {
		price = p.GlacierCopy
	}
	return float64(a.Files()) / 1000 * price
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
