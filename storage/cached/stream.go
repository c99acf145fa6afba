package cached

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// StreamReader reads streams and their timelines.
type StreamReader interface {
	ByID(ctx context.Context, id uuid.UUID) (livestream.Stream, error)
	List(ctx context.Context, filter livestream.StreamFilter, page livestream.Page) (livestream.List[livestream.Stream], error)
	Timeline(ctx context.Context, streamID uuid.UUID, page livestream.Page) (livestream.List[livestream.StreamEvent], error)
}

// StreamWriter changes them.
type StreamWriter interface {
	Create(ctx context.Context, stream livestream.NewStream, now time.Time) (livestream.Stream, error)
	Update(ctx context.Context, id, userID uuid.UUID, patch livestream.StreamPatch) (livestream.Stream, error)
	SetStatus(ctx context.Context, id uuid.UUID, status livestream.StreamStatus, at time.Time, reconnectDeadline *time.Time) (livestream.Stream, error)
	Finish(ctx context.Context, id uuid.UUID, at time.Time, viewers, peak int64) (livestream.Stream, error)
	AppendEvent(ctx context.Context, event livestream.NewStreamEvent) error
}

// StreamStore keeps streams.
type StreamStore interface {
	StreamReader
	StreamWriter
}

// Streams keeps streams, with copies of what they say of themselves. Lists and
// timelines are not copied.
type Streams struct {
	StreamStore
	cache *Cache
}

// NewStreams puts copies before a store.
func NewStreams(cache *Cache, store StreamStore) *Streams { return &Streams{store, cache} }

func streamEntry(id uuid.UUID) redis.CacheEntry {
	return redis.CacheEntry{Key: "stream:{" + id.String() + "}", Kind: "stream", TTL: 30 * time.Second}
}

// ByID gives a stream; CodeStreamNotFound.
func (s *Streams) ByID(ctx context.Context, id uuid.UUID) (livestream.Stream, error) {
	return redis.Get(ctx, s.cache.copies, streamEntry(id), func(ctx context.Context) (livestream.Stream, error) {
		return s.StreamStore.ByID(ctx, id)
	})
}

// Create writes a stream; see the store. Its owner's profile says that they are
// live.
func (s *Streams) Create(ctx context.Context, stream livestream.NewStream, now time.Time) (livestream.Stream, error) {
	created, err := s.StreamStore.Create(ctx, stream, now)
	s.cache.wrote(ctx, err, streamEntry(stream.ID), profileEntry(stream.UserID))
	return created, err
}

// Update changes what a stream says of itself; see the store.
func (s *Streams) Update(ctx context.Context, id, userID uuid.UUID, patch livestream.StreamPatch) (livestream.Stream, error) {
	stream, err := s.StreamStore.Update(ctx, id, userID, patch)
	s.cache.wrote(ctx, err, streamEntry(id))
	return stream, err
}

// SetStatus moves a stream to another state; see the store.
func (s *Streams) SetStatus(ctx context.Context, id uuid.UUID, status livestream.StreamStatus, at time.Time, reconnectDeadline *time.Time) (livestream.Stream, error) {
	stream, err := s.StreamStore.SetStatus(ctx, id, status, at, reconnectDeadline)
	s.moved(ctx, id, stream, err)
	return stream, err
}

// Finish ends a stream; see the store.
func (s *Streams) Finish(ctx context.Context, id uuid.UUID, at time.Time, viewers, peak int64) (livestream.Stream, error) {
	stream, err := s.StreamStore.Finish(ctx, id, at, viewers, peak)
	s.moved(ctx, id, stream, err)
	return stream, err
}

// moved drops the copies of a stream and of its owner. Without an answer the owner
// is not known; the one who writes tries until there is one.
func (s *Streams) moved(ctx context.Context, id uuid.UUID, stream livestream.Stream, err error) {
	entries := []redis.CacheEntry{streamEntry(id)}
	if err == nil {
		entries = append(entries, profileEntry(stream.UserID))
	}
	s.cache.wrote(ctx, err, entries...)
}
