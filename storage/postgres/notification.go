package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Notifications keeps members' inboxes, and how far the fan-outs that fill them
// are.
type Notifications struct{ db *DB }

// NewNotifications keeps inboxes in db.
func NewNotifications(db *DB) *Notifications { return &Notifications{db: db} }

const notificationColumns = `id, seq, user_id, type, read, created_at, data`

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
	countAudienceSQL = `-- name: notifications.count_audience
SELECT count(*) ` + audience

	planRangesSQL = `-- name: notifications.plan_ranges
SELECT follower_id AS upto, (n - 1) % $5::bigint + 1 AS count FROM (
	SELECT follower_id, row_number() OVER (ORDER BY follower_id) AS n, count(*) OVER () AS total FROM (
		SELECT f.follower_id ` + audience + ` AND f.follower_id > $4
		ORDER BY f.follower_id LIMIT $5::bigint * $6::bigint
	) next
) numbered
WHERE n % $5::bigint = 0 OR n = total ORDER BY n`

	// Sub-selects look each follower up by key, where a join might read all
	// settings or all notifications. The rows of inboxes are taken in the order of
	// their keys, so that fan-outs with followers in common do not wait for one
	// another in a circle.
	notifyRangeSQL = `-- name: notifications.notify_range
WITH audience AS (
	SELECT f.follower_id AS user_id ` + audience + ` AND f.follower_id > $4 AND f.follower_id <= $5
		AND coalesce((SELECT s.stream_live FROM notification_settings s WHERE s.user_id = f.follower_id), true)
), numbered AS (
	INSERT INTO inboxes AS i (user_id, last_seq)
	SELECT a.user_id, 1 FROM audience a
	WHERE (SELECT n.id FROM notifications n WHERE n.user_id = a.user_id AND n.key = $6) IS NULL
	ORDER BY a.user_id
	ON CONFLICT (user_id) DO UPDATE SET last_seq = i.last_seq + 1
	RETURNING user_id, last_seq
), told AS (
	INSERT INTO notifications (user_id, seq, key, type, data)
	SELECT n.user_id, n.last_seq, $6, 'stream_live',
		jsonb_build_object('stream_id', $3::uuid, 'user_id', u.id, 'username', u.username, 'title', $7::text)
	FROM numbered n CROSS JOIN users u WHERE u.id = $1
	ON CONFLICT (user_id, key) DO NOTHING
)
SELECT count(*) FROM audience`

	notifySQL = `-- name: notifications.notify
WITH numbered AS (
	INSERT INTO inboxes AS i (user_id, last_seq)
	SELECT $1, 1
	WHERE NOT EXISTS (SELECT FROM notifications WHERE user_id = $1 AND key = $2)
		AND NOT EXISTS (SELECT FROM notification_settings WHERE user_id = $1 AND NOT CASE $3::text
			WHEN 'stream_live' THEN stream_live
			WHEN 'tip_received' THEN tip_received
			WHEN 'new_follower' THEN new_follower
			WHEN 'archive_ready' THEN archive_ready
		END)
	ON CONFLICT (user_id) DO UPDATE SET last_seq = i.last_seq + 1
	RETURNING user_id, last_seq
)
INSERT INTO notifications (user_id, seq, key, type, data)
SELECT user_id, last_seq, $2, $3, $4 FROM numbered
ON CONFLICT (user_id, key) DO NOTHING
RETURNING ` + notificationColumns

	notificationsForSQL = `-- name: notifications.for_recipients
SELECT ` + notificationColumns + ` FROM notifications WHERE user_id = ANY ($1) AND key = $2`

	notificationsSinceSQL = `-- name: notifications.since
SELECT ` + notificationColumns + ` FROM notifications WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`

	lastSeqSQL = `-- name: notifications.last_seq
SELECT coalesce((SELECT last_seq FROM inboxes WHERE user_id = $1), 0)`

	listNotificationsSQL = `-- name: notifications.list
SELECT ` + notificationColumns + ` FROM notifications
WHERE user_id = $1 AND (NOT $2::boolean OR NOT read) AND seq < $3
ORDER BY seq DESC LIMIT $4`

	markReadSQL = `-- name: notifications.mark_read
UPDATE notifications SET read = true WHERE user_id = $1 AND id = ANY ($2) AND NOT read`

	markAllReadSQL = `-- name: notifications.mark_all_read
UPDATE notifications SET read = true WHERE user_id = $1 AND NOT read`

	settingsSQL = `-- name: notification_settings.get
SELECT stream_live, tip_received, new_follower, archive_ready FROM notification_settings WHERE user_id = $1`

	setSettingsSQL = `-- name: notification_settings.set
INSERT INTO notification_settings (user_id, stream_live, tip_received, new_follower, archive_ready) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id) DO UPDATE SET stream_live = EXCLUDED.stream_live, tip_received = EXCLUDED.tip_received,
	new_follower = EXCLUDED.new_follower, archive_ready = EXCLUDED.archive_ready`

	// What is behind the row is an attempt that comes late, and is left out.
	saveProgressSQL = `-- name: notification_progress.save
INSERT INTO notification_progress AS p (stream_id, status, followers_total, notified, failed, started_at, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (stream_id) DO UPDATE SET status = EXCLUDED.status, followers_total = EXCLUDED.followers_total, notified = EXCLUDED.notified,
	failed = EXCLUDED.failed, started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at
WHERE (coalesce(EXCLUDED.started_at, '-infinity'), EXCLUDED.finished_at IS NOT NULL, EXCLUDED.notified + EXCLUDED.failed)
	>= (coalesce(p.started_at, '-infinity'), p.finished_at IS NOT NULL, p.notified + p.failed)`

	progressSQL = `-- name: notification_progress.get
SELECT status, followers_total, notified, failed, started_at, finished_at FROM notification_progress WHERE stream_id = $1`
)

