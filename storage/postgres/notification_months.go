package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	makeMonthsSQL = `-- name: notifications.make_months
SELECT notifications_months($1, $2)`

	// The tables' names sort as their months do. A call that was cut off leaves one behind
	// that is detached in part, or wholly.
	oldMonthsSQL = `-- name: notifications.old_months
SELECT c.relname::text AS name, i.inhrelid IS NOT NULL AS attached, coalesce(i.inhdetachpending, false) AS pending
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid) AND c.relname ~ '^notifications_[0-9]{4}_[0-9]{2}$'
	AND c.relname < 'notifications_' || to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYY_MM')
ORDER BY c.relname`

	// A batch of what is old and unread becomes read, with the counts of its inboxes.
	expireSQL = `-- name: notifications.expire
WITH old AS (
	SELECT id, user_id, created_at FROM notifications WHERE created_at < date_trunc('month', $1::timestamptz, 'UTC') AND NOT read
	ORDER BY user_id, seq LIMIT $2
), boxes AS MATERIALIZED (
	SELECT user_id FROM inboxes WHERE user_id IN (SELECT user_id FROM old) ORDER BY user_id FOR NO KEY UPDATE
), marked AS (
	UPDATE notifications n SET read = true FROM old WHERE n.id = old.id AND n.created_at = old.created_at AND NOT n.read
		AND (SELECT count(*) FROM boxes) > 0
	RETURNING n.user_id
), counts AS (
	UPDATE inboxes i SET unread = i.unread - m.n
	FROM (SELECT user_id, count(*) AS n FROM marked GROUP BY user_id) m WHERE m.user_id = i.user_id
)
SELECT count(*) FROM old`
)

// MakeMonths makes the tables that notifications of a time from now on go to, those
// that are not there yet.
func (s *Notifications) MakeMonths(ctx context.Context, now, until time.Time) (int64, error) {
	var made int64
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		made, err = scalar[int64](ctx, tx, makeMonthsSQL, now, until)
		return err
	})
	return made, fail(ctx, "make months of notifications", err)
}

// DeleteOld forgets the months that ended before a time. First their unread
// notifications are marked as read, at most limit at a call, so that inboxes' counts
// stay right; once there are none, the tables are dropped. It gives how many
// notifications were marked: fewer than limit when it is done.
func (s *Notifications) DeleteOld(ctx context.Context, before time.Time, limit int) (int64, error) {
	var expired int64
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		expired, err = scalar[int64](ctx, tx, expireSQL, before, limit)
		return err
	})
	if err != nil || expired == int64(limit) {
		return expired, fail(ctx, "expire notifications", err)
	}
	return expired, fail(ctx, "drop months of notifications", s.dropMonths(ctx, before))
}

type monthRow struct {
	Name              string
	Attached, Pending bool
}

// dropMonths detaches months before it drops them. To drop one that is attached would
// take all notifications from everybody, after a wait for those who read them, behind
// which everybody else would wait too; one that is detached, nobody looks for.
//
// One call at a time does so, and another leaves it to that one, at once: who waited
// would keep a connection from it. The transaction that holds the lock, one for each
// month, asks nothing itself: a query would leave it with a snapshot, which a detachment
// waits for.
func (s *Notifications) dropMonths(ctx context.Context, before time.Time) error {
	const lock = "SET LOCAL lock_timeout = 1; SELECT pg_advisory_xact_lock(hashtextextended('notifications.months', 0)); SET LOCAL lock_timeout TO DEFAULT"
	for more, mine := true, false; more; {
		err := s.db.inTxWith(ctx, lock, func(tx querier) error {
			mine = true
			months, err := many[monthRow](ctx, s.db.primary, oldMonthsSQL, before)
			if more = len(months) > 0; err != nil || !more {
				return err
			}
			if err := s.detach(ctx, months[0]); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "DROP TABLE "+pgx.Identifier{months[0].Name}.Sanitize())
			return err
		})
		if !mine && lockTimeout(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// detach waits for those who read notifications as they were, and nobody waits for it.
// When that takes longer than a statement may, the next call goes on with it. It is a
// transaction, and in fact two, of its own. A default partition would rule it out, and
// there is none.
func (s *Notifications) detach(ctx context.Context, month monthRow) error {
	if !month.Attached {
		return nil
	}
	how := "CONCURRENTLY"
	if month.Pending {
		how = "FINALIZE"
	}
	_, err := s.db.primary.Exec(ctx, "ALTER TABLE notifications DETACH PARTITION "+pgx.Identifier{month.Name}.Sanitize()+" "+how)
	return err
}
