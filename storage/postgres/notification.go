package postgres

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Notifications are the members' inboxes and the fan-outs that fill them.
type Notifications struct{ db *DB }

// NewNotifications are the inboxes of a database.
func NewNotifications(db *DB) *Notifications { return &Notifications{db} }

const notificationColumns = `id, seq, user_id, type, read, created_at, data`

func scanNotification(row pgx.CollectableRow) (livestream.Notification, error) {
	var (
		n    livestream.Notification
		data []byte
	)
	err := row.Scan(&n.ID, &n.Seq, &n.UserID, &n.Type, &n.Read, &n.CreatedAt, &data)
	n.Data = json.RawMessage(data)
	return n, err
}

const countAudience = `-- name: notification.count_audience
SELECT count(*) FROM follows WHERE following_id = $1 AND followed_at <= $2`

// CountAudience counts the followers who are to be told of a stream.
func (s *Notifications) CountAudience(ctx context.Context, live livestream.GoLive) (int64, error) {
	var count int64
	err := s.db.primary.QueryRow(ctx, countAudience, live.CreatorID, live.Before).Scan(&count)
	return count, edge("count audience", err)
}

const planRanges = `-- name: notification.plan_ranges
SELECT (array_agg(follower_id ORDER BY follower_id DESC))[1], count(*) FROM (
    SELECT follower_id, (row_number() OVER (ORDER BY follower_id) - 1) / $3::bigint AS range
    FROM (SELECT follower_id FROM follows WHERE following_id = $1 AND follower_id > $2 ORDER BY follower_id LIMIT $3::bigint * $4::bigint) AS next
) AS numbered GROUP BY range ORDER BY range`

// PlanRanges gives the next ranges of a creator's followers by key, size
// followers each and at most limit ranges; none at the end.
func (s *Notifications) PlanRanges(ctx context.Context, live livestream.GoLive, after uuid.UUID, size, limit int) ([]livestream.FollowerRange, error) {
	previous := after
	ranges, err := all(ctx, s.db.primary, func(row pgx.CollectableRow) (livestream.FollowerRange, error) {
		r := livestream.FollowerRange{After: previous}
		err := row.Scan(&r.Upto, &r.Count)
		previous = r.Upto
		return r, err
	}, planRanges, live.CreatorID, after, size, limit)
	return ranges, edge("plan ranges", err)
}

const notifyRange = `-- name: notification.notify_range
WITH audience AS (
    SELECT f.follower_id FROM follows f LEFT JOIN notification_settings n ON n.user_id = f.follower_id
    WHERE f.following_id = $1 AND f.follower_id > $2 AND f.follower_id <= $3 AND f.followed_at <= $4 AND coalesce(n.stream_live, true)
), told AS (
    INSERT INTO notifications (id, user_id, key, type, data)
    SELECT uuid_v7(), a.follower_id, $5, 'stream_live',
           jsonb_build_object('stream_id', $6::text, 'user_id', $1::text, 'username', u.username, 'title', $7::text)
    FROM audience a CROSS JOIN (SELECT username FROM users WHERE id = $1) u
    ON CONFLICT ON CONSTRAINT notifications_key DO NOTHING
)
SELECT count(*) FROM audience`

// NotifyRange writes the notifications of one range of followers, in one
// statement, and gives how many of them have it now: the same after a retry.
func (s *Notifications) NotifyRange(ctx context.Context, live livestream.GoLive, r livestream.FollowerRange) (int64, error) {
	var count int64
	err := s.db.primary.QueryRow(ctx, notifyRange, live.CreatorID, r.After, r.Upto, live.Before,
		livestream.StreamLiveKey(live.StreamID), live.StreamID.String(), live.Title).Scan(&count)
	return count, edge("notify range", err)
}

const notify = `-- name: notification.notify
INSERT INTO notifications (id, user_id, key, type, data)
SELECT uuid_v7(), $1, $2, $3, $4 WHERE NOT EXISTS (
    SELECT 1 FROM notification_settings WHERE user_id = $1 AND NOT CASE $3
        WHEN 'stream_live' THEN stream_live WHEN 'tip_received' THEN tip_received
        WHEN 'new_follower' THEN new_follower ELSE archive_ready END)
ON CONFLICT ON CONSTRAINT notifications_key DO NOTHING
RETURNING ` + notificationColumns

// Notify tells one member, once a key. What the member does not want or has
// already is a zero Notification and no error.
func (s *Notifications) Notify(ctx context.Context, n livestream.NewNotification) (livestream.Notification, error) {
	made, err := notifyOne(ctx, s.db.primary, n)
	return made, edge("notify", err)
}

func notifyOne(ctx context.Context, q querier, n livestream.NewNotification) (livestream.Notification, error) {
	made, err := one(ctx, q, scanNotification, notify, n.UserID, n.Key, string(n.Type), n.Data)
	if errors.Is(err, pgx.ErrNoRows) {
		return livestream.Notification{}, nil
	}
	return made, err
}

const notificationsFor = `-- name: notification.for_recipients
SELECT ` + notificationColumns + ` FROM notifications WHERE key = $1 AND user_id = ANY($2)`

// ForRecipients reads the notification of that key of each of the users.
func (s *Notifications) ForRecipients(ctx context.Context, key string, userIDs []uuid.UUID) ([]livestream.Notification, error) {
	rows, err := all(ctx, s.db.primary, scanNotification, notificationsFor, key, userIDs)
	return rows, edge("notifications for recipients", err)
}

