package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// audience is the followers whom a start is told to: those of before it.
//
// A workflow's clock and this server's, which dates follows, differ. The row of
// the stream is dated by the latter, and the later of the two is the fence: who
// followed before the stream was written is told, whatever the clocks say; who
// followed after Before may be told too when they did so within the difference.
// Neither time changes, so that each range and each attempt has the same fence.
//
// IS TRUE keeps the fence a filter. As a condition it would lead the planner to
// the index of the followers' list, which reads all followers for each range.
const audience = `FROM follows f
	WHERE f.following_id = $1 AND (f.followed_at <= greatest($2, (SELECT created_at FROM streams WHERE id = $3))) IS TRUE`

const (
	followerCountSQL = `-- name: follow_counts.followers
SELECT coalesce((SELECT followers FROM follow_counts WHERE user_id = $1), 0)`

	planRangesSQL = `-- name: notifications.plan_ranges
SELECT follower_id AS upto, (n - 1) % $5::bigint + 1 AS count FROM (
	SELECT follower_id, row_number() OVER (ORDER BY follower_id) AS n, count(*) OVER () AS total FROM (
		SELECT f.follower_id ` + audience + ` AND f.follower_id > $4
		ORDER BY f.follower_id LIMIT $5::bigint * $6::bigint
	) next
) numbered
WHERE n % $5::bigint = 0 OR n = total ORDER BY n`

	followersInSQL = `-- name: follows.in_range
SELECT follower_id FROM follows WHERE following_id = $1 AND follower_id > $2 AND follower_id <= $3 ORDER BY follower_id LIMIT $4`

	// All that decides about a follower is looked up by key, where a join might read
	// all settings or all notifications. The rows of inboxes are taken in the order of
	// their keys, so that fan-outs with followers in common do not wait for one
	// another in a circle.
	//
	// earlier is the creator's streams of which a notice may be less than a pause old:
	// those that began since, and the one before. Most starts have none, and look
	// nobody up. Others look through the months from the first of these streams on: a
	// notice is dated as its stream, by another clock, which a pause allows for; its id
	// says when it was written. Each stream is a look for each follower, and so those of
	// a creator who begins one after the other are not gone through: nobody is told.
	//
	// A follower whom an attempt at the same moment tells is refused by the index, and
	// with them the statement: the inboxes' numbers stay right.
	notifyRangeSQL = `-- name: notifications.notify_range
WITH about AS MATERIALIZED (
	SELECT jsonb_build_object('stream_id', $3::uuid, 'user_id', u.id, 'username', u.username, 'title', $7::text) AS data
	FROM users u JOIN streams s ON s.id = $3 WHERE u.id = $1 AND s.status IN ('starting', 'live', 'reconnecting')
), earlier AS MATERIALIZED (
	SELECT array_agg('stream_live:' || id) AS keys, min(started_at) - $9::interval AS since FROM (
		(SELECT id, started_at FROM streams WHERE user_id = $1 AND started_at >= $2::timestamptz - $9::interval AND started_at <= $2 AND id <> $3 LIMIT $11::bigint + 1)
		UNION ALL
		(SELECT id, started_at FROM streams WHERE user_id = $1 AND started_at < $2::timestamptz - $9::interval AND id <> $3 ORDER BY started_at DESC LIMIT 1)
	) s WHERE EXISTS (SELECT FROM streams e WHERE e.id = s.id AND coalesce(e.ended_at, 'infinity') >= $2::timestamptz - $9::interval)
), followers AS MATERIALIZED (
	SELECT f.follower_id AS user_id,
		EXISTS (SELECT FROM notifications n WHERE n.user_id = f.follower_id AND n.key = $6 AND n.created_at = $2) AS told,
		coalesce((SELECT s.stream_live FROM notification_settings s WHERE s.user_id = f.follower_id), true)
			AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = f.follower_id AND b.blocked_id = $1)
			AND ((SELECT keys FROM earlier) IS NULL OR cardinality((SELECT keys FROM earlier)) <= $11 AND NOT EXISTS (
				SELECT FROM notifications n WHERE n.user_id = f.follower_id AND n.key = ANY ((SELECT keys FROM earlier)::text[]) AND n.id >= $10
					AND n.created_at >= (SELECT since FROM earlier) AND n.created_at < $2::timestamptz + $9::interval))
			AS wanted
	` + audience + ` AND f.follower_id > $4 AND f.follower_id <= $5 AND EXISTS (SELECT FROM about)
), numbered AS (
	INSERT INTO inboxes AS i (user_id, last_seq, unread, rung, rung_since)
	SELECT user_id, 1, 1, 1, now() FROM followers WHERE wanted AND NOT told ORDER BY user_id
	ON CONFLICT (user_id) DO UPDATE SET ` + countOne + `,
		rung = CASE WHEN i.rung_since <= now() - interval '1 hour' THEN 1 ELSE i.rung + 1 END,
		rung_since = CASE WHEN i.rung_since <= now() - interval '1 hour' THEN now() ELSE i.rung_since END
	RETURNING user_id, last_seq, rung
), written AS (
	INSERT INTO notifications (user_id, seq, key, type, data, created_at, silent)
	SELECT n.user_id, n.last_seq, $6, 'stream_live', a.data, $2, n.rung > $8 FROM numbered n CROSS JOIN about a
)
SELECT count(*) FILTER (WHERE wanted OR told) AS notified, count(*) FILTER (WHERE NOT (wanted OR told)) AS skipped,
	NOT EXISTS (SELECT FROM about) AS ended
FROM followers`

	// What is behind the row is an attempt that comes late, and is left out.
	saveProgressSQL = `-- name: notification_progress.save
INSERT INTO notification_progress AS p (stream_id, status, followers_total, notified, skipped, failed, rate, started_at, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (stream_id) DO UPDATE SET status = EXCLUDED.status, followers_total = EXCLUDED.followers_total, notified = EXCLUDED.notified,
	skipped = EXCLUDED.skipped, failed = EXCLUDED.failed, rate = EXCLUDED.rate, started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at
WHERE (coalesce(EXCLUDED.started_at, '-infinity'), EXCLUDED.finished_at IS NOT NULL, EXCLUDED.notified + EXCLUDED.skipped)
	>= (coalesce(p.started_at, '-infinity'), p.finished_at IS NOT NULL, p.notified + p.skipped)`

	progressSQL = `-- name: notification_progress.get
SELECT status, followers_total, notified, skipped, failed, rate, started_at, finished_at FROM notification_progress WHERE stream_id = $1`
)

