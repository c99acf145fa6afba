package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	livestream "github.com/livestream-pro/livestream-pro"
)

// TierStore knows where archives' media are, and where they are to be.
type TierStore interface {
	ByID(ctx context.Context, id uuid.UUID) (livestream.Archive, error)
	Tiered(ctx context.Context, after uuid.UUID, since time.Time, limit int) ([]livestream.TieredArchive, error)
	BeginMove(ctx context.Context, move livestream.TierMove, moves bool, now time.Time) (bool, error)
	KeepMoving(ctx context.Context, id uuid.UUID, to livestream.StorageClass, until time.Time) error
	EndRestore(ctx context.Context, id uuid.UUID, began time.Time) (bool, error)
	Tier(ctx context.Context, id uuid.UUID) (livestream.StorageClass, error)
	EndMove(ctx context.Context, id uuid.UUID, to livestream.StorageClass) (bool, error)
	BeginRestore(ctx context.Context, id uuid.UUID, now time.Time) error
}

// ClassedObjects are objects that are kept in classes. SetClass and Restore may be
// repeated.
type ClassedObjects interface {
	HasClasses(ctx context.Context) (bool, error)
	Walk(ctx context.Context, prefix string, visit func(livestream.StoredObject) error) error
	SetClass(ctx context.Context, key string, class livestream.StorageClass) error
	Restore(ctx context.Context, key string) error
}

// Tiers are the steps that keep archives' media in the class that their views are
// worth, and that bring them back.
type Tiers struct {
	Store    TierStore
	Objects  ClassedObjects
	Notify   Notifier
	Push     NotificationPublisher
	Browsers Browsers
	Rules    livestream.TierRules
	Now      func() time.Time
}

// Probe says whether the store has classes.
func (a *Tiers) Probe(ctx context.Context) (bool, error) {
	classes, err := a.Objects.HasClasses(ctx)
	return classes, edge(err)
}

// TierPage is what is to be moved of some archives, and where the next ones begin.
type TierPage struct {
	Looked int                   `json:"looked"`
	Moves  []livestream.TierMove `json:"moves"`
	Next   *uuid.UUID            `json:"next"` // nil when these were the last
}

// tierPage is how many archives are looked at in one step.
const tierPage = 200

// Plan looks at the archives after one of them, and says which are to be moved. classes
// says whether the store has any.
func (a *Tiers) Plan(ctx context.Context, after uuid.UUID, classes bool) (TierPage, error) {
	now := a.Now()
	archives, err := a.Store.Tiered(ctx, after, livestream.Midnight(now.Add(-livestream.ViewWindow)), tierPage)
	if err != nil {
		return TierPage{}, edge(err)
	}
	page := TierPage{Looked: len(archives)}
	for _, archive := range archives {
		if to, moves := a.Rules.Move(archive, now, classes); moves {
			page.Moves = append(page.Moves, livestream.TierMove{
				ArchiveID: archive.ID, From: archive.Class, To: to, SizeBytes: archive.SizeBytes, RestoredAt: archive.RestoredAt,
			})
		}
	}
	if len(archives) == tierPage {
		page.Next = &archives[len(archives)-1].ID
	}
	return page, nil
}

// Move takes an archive's media to another class, where the store has classes, and
// notes the decision where it has none; it says whether it did. One that is deleted or
// restored meanwhile is left alone. It may be repeated: what has been moved is not moved
// again.
func (a *Tiers) Move(ctx context.Context, move livestream.TierMove, classes bool) (moved bool, err error) {
	ok, err := a.Store.BeginMove(ctx, move, classes, a.Now())
	if err != nil || !ok || !classes {
		return ok, edge(err)
	}
	keep := func(ctx context.Context) error {
		return a.Store.KeepMoving(ctx, move.ArchiveID, move.To, a.Now().Add(2*batchTimeout))
	}
	_, err = a.each(ctx, move.ArchiveID, keep, func(ctx context.Context, object livestream.StoredObject) (bool, error) {
		if object.Class == move.To {
			return true, nil
		}
		return true, a.Objects.SetClass(ctx, object.Key, move.To)
	})
	if err == nil {
		moved, err = a.Store.EndMove(ctx, move.ArchiveID, move.To)
	}
	return moved, edge(unless(err, livestream.CodeArchiveNotFound))
}

