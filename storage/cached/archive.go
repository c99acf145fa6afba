package cached

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// ArchiveReader reads archives.
type ArchiveReader interface {
	Playback(ctx context.Context, id uuid.UUID) (livestream.ArchivePlayback, error)
	ByID(ctx context.Context, id uuid.UUID) (livestream.Archive, error)
	List(ctx context.Context, filter livestream.ArchiveFilter, page livestream.Page) (livestream.List[livestream.Archive], error)
	Tiered(ctx context.Context, after uuid.UUID, since time.Time, limit int) ([]livestream.TieredArchive, error)
	Tier(ctx context.Context, id uuid.UUID) (livestream.StorageClass, error)
}

// ArchiveWriter changes them.
type ArchiveWriter interface {
	SetVisibility(ctx context.Context, id, userID uuid.UUID, visibility livestream.ArchiveVisibility) (livestream.Archive, error)
	SetProgress(ctx context.Context, id uuid.UUID, progress float64) error
	MarkProcessing(ctx context.Context, id uuid.UUID) error
	MarkReady(ctx context.Context, id uuid.UUID, info livestream.MediaInfo, renditions []livestream.Rendition, sizeBytes int64, now time.Time) (livestream.Archive, error)
	MarkFailed(ctx context.Context, id uuid.UUID, failure livestream.Failure, attempt int, now time.Time) error
	Delete(ctx context.Context, id, streamID, userID uuid.UUID) error
	BeginMove(ctx context.Context, move livestream.TierMove, moves bool, now time.Time) (bool, error)
	KeepMoving(ctx context.Context, id uuid.UUID, to livestream.StorageClass, until time.Time) error
	EndRestore(ctx context.Context, id uuid.UUID, began time.Time) (bool, error)
	EndMove(ctx context.Context, id uuid.UUID, to livestream.StorageClass) (bool, error)
	BeginRestore(ctx context.Context, id uuid.UUID, now time.Time) error
}

// ArchiveStore keeps archives.
type ArchiveStore interface {
	ArchiveReader
	ArchiveWriter
}

// Archives keeps archives, with copies of who may play them: each file that is
// played asks. A stream's copy says which archive it has and whether everybody can
// play it. An archive that failed, or is processed again, changes neither.
type Archives struct {
	ArchiveStore
	cache *Cache
}

// NewArchives wraps a store.
func NewArchives(cache *Cache, store ArchiveStore) *Archives { return &Archives{store, cache} }

// playbackEntry is short: what says who may play is not to be old when a write could
// not drop it.
func playbackEntry(id uuid.UUID) redis.CacheEntry {
	return redis.CacheEntry{Key: "archive:{" + id.String() + "}:playback", Kind: "archive_playback", TTL: 5 * time.Second}
}

// Playback says who may play an archive; see the store.
func (s *Archives) Playback(ctx context.Context, id uuid.UUID) (livestream.ArchivePlayback, error) {
	return redis.Get(ctx, s.cache.copies, playbackEntry(id), func(ctx context.Context) (livestream.ArchivePlayback, error) {
		return s.ArchiveStore.Playback(ctx, id)
	})
}

// SetVisibility says who may play an archive; see the store.
func (s *Archives) SetVisibility(ctx context.Context, id, userID uuid.UUID, visibility livestream.ArchiveVisibility) (livestream.Archive, error) {
	archive, err := s.ArchiveStore.SetVisibility(ctx, id, userID, visibility)
	entries := []redis.CacheEntry{playbackEntry(id)}
	if err == nil {
		entries = append(entries, streamEntry(archive.StreamID))
	}
	s.cache.wrote(ctx, err, entries...)
	return archive, err
}

// BeginMove changes where an archive's media are to be; see the store.
func (s *Archives) BeginMove(ctx context.Context, move livestream.TierMove, moves bool, now time.Time) (bool, error) {
	ok, err := s.ArchiveStore.BeginMove(ctx, move, moves, now)
	s.cache.wrote(ctx, err, playbackEntry(move.ArchiveID))
	return ok, err
}

// EndRestore changes where an archive's media are; see the store.
func (s *Archives) EndRestore(ctx context.Context, id uuid.UUID, began time.Time) (bool, error) {
	ok, err := s.ArchiveStore.EndRestore(ctx, id, began)
	s.cache.wrote(ctx, err, playbackEntry(id))
	return ok, err
}

// EndMove changes where an archive's media are; see the store.
func (s *Archives) EndMove(ctx context.Context, id uuid.UUID, to livestream.StorageClass) (bool, error) {
	ok, err := s.ArchiveStore.EndMove(ctx, id, to)
	s.cache.wrote(ctx, err, playbackEntry(id))
	return ok, err
}

// BeginRestore changes where an archive's media are to be; see the store.
func (s *Archives) BeginRestore(ctx context.Context, id uuid.UUID, now time.Time) error {
	err := s.ArchiveStore.BeginRestore(ctx, id, now)
	s.cache.wrote(ctx, err, playbackEntry(id))
	return err
}

// MarkReady publishes an archive; see the store. Without an answer the stream is
// not known; the one who writes tries until there is one.
func (s *Archives) MarkReady(ctx context.Context, id uuid.UUID, info livestream.MediaInfo, renditions []livestream.Rendition, sizeBytes int64, now time.Time) (livestream.Archive, error) {
	archive, err := s.ArchiveStore.MarkReady(ctx, id, info, renditions, sizeBytes, now)
	if err == nil {
		s.cache.wrote(ctx, nil, streamEntry(archive.StreamID))
	}
	return archive, err
}

// Delete removes an archive; see the store. One that is not there may have been
// deleted by an attempt that was killed before it dropped the copies.
func (s *Archives) Delete(ctx context.Context, id, streamID, userID uuid.UUID) error {
	err := s.ArchiveStore.Delete(ctx, id, streamID, userID)
	outcome := err
	if livestream.CodeOf(err) == livestream.CodeArchiveNotFound {
		outcome = nil
	}
	s.cache.wrote(ctx, outcome, streamEntry(streamID), playbackEntry(id))
	return err
}
