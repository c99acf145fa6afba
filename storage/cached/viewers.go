package cached

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// viewersLifetime adds to the two seconds after which nodes tell their counts.
	viewersLifetime = 500 * time.Millisecond
	// countsTimeout bounds what an answer waits for counts, which it can do without.
	countsTimeout = 250 * time.Millisecond
	// maxViewers bounds how many streams' counts are remembered. When there are more,
	// all begin anew.
	maxViewers = 10_000
)

// ViewerStore counts viewers.
type ViewerStore interface {
	Counts(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]livestream.ViewerCount, error)
	Viewers(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]int64, error)
	Watched(ctx context.Context, after *livestream.Cursor, n int) ([]livestream.WatchedStream, error)
}

// Viewers counts viewers, and remembers in this process what it showed a moment
// ago. It is for showing; what is stored of a stream that ends is counted by the
// store.
type Viewers struct {
	ViewerStore
	mu     sync.Mutex
	counts map[uuid.UUID]countedViewers
}

type countedViewers struct {
	livestream.ViewerCount
	until time.Time
}

// NewViewers puts a memory before a store.
func NewViewers(store ViewerStore) *Viewers {
	return &Viewers{ViewerStore: store, counts: map[uuid.UUID]countedViewers{}}
}

// Counts gives the viewers of each of the streams; see the store. It does not wait
// for long: CodeUnavailable after a quarter of a second.
func (v *Viewers) Counts(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]livestream.ViewerCount, error) {
	counts := make(map[uuid.UUID]livestream.ViewerCount, len(ids))
	missing := v.remembered(ids, counts)
	if len(missing) == 0 {
		return counts, nil
	}
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	counted, err := v.ViewerStore.Counts(ctx, missing...)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.counts)+len(counted) > maxViewers {
		clear(v.counts)
	}
	until := time.Now().Add(viewersLifetime)
	for id, count := range counted {
		counts[id] = count
		v.counts[id] = countedViewers{count, until}
	}
	return counts, nil
}

func (v *Viewers) remembered(ids []uuid.UUID, counts map[uuid.UUID]livestream.ViewerCount) (missing []uuid.UUID) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range ids {
		if known, is := v.counts[id]; is && now.Before(known.until) {
			counts[id] = known.ViewerCount
		} else {
			missing = append(missing, id)
		}
	}
	return missing
}
