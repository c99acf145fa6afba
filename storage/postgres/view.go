package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Views keeps how many watched archives.
type Views struct{ db *DB }

// NewViews keeps views in db.
func NewViews(db *DB) *Views { return &Views{db: db} }

const (
	// The rows are taken in one order, so that two who store do not wait for one
	// another in a circle, and see what the other has stored.
	lockViewedSQL = `-- name: archive_views.lock
SELECT id FROM archives WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE`

	saveViewsSQL = `-- name: archive_views.save
WITH more AS (
	SELECT n.archive_id, n.day, n.views, n.views - coalesce(v.views, 0) AS views_more
	FROM unnest($1::uuid[], $2::date[], $3::bigint[]) AS n (archive_id, day, views)
		LEFT JOIN archive_views v ON v.archive_id = n.archive_id AND v.day = n.day
	WHERE n.archive_id = ANY ($4) AND n.views > coalesce(v.views, 0)
), kept AS (
	INSERT INTO archive_views AS v (archive_id, day, views) SELECT archive_id, day, views FROM more
	ON CONFLICT (archive_id, day) DO UPDATE SET views = EXCLUDED.views
)
UPDATE archives SET view_count = view_count + m.views_more
FROM (SELECT archive_id, sum(views_more)::bigint AS views_more FROM more GROUP BY archive_id) m WHERE id = m.archive_id`

	deleteOldViewsSQL = `-- name: archive_views.delete_old
DELETE FROM archive_views WHERE ctid = ANY (ARRAY(SELECT ctid FROM archive_views WHERE day < $1 ORDER BY day LIMIT $2 FOR UPDATE SKIP LOCKED))`
)

// Save stores how many watched archives on days, all in all: storing it again changes
// nothing, and neither does fewer than are stored. Archives that are gone are left
// out.
func (s *Views) Save(ctx context.Context, views []livestream.ArchiveViews) error {
	ids, days, counts := make([]uuid.UUID, len(views)), make([]time.Time, len(views)), make([]int64, len(views))
	for i, v := range views {
		ids[i], days[i], counts[i] = v.ArchiveID, v.Day, v.Views
	}
	err := s.db.inTx(ctx, func(tx querier) error {
		locked, err := scalars[uuid.UUID](ctx, tx, lockViewedSQL, ids)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, saveViewsSQL, ids, days, counts, locked)
		return err
	})
	return fail(ctx, "save views", err)
}

// DeleteOld forgets how many watched on days before a time, the oldest first and at
// most limit of them; see the workflow that does so.
func (s *Views) DeleteOld(ctx context.Context, before time.Time, limit int) (int64, error) {
	tag, err := s.db.primary.Exec(ctx, deleteOldViewsSQL, before, limit)
	return tag.RowsAffected(), fail(ctx, "delete old views", err)
}
