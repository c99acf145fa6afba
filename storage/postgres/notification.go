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

// countOne takes one more notification into an inbox, i: its number, and the unread
// ones.
const countOne = `last_seq = i.last_seq + 1, unread = i.unread + 1`

const (
	// A key that is there already is refused by its index when an attempt at the same
	// moment wrote it, which takes the inbox's numbers back too.
	notifySQL = `-- name: notifications.notify
WITH numbered AS (
	INSERT INTO inboxes AS i (user_id, last_seq, unread)
	SELECT $1, 1, 1
	WHERE NOT EXISTS (SELECT FROM notifications WHERE user_id = $1 AND key = $2 AND created_at = $5)
		AND NOT EXISTS (SELECT FROM notification_settings WHERE user_id = $1 AND NOT CASE $3::text
			WHEN 'stream_live' THEN stream_live
			WHEN 'tip_received' THEN tip_received
			WHEN 'new_follower' THEN new_follower
			WHEN 'archive_ready' THEN archive_ready
		END)
		AND NOT EXISTS (SELECT FROM blocks WHERE user_id = $1 AND blocked_id = $6)
	ON CONFLICT (user_id) DO UPDATE SET ` + countOne + `
	RETURNING user_id, last_seq
)
INSERT INTO notifications (user_id, seq, key, type, data, created_at)
SELECT user_id, last_seq, $2, $3, $4, $5 FROM numbered
RETURNING ` + notificationColumns

	// LATERAL looks into each inbox by itself, from its number on.
	notificationsSinceSQL = `-- name: notifications.since
SELECT news.* FROM unnest($1::uuid[], $2::bigint[]) inbox (user_id, last) CROSS JOIN LATERAL (
	SELECT ` + notificationColumns + ` FROM notifications n
	WHERE n.user_id = inbox.user_id AND n.seq > inbox.last AND NOT n.silent ORDER BY n.seq LIMIT $3
) news ORDER BY news.seq`

	lastSeqSQL = `-- name: notifications.last_seq
SELECT coalesce((SELECT last_seq FROM inboxes WHERE user_id = $1), 0)`

	listNotificationsSQL = `-- name: notifications.list
SELECT ` + notificationColumns + ` FROM notifications
WHERE user_id = $1 AND (NOT $2::boolean OR NOT read) AND seq < $3
ORDER BY seq DESC LIMIT $4`

	unreadSQL = `-- name: notifications.unread
SELECT coalesce((SELECT unread FROM inboxes WHERE user_id = $1), 0)`

	// Whoever writes to an inbox has its row first, so that nobody waits in a circle.
	lockInboxSQL = `-- name: notifications.lock_inbox
SELECT FROM inboxes WHERE user_id = $1 FOR NO KEY UPDATE`

	markReadSQL = `-- name: notifications.mark_read
WITH marked AS (
	UPDATE notifications SET read = true WHERE user_id = $1 AND id = ANY ($2) AND NOT read RETURNING 1
)
UPDATE inboxes SET unread = unread - (SELECT count(*) FROM marked) WHERE user_id = $1`

	markAllReadSQL = `-- name: notifications.mark_all_read
WITH marked AS (
	UPDATE notifications SET read = true WHERE user_id = $1 AND NOT read RETURNING 1
)
UPDATE inboxes SET unread = unread - (SELECT count(*) FROM marked) WHERE user_id = $1`

	settingsSQL = `-- name: notification_settings.get
SELECT stream_live, tip_received, new_follower, archive_ready FROM notification_settings WHERE user_id = $1`

	setSettingsSQL = `-- name: notification_settings.set
INSERT INTO notification_settings (user_id, stream_live, tip_received, new_follower, archive_ready) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id) DO UPDATE SET stream_live = EXCLUDED.stream_live, tip_received = EXCLUDED.tip_received,
	new_follower = EXCLUDED.new_follower, archive_ready = EXCLUDED.archive_ready`
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

// Notify tells one member of what concerns them alone, once a key, and rings: the
// limit of an hour is for starts of streams. Of what they do not want, whom they have
// blocked or what they have already it gives a zero Notification and no error.
// CodeUserNotFound.
func (s *Notifications) Notify(ctx context.Context, notification livestream.NewNotification) (livestream.Notification, error) {
	row, err := notify(ctx, s.db.primary, notification)
	if duplicate(err) {
		return livestream.Notification{}, nil
	}
	return row.domain(), fail(ctx, "notify", err)
}

// notify is Notify within a transaction whose locks keep the same key from being
// written at the same moment.
func notify(ctx context.Context, q querier, n livestream.NewNotification) (notificationRow, error) {
	row, err := one[notificationRow](ctx, q, notifySQL, n.UserID, n.Key, n.Type, n.Data, n.At, n.From)
	if errors.Is(err, pgx.ErrNoRows) {
		return notificationRow{}, nil
	}
	return row, err
}

// Since gives what came into inboxes after the last seq of each and rang: by seq, at
// most limit of each inbox. What commits later has a higher seq than all of it.
func (s *Notifications) Since(ctx context.Context, last map[uuid.UUID]int64, limit int) ([]livestream.Notification, error) {
	users, seqs := make([]uuid.UUID, 0, len(last)), make([]int64, 0, len(last))
	for user, seq := range last {
		users, seqs = append(users, user), append(seqs, seq)
	}
	rows, err := many[notificationRow](ctx, s.db.primary, notificationsSinceSQL, users, seqs, limit)
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

// Unread gives how many of a member's notifications are unread. The number is kept,
// not counted.
func (s *Notifications) Unread(ctx context.Context, userID uuid.UUID) (int64, error) {
	unread, err := read(ctx, s.db, func(ctx context.Context, q querier) (int64, error) { return scalar[int64](ctx, q, unreadSQL, userID) })
	return unread, fail(ctx, "read unread count", err)
}

// MarkRead marks notifications of a member as read; ids that are not theirs are
// left alone.
func (s *Notifications) MarkRead(ctx context.Context, userID uuid.UUID, ids []uuid.UUID) error {
	return s.mark(ctx, markReadSQL, userID, ids)
}

// MarkAllRead marks a whole inbox as read.
func (s *Notifications) MarkAllRead(ctx context.Context, userID uuid.UUID) error {
	return s.mark(ctx, markAllReadSQL, userID)
}

func (s *Notifications) mark(ctx context.Context, sql string, userID uuid.UUID, args ...any) error {
	err := s.db.inTx(ctx, func(tx querier) error {
		if _, err := tx.Exec(ctx, lockInboxSQL, userID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql, append([]any{userID}, args...)...)
		return err
	})
	return fail(ctx, "mark notifications read", err)
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
