package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// ViewCounts is where views are counted. Settle leaves pending what grew meanwhile.
type ViewCounts interface {
	Pending(ctx context.Context, cursor uint64) (pending []livestream.ArchiveViews, next uint64, err error)
	Settle(ctx context.Context, stored []livestream.ArchiveViews) error
}

// ViewStore keeps them. Saving again changes nothing.
type ViewStore interface {
	Save(ctx context.Context, views []livestream.ArchiveViews) error
}

// Views are the steps that keep how many watched archives.
type Views struct {
	Counts ViewCounts
	Store  ViewStore
}

// Flush stores all views that are counted and not stored. A count is of the whole
// day, so that one that is stored twice counts once, and one that was lost on the way
// comes again.
func (v *Views) Flush(ctx context.Context) error {
	for cursor := uint64(0); ; {
		pending, next, err := v.Counts.Pending(ctx, cursor)
		if err != nil {
			return edge(err)
		}
		if len(pending) > 0 {
			if err := v.Store.Save(ctx, pending); err != nil {
				return edge(err)
			}
			if err := v.Counts.Settle(ctx, pending); err != nil {
				return edge(err)
			}
		}
		if next == 0 {
			return nil
		}
		cursor = next
		activity.RecordHeartbeat(ctx, cursor)
	}
}
