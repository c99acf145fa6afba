package cached

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// RecordingStore keeps uploads.
type RecordingStore interface {
	Create(ctx context.Context, upload livestream.Upload) error
	ByID(ctx context.Context, streamID, id uuid.UUID) (livestream.Upload, error)
	Complete(ctx context.Context, uploadID, archiveID uuid.UUID, now time.Time) (livestream.Archive, error)
	OfArchive(ctx context.Context, streamID, archiveID uuid.UUID) (livestream.Upload, error)
	Abandoned(ctx context.Context, streamID uuid.UUID) ([]livestream.Upload, error)
	Stale(ctx context.Context, before time.Time) ([]livestream.Upload, error)
	Delete(ctx context.Context, id uuid.UUID) error
}

// Recordings keeps uploads. It has no copies of its own, but a stream's says which
// archive it has.
type Recordings struct {
	RecordingStore
	cache *Cache
}

// NewRecordings wraps a store.
func NewRecordings(cache *Cache, store RecordingStore) *Recordings { return &Recordings{store, cache} }

// Complete takes a whole recording; see the store. Without an answer the stream is
// not known; the one who writes tries until there is one.
func (s *Recordings) Complete(ctx context.Context, uploadID, archiveID uuid.UUID, now time.Time) (livestream.Archive, error) {
	archive, err := s.RecordingStore.Complete(ctx, uploadID, archiveID, now)
	if err == nil {
		s.cache.wrote(ctx, nil, streamEntry(archive.StreamID), playbackEntry(archive.ID))
	}
	return archive, err
}
