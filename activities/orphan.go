package activities

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Owners know which archives and recordings there are. Those that are needed no more
// since a time own nothing.
type Owners interface {
	Archives(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error)
	Work(ctx context.Context, ids []uuid.UUID, failedAfter time.Time) ([]uuid.UUID, error)
	Recordings(ctx context.Context, ids []uuid.UUID, endedAfter time.Time) ([]uuid.UUID, error)
}

// ListedObjects are the bucket's, in the order of their keys.
type ListedObjects interface {
	Folders(ctx context.Context, prefix string, visit func(folder string) error) error
	Walk(ctx context.Context, prefix string, visit func(livestream.StoredObject) error) error
	WalkUploads(ctx context.Context, prefix string, visit func(livestream.StoredObject) error) error
}

// OrphanGauge shows what was found.
type OrphanGauge interface {
	Set(found livestream.Orphans)
}

// Orphans are the steps that find what is in the bucket and belongs to nobody. They
// delete nothing.
type Orphans struct {
	Owners  Owners
	Objects ListedObjects
	Gauge   OrphanGauge
	Now     func() time.Time
}

// ownersAtOnce is how many owners the database is asked for at a time.
const ownersAtOnce = 1000

// Find finds an area's orphans.
func (a *Orphans) Find(ctx context.Context, area livestream.OrphanArea) (livestream.Orphans, error) {
	found := livestream.Orphans{Area: area}
	var err error
	switch area {
	case livestream.AreaArchives:
		err = a.folders(ctx, "archives/", a.Owners.Archives, &found)
	case livestream.AreaWork:
		err = a.folders(ctx, "work/", func(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
			return a.Owners.Work(ctx, ids, a.Now().Add(-livestream.WorkKept))
		}, &found)
	case livestream.AreaRecordings:
		err = a.recordings(ctx, a.Objects.Walk, &found)
	case livestream.AreaUploads:
		err = a.recordings(ctx, a.Objects.WalkUploads, &found)
	}
	if err != nil {
		return found, edge(err)
	}
	a.Gauge.Set(found)
	for _, orphan := range found.First {
		activity.GetLogger(ctx).Warn("nobody owns this", "prefix", orphan.Prefix, "objects", orphan.Objects, "bytes", orphan.SizeBytes)
	}
	return found, nil
}

// folders looks at archives' folders: a whole name is an id, so that no archive's is
// taken for another's whose id begins alike.
func (a *Orphans) folders(ctx context.Context, prefix string, owned owned, found *livestream.Orphans) error {
	var ids []uuid.UUID
	foreign := func(folder string) error {
		orphan := livestream.Orphan{Prefix: folder}
		err := a.Objects.Walk(ctx, folder, func(object livestream.StoredObject) error {
			activity.RecordHeartbeat(ctx)
			orphan.Objects++
			orphan.SizeBytes += object.SizeBytes
			if object.ModifiedAt.After(orphan.Newest) {
				orphan.Newest = object.ModifiedAt
			}
			return nil
		})
		if err == nil && orphan.Objects > 0 && a.Now().Sub(orphan.Newest) >= livestream.OrphanAge {
			found.Add(orphan)
		}
		return err
	}
	flush := func() error {
		gone, err := without(ctx, ids, owned)
		if err != nil {
			return err
		}
		for _, id := range gone {
			if err := foreign(prefix + id.String() + "/"); err != nil {
				return err
			}
		}
		ids = ids[:0]
		activity.RecordHeartbeat(ctx)
		return nil
	}
	err := a.Objects.Folders(ctx, prefix, func(folder string) error {
		found.Looked++
		id, ok := idOf(strings.TrimSuffix(strings.TrimPrefix(folder, prefix), "/"))
		if !ok {
			return foreign(folder)
		}
		if ids = append(ids, id); len(ids) < ownersAtOnce {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// recordings looks at recordings, or at uploads of some, whose keys end with their id.
func (a *Orphans) recordings(ctx context.Context, walk func(context.Context, string, func(livestream.StoredObject) error) error, found *livestream.Orphans) error {
	old := map[uuid.UUID]livestream.StoredObject{}
	add := func(object livestream.StoredObject) {
		found.Add(livestream.Orphan{Prefix: object.Key, Objects: 1, SizeBytes: object.SizeBytes, Newest: object.ModifiedAt})
	}
	flush := func() error {
		ids := make([]uuid.UUID, 0, len(old))
		for id := range old {
			ids = append(ids, id)
		}
		gone, err := without(ctx, ids, func(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
			return a.Owners.Recordings(ctx, ids, a.Now().Add(-livestream.UploadsKept))
		})
		if err != nil {
			return err
		}
		for _, id := range gone {
			add(old[id])
		}
		clear(old)
		activity.RecordHeartbeat(ctx)
		return nil
	}
	err := walk(ctx, "recordings/", func(object livestream.StoredObject) error {
		found.Looked++
		if a.Now().Sub(object.ModifiedAt) < livestream.OrphanAge {
			return nil
		}
		id, ok := idOf(object.Key[strings.LastIndexByte(object.Key, '/')+1:])
		if !ok {
			add(object)
			return nil
		}
		if old[id] = object; len(old) < ownersAtOnce {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// owned gives those of the ids that have an owner.
type owned func(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error)

// without gives those of the ids that have no owner, in their order.
func without(ctx context.Context, ids []uuid.UUID, owned owned) ([]uuid.UUID, error) {
	known, err := owned(ctx, ids)
	if err != nil {
		return nil, err
	}
	is := make(map[uuid.UUID]bool, len(known))
	for _, id := range known {
		is[id] = true
	}
	var gone []uuid.UUID
	for _, id := range ids {
		if !is[id] {
			gone = append(gone, id)
		}
	}
	return gone, nil
}

// idOf reads a name that is an id, in the one form that ours have.
func idOf(name string) (uuid.UUID, bool) {
	id, err := uuid.Parse(name)
	return id, err == nil && id.String() == name
}