// BringBack brings an archive's media back from GLACIER as far as it can be done now:
// what is there is copied to STANDARD, and the rest is asked for. It gives how many
// files are still on their way, at least one while a copy to GLACIER may come.
//
// Errors: archive_not_found.
func (a *Tiers) BringBack(ctx context.Context, id uuid.UUID) (waiting int, err error) {
	began := a.Now()
	if err := a.Store.BeginRestore(ctx, id, began); err != nil {
		return 0, edge(err)
	}
	keep := func(ctx context.Context) error {
		tier, err := a.Store.Tier(ctx, id)
		if err == nil && tier != livestream.StorageStandard {
			err = livestream.Errorf(livestream.CodeArchiveNotFound, "archive %s is to be in %s by now", id, tier)
		}
		return err
	}
	waiting, err = a.each(ctx, id, keep, func(ctx context.Context, object livestream.StoredObject) (bool, error) {
		switch {
		case object.Class == livestream.StorageStandard:
			return true, nil
		case object.Class != livestream.StorageGlacier || object.Restored:
			return true, a.Objects.SetClass(ctx, object.Key, livestream.StorageStandard)
		case object.Restoring:
			return false, nil
		default:
			return false, a.Objects.Restore(ctx, object.Key)
		}
	})
	if err != nil || waiting > 0 {
		return waiting, edge(err)
	}
	back, err := a.Store.EndRestore(ctx, id, began)
	if err == nil && !back {
		waiting = 1
	}
	return waiting, edge(err)
}

// Between two looks at an archive's row, this many of its files are worked on: what is
// deleted meanwhile must not come back by a copy, see the deletion's grace.
const tierBatch = 64

// batchTimeout is how long they may take together.
const batchTimeout = 45 * time.Second

// each works on all media of an archive, several at a time and as long as its row lets
// it, and gives how many of them are not done.
func (a *Tiers) each(ctx context.Context, id uuid.UUID, keep func(context.Context) error, work func(context.Context, livestream.StoredObject) (done bool, err error)) (int, error) {
	var (
		batch []livestream.StoredObject
		left  int
	)
	flush := func() error {
		if err := keep(ctx); err != nil {
			return err
		}
		done := make([]bool, len(batch))
		limited, cancel := context.WithTimeout(ctx, batchTimeout)
		defer cancel()
		group, working := errgroup.WithContext(limited)
		group.SetLimit(8)
		for i, object := range batch {
			group.Go(func() (err error) {
				done[i], err = work(working, object)
				activity.RecordHeartbeat(ctx)
				return unless(err, livestream.CodeNotFound)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for _, ok := range done {
			if !ok {
				left++
			}
		}
		batch = batch[:0]
		return nil
	}
	err := a.Objects.Walk(ctx, livestream.ArchivePrefix(id), func(object livestream.StoredObject) error {
		if livestream.Tiered(object.Key) {
			batch = append(batch, object)
		}
		if len(batch) < tierBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return left, err
}

// Restored tells those who asked for an archive that it can be played again since a
// time, if they may play it still. It may be repeated; restore names what they asked for.
func (a *Tiers) Restored(ctx context.Context, id uuid.UUID, restore string, at time.Time, askers []uuid.UUID) error {
	archive, err := a.Store.ByID(ctx, id)
	if err != nil {
		return edge(unless(err, livestream.CodeArchiveNotFound))
	}
	key := fmt.Sprintf("archive_restored/%s", restore)
	for _, asker := range askers {
		if archive.Visibility == livestream.VisibilityPrivate && asker != archive.UserID {
			continue
		}
		_, err := a.Notify.Notify(ctx, livestream.NewNotification{
			UserID: asker, Key: key, Type: livestream.NotifyArchiveReady, At: at, Data: map[string]any{"archive_id": id, "stream_id": archive.StreamID},
		})
		if err != nil {
			return edge(err)
		}
		push := livestream.NotificationPush{Key: key, At: at, User: &asker}
		if err := ring(ctx, a.Push, a.Browsers, push); err != nil {
			return edge(err)
		}
	}
	return nil
}