const notificationsSince = `-- name: notification.since
SELECT ` + notificationColumns + ` FROM notifications WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`

// Since reads what came into an inbox after seq, the oldest first.
func (s *Notifications) Since(ctx context.Context, userID uuid.UUID, seq int64, limit int) ([]livestream.Notification, error) {
	rows, err := all(ctx, s.db.primary, scanNotification, notificationsSince, userID, seq, limit)
	return rows, edge("notifications since", err)
}

const lastNotification = `-- name: notification.last_seq
SELECT seq FROM notifications WHERE user_id = $1 ORDER BY seq DESC LIMIT 1`

// LastSeq is the seq of an inbox's newest entry, 0 when it is empty.
func (s *Notifications) LastSeq(ctx context.Context, userID uuid.UUID) (int64, error) {
	var seq int64
	err := s.db.primary.QueryRow(ctx, lastNotification, userID).Scan(&seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return seq, edge("last notification", err)
}

// List reads an inbox, the newest first.
func (s *Notifications) List(ctx context.Context, userID uuid.UUID, unreadOnly bool, page livestream.Page) (livestream.List[livestream.Notification], error) {
	var q query
	q.where("user_id = %s", userID)
	if unreadOnly {
		q.where("NOT read")
	}
	if page.After != nil {
		q.where("seq < %s", page.After.Number)
	}
	sql := q.sql("-- name: notification.list\nSELECT "+notificationColumns+" FROM notifications", "seq DESC", fetchLimit(page))
	rows, err := all(ctx, s.db.primary, scanNotification, sql, q.args...)
	return listOf(rows, page, func(n livestream.Notification) livestream.Cursor {
		return livestream.Cursor{Number: n.Seq}
	}), edge("list notifications", err)
}

const markRead = `-- name: notification.mark_read
UPDATE notifications SET read = true WHERE user_id = $1 AND id = ANY($2) AND NOT read`

// MarkRead marks some of a member's notifications as read; foreign ids are
// ignored.
func (s *Notifications) MarkRead(ctx context.Context, userID uuid.UUID, ids []uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, markRead, userID, ids)
	return edge("mark read", err)
}

const markAllRead = `-- name: notification.mark_all_read
UPDATE notifications SET read = true WHERE user_id = $1 AND NOT read`

// MarkAllRead marks a whole inbox as read.
func (s *Notifications) MarkAllRead(ctx context.Context, userID uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, markAllRead, userID)
	return edge("mark all read", err)
}

const notificationSettings = `-- name: notification_settings.get
SELECT stream_live, tip_received, new_follower, archive_ready FROM notification_settings WHERE user_id = $1`

// Settings reads what a member wants to be told of: everything at first.
func (s *Notifications) Settings(ctx context.Context, userID uuid.UUID) (livestream.NotificationSettings, error) {
	var n livestream.NotificationSettings
	err := s.db.primary.QueryRow(ctx, notificationSettings, userID).Scan(&n.StreamLive, &n.TipReceived, &n.NewFollower, &n.ArchiveReady)
	if errors.Is(err, pgx.ErrNoRows) {
		return livestream.NotificationSettings{StreamLive: true, TipReceived: true, NewFollower: true, ArchiveReady: true}, nil
	}
	return n, edge("notification settings", err)
}

const setNotificationSettings = `-- name: notification_settings.set
INSERT INTO notification_settings (user_id, stream_live, tip_received, new_follower, archive_ready) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id) DO UPDATE SET stream_live = $2, tip_received = $3, new_follower = $4, archive_ready = $5`

// SetSettings changes what a member wants to be told of.
func (s *Notifications) SetSettings(ctx context.Context, userID uuid.UUID, n livestream.NotificationSettings) error {
	_, err := s.db.primary.Exec(ctx, setNotificationSettings, userID, n.StreamLive, n.TipReceived, n.NewFollower, n.ArchiveReady)
	return edge("set notification settings", err)
}

const saveNotifyProgress = `-- name: notification_progress.save
INSERT INTO notification_progress (stream_id, status, followers_total, notified, failed, started_at, finished_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (stream_id) DO UPDATE SET status = $2, followers_total = $3, notified = $4, failed = $5, started_at = $6, finished_at = $7`

// SaveProgress keeps how far a fan-out is.
func (s *Notifications) SaveProgress(ctx context.Context, streamID uuid.UUID, p livestream.NotifyProgress) error {
	_, err := s.db.primary.Exec(ctx, saveNotifyProgress, streamID, p.Status, p.FollowersTotal, p.Notified, p.Failed, p.StartedAt, p.FinishedAt)
	return edge("save progress", err)
}

const notifyProgress = `-- name: notification_progress.get
SELECT status, followers_total, notified, failed, started_at, finished_at FROM notification_progress WHERE stream_id = $1`

// Progress reads how far a fan-out is; one that has not begun is pending.
func (s *Notifications) Progress(ctx context.Context, streamID uuid.UUID) (livestream.NotifyProgress, error) {
	var p livestream.NotifyProgress
	err := s.db.primary.QueryRow(ctx, notifyProgress, streamID).Scan(&p.Status, &p.FollowersTotal, &p.Notified, &p.Failed, &p.StartedAt, &p.FinishedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return livestream.NotifyProgress{Status: livestream.NotifyPending}, nil
	}
	return p, edge("progress", err)
}