type notificationRow struct {
	ID        uuid.UUID
	Seq       int64
	UserID    uuid.UUID
	Type      livestream.NotificationType
	Read      bool
	CreatedAt time.Time
	Data      json.RawMessage
}

func (r notificationRow) domain() livestream.Notification { return livestream.Notification(r) }

type rangeRow struct {
	Upto  uuid.UUID
	Count int64
}

// CountAudience counts the followers that a fan-out goes through. Those who do
// not want to be told are among them.
func (s *Notifications) CountAudience(ctx context.Context, live livestream.GoLive) (int64, error) {
	count, err := scalar[int64](ctx, s.db.primary, countAudienceSQL, live.CreatorID, live.Before, live.StreamID)
	return count, fail(ctx, "count audience", err)
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

// NotifyRange tells the followers in a range, in one statement, and gives how
// many of them have been told now: the same after a retry, which tells nobody
// twice.
func (s *Notifications) NotifyRange(ctx context.Context, live livestream.GoLive, r livestream.FollowerRange) (int64, error) {
	var told int64
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		told, err = scalar[int64](ctx, tx, notifyRangeSQL, live.CreatorID, live.Before, live.StreamID, r.After, r.Upto,
			livestream.StreamLiveKey(live.StreamID), live.Title)
		return err
	})
	return told, fail(ctx, "notify range", err)
}

// Notify tells one member, once a key. Of what they do not want or have already
// it gives a zero Notification and no error. CodeUserNotFound.
func (s *Notifications) Notify(ctx context.Context, notification livestream.NewNotification) (livestream.Notification, error) {
	row, err := notify(ctx, s.db.primary, notification)
	return row.domain(), fail(ctx, "notify", err)
}

func notify(ctx context.Context, q querier, n livestream.NewNotification) (notificationRow, error) {
	row, err := one[notificationRow](ctx, q, notifySQL, n.UserID, n.Key, n.Type, n.Data)
	if errors.Is(err, pgx.ErrNoRows) {
		return notificationRow{}, nil
	}
	return row, err
}

// ForRecipients gives each user's notification with a key, of those who have one.
func (s *Notifications) ForRecipients(ctx context.Context, key string, userIDs []uuid.UUID) ([]livestream.Notification, error) {
	rows, err := many[notificationRow](ctx, s.db.primary, notificationsForSQL, userIDs, key)
	return all(rows, notificationRow.domain), fail(ctx, "read recipients' notifications", err)
}

// Since gives what came into an inbox after seq, oldest first, at most limit.
func (s *Notifications) Since(ctx context.Context, userID uuid.UUID, seq int64, limit int) ([]livestream.Notification, error) {
	rows, err := many[notificationRow](ctx, s.db.primary, notificationsSinceSQL, userID, seq, limit)
	return all(rows, notificationRow.domain), fail(ctx, "read notifications", err)
}

// LastSeq gives the seq of an inbox's newest notification; 0 when it is empty.
func (s *Notifications) LastSeq(ctx context.Context, userID uuid.UUID) (int64, error) {
	seq, err := scalar[int64](ctx, s.db.primary, lastSeqSQL, userID)
	return seq, fail(ctx, "read last notification", err)
}

// List lists an inbox, newest first.
func (s *Notifications) List(ctx context.Context, userID uuid.UUID, unreadOnly bool, page livestream.Page) (livestream.List[livestream.Notification], error) {
	limit := limitOf(page)
	seq, _ := beforeNumber(page)
	rows, err := readMany[notificationRow](ctx, s.db, listNotificationsSQL, userID, unreadOnly, seq, limit+1)
	if err != nil {
		return livestream.List[livestream.Notification]{}, fail(ctx, "list notifications", err)
	}
	return listOf(rows, limit, notificationRow.domain, func(r notificationRow) livestream.Cursor {
		return livestream.Cursor{Number: r.Seq}
	}), nil
}

// MarkRead marks notifications of a member as read; ids that are not theirs are
// left alone.
func (s *Notifications) MarkRead(ctx context.Context, userID uuid.UUID, ids []uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, markReadSQL, userID, ids)
	return fail(ctx, "mark notifications read", err)
}

// MarkAllRead marks a whole inbox as read.
func (s *Notifications) MarkAllRead(ctx context.Context, userID uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, markAllReadSQL, userID)
	return fail(ctx, "mark inbox read", err)
}

// Settings gives what a member wants to be told of: everything at first.
func (s *Notifications) Settings(ctx context.Context, userID uuid.UUID) (livestream.NotificationSettings, error) {
	settings, err := one[livestream.NotificationSettings](ctx, s.db.primary, settingsSQL, userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return livestream.NotificationSettings{StreamLive: true, TipReceived: true, NewFollower: true, ArchiveReady: true}, nil
	}
	return settings, fail(ctx, "read notification settings", err)
}

// SetSettings changes what a member wants to be told of; CodeUserNotFound.
func (s *Notifications) SetSettings(ctx context.Context, userID uuid.UUID, settings livestream.NotificationSettings) error {
	_, err := s.db.primary.Exec(ctx, setSettingsSQL, userID, settings.StreamLive, settings.TipReceived, settings.NewFollower, settings.ArchiveReady)
	return fail(ctx, "set notification settings", err)
}

// SaveProgress keeps how far a fan-out is; what is behind what was kept of the
// same fan-out is left out. CodeStreamNotFound.
func (s *Notifications) SaveProgress(ctx context.Context, streamID uuid.UUID, p livestream.NotifyProgress) error {
	_, err := s.db.primary.Exec(ctx, saveProgressSQL, streamID, p.Status, p.FollowersTotal, p.Notified, p.Failed, p.StartedAt, p.FinishedAt)
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
