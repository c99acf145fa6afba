package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	makeMonthsSQL = `-- name: notifications.make_months
SELECT notifications_months($1, $2)`

	// The tables' names sort as their months do.
	oldMonthsSQL = `-- name: notifications.old_months
SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'notifications'::regclass AND c.relname < 'notifications_' || to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYY_MM')
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
	months, err := many[struct{ Relname string }](ctx, s.db.primary, oldMonthsSQL, before)
	if err != nil {
		return expired, fail(ctx, "list months of notifications", err)
	}
	for _, month := range months {
		// It waits for those who read an inbox, for the lock's timeout at most, and they
		// for it as long as it takes to forget a file.
		err := s.db.inTx(ctx, func(tx querier) error {
			_, err := tx.Exec(ctx, "DROP TABLE IF EXISTS "+pgx.Identifier{month.Relname}.Sanitize())
			return err
		})
		if err != nil {
			return expired, fail(ctx, "drop a month of notifications", err)
		}
	}
	return expired, nil
}