type rangeRow struct {
	Upto  uuid.UUID
	Count int64
}

// creatorLock is the number of a lock that a creator's ranges share, from before they
// look whether their stream is over until their commit. A fan-out that begins has it
// alone for a moment: what an earlier stream's ranges were writing when that ended is
// there then, no more comes, and whom they told is not rung again.
func creatorLock(id uuid.UUID) int64 {
	return int64(binary.BigEndian.Uint64(id[8:])) // the part that chance makes
}

// Open begins a fan-out, and gives how many follow its creator. It waits for the ranges
// that the creator's earlier fan-outs are writing; CodeUnavailable when that takes
// longer than a lock may. The number is kept, not counted.
func (s *Notifications) Open(ctx context.Context, creator uuid.UUID) (int64, error) {
	var count int64
	err := s.db.inTxWith(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", creatorLock(creator)), func(tx querier) (err error) {
		count, err = scalar[int64](ctx, tx, followerCountSQL, creator)
		return err
	})
	return count, fail(ctx, "open a fan-out", err)
}

// PlanRanges gives the next ranges of the audience by key, of size followers each
// and at most limit of them; none at the end. It reads keys alone.
func (s *Notifications) PlanRanges(ctx context.Context, live livestream.GoLive, after uuid.UUID, size, limit int) ([]livestream.FollowerRange, error) {
	rows, err := many[rangeRow](ctx, s.db.primary, planRangesSQL, live.CreatorID, live.Before, live.StreamID, after, size, limit)
	if err != nil {
		return nil, fail(ctx, "plan ranges", err)
	}
	return all(rows, func(r rangeRow) livestream.FollowerRange {
		next := livestream.FollowerRange{After: after, Upto: r.Upto, Count: r.Count}
		after = r.Upto
		return next
	}), nil
}

// FollowersIn gives who follows a creator now and lies in a range, at most limit of
// them.
func (s *Notifications) FollowersIn(ctx context.Context, creator uuid.UUID, r livestream.FollowerRange, limit int) ([]uuid.UUID, error) {
	followers, err := scalars[uuid.UUID](ctx, s.db.primary, followersInSQL, creator, r.After, r.Upto, limit)
	return followers, fail(ctx, "read followers in a range", err)
}

// NotifyRange tells the followers in a range, in one statement. A retry gives the
// same, and tells nobody twice. Of a stream that is over it tells nobody.
func (s *Notifications) NotifyRange(ctx context.Context, live livestream.GoLive, r livestream.FollowerRange) (livestream.RangeResult, error) {
	for {
		var result livestream.RangeResult
		err := s.db.inTxWith(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock_shared(%d)", creatorLock(live.CreatorID)), func(tx querier) (err error) {
			result, err = one[livestream.RangeResult](ctx, tx, notifyRangeSQL, live.CreatorID, live.Before, live.StreamID, r.After, r.Upto,
				livestream.StreamLiveKey(live.StreamID), live.Title, livestream.RingsPerHour, livestream.GoLivePause, idAt(live.Before.Add(-livestream.GoLivePause)),
				livestream.GoLiveStreams)
			return err
		})
		if duplicate(err) {
			continue // the other attempt has committed, and this one sees it now
		}
		return result, fail(ctx, "notify range", err)
	}
}

// idAt is the first id that is made at a time.
func idAt(t time.Time) uuid.UUID {
	var id uuid.UUID
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

// SaveProgress keeps how far a fan-out is; what is behind what was kept of the
// same fan-out is left out. CodeStreamNotFound.
func (s *Notifications) SaveProgress(ctx context.Context, streamID uuid.UUID, p livestream.NotifyProgress) error {
	_, err := s.db.primary.Exec(ctx, saveProgressSQL, streamID, p.Status, p.FollowersTotal, p.Notified, p.Skipped, p.Failed, p.Rate, p.StartedAt, p.FinishedAt)
	return fail(ctx, "save fan-out progress", err)
}

// Progress gives how far a fan-out is; one that has not begun is pending.
func (s *Notifications) Progress(ctx context.Context, streamID uuid.UUID) (livestream.NotifyProgress, error) {
	progress, err := readOne[livestream.NotifyProgress](ctx, s.db, progressSQL, streamID)
	if errors.Is(err, pgx.ErrNoRows) {
		return livestream.NotifyProgress{Status: livestream.NotifyPending}, nil
	}
	return progress, fail(ctx, "read fan-out progress", err)
}
