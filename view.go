package livestream

import (
	"time"

	"github.com/google/uuid"
)

// ViewWindow is how long the views of a day are kept apart: they say whether an
// archive is popular.
const ViewWindow = 30 * 24 * time.Hour

// Viewer is who watches an archive: a member, or whoever is at an address.
type Viewer struct {
	UserID  *uuid.UUID
	Address string // without UserID
}

// ArchiveViews is how many watched an archive on a day, of UTC.
type ArchiveViews struct {
	ArchiveID uuid.UUID
	Day       time.Time // its midnight
	Views     int64
}

// Midnight is when a time's day began, in UTC.
func Midnight(at time.Time) time.Time { return at.UTC().Truncate(24 * time.Hour) }
