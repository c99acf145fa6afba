package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Follows keeps who follows whom.
type Follows struct{ db *DB }

// NewFollows keeps follows in db.
func NewFollows(db *DB) *Follows { return &Follows{db: db} }

// Counts change in the statement that changes follows, so that the two cannot
// differ. The rows are taken in the order of their keys, so that two members who
// follow each other at once do not wait for one another.
const (
	followSQL = `-- name: follows.follow
WITH created AS (
	INSERT INTO follows (follower_id, following_id) VALUES ($1, $2)
	ON CONFLICT (follower_id, following_id) DO NOTHING
	RETURNING follower_id, following_id
), counted AS (
	INSERT INTO follow_counts (user_id, followers, following)
	SELECT user_id, followers, following FROM (
		SELECT following_id AS user_id, 1 AS followers, 0 AS following FROM created
		UNION ALL
		SELECT follower_id, 0, 1 FROM created
	) change ORDER BY user_id
	ON CONFLICT (user_id) DO UPDATE SET
		followers = follow_counts.followers + EXCLUDED.followers,
		following = follow_counts.following + EXCLUDED.following
)
SELECT count(*) > 0 FROM created`

	// A follow and a block of the same two wait for each other.
	lockPairSQL = `-- name: follows.lock_pair
SELECT pg_advisory_xact_lock(hashtextextended(least($1::uuid, $2::uuid)::text || greatest($1::uuid, $2::uuid)::text, 0))`

	newFollowerSQL = `-- name: follows.new_follower
SELECT username, now() AS at, EXISTS (SELECT FROM notifications WHERE user_id = $1 AND key = $3) AS known FROM users WHERE id = $2`

	// One more in a notice that its owner has not read yet.
	addFollowerSQL = `-- name: notifications.add_follower
UPDATE notifications n SET data = jsonb_build_object('user_id', $2::uuid, 'username', $3::text, 'count', (n.data ->> 'count')::bigint + 1)
FROM inboxes i
WHERE i.user_id = $1 AND i.followers_at > $4::timestamptz - $5::interval
	AND n.user_id = i.user_id AND n.id = i.followers_id AND n.created_at = i.followers_at AND NOT n.read`

	openFollowersSQL = `-- name: notifications.open_followers
UPDATE inboxes SET followers_id = $2, followers_at = $3 WHERE user_id = $1`

	lockCountsSQL = `-- name: follows.lock_counts
SELECT FROM follow_counts WHERE user_id IN ($1, $2) ORDER BY user_id FOR NO KEY UPDATE`

	// It gives when the follow was, if a notice of that time may count it.
	unfollowSQL = `-- name: follows.unfollow
WITH removed AS (
	DELETE FROM follows WHERE follower_id = $1 AND following_id = $2 RETURNING follower_id, following_id, followed_at
), counted AS (
	UPDATE follow_counts c SET
		followers = c.followers - CASE WHEN c.user_id = r.following_id THEN 1 ELSE 0 END,
		following = c.following - CASE WHEN c.user_id = r.follower_id THEN 1 ELSE 0 END
	FROM removed r WHERE c.user_id IN (r.follower_id, r.following_id)
)
SELECT r.followed_at FROM removed r JOIN inboxes i ON i.user_id = r.following_id AND i.followers_at <= r.followed_at`

	// One less in a notice that counted a follow, which nobody with a notice of their own
	// is in. The first one of a notice is such: it never falls to none.
	removeFollowerSQL = `-- name: notifications.remove_follower
UPDATE notifications n SET data = jsonb_set(n.data, '{count}', to_jsonb((n.data ->> 'count')::bigint - 1))
FROM inboxes i
WHERE i.user_id = $1 AND i.followers_at <= $3 AND i.followers_at > $3::timestamptz - $4::interval
	AND n.user_id = i.user_id AND n.id = i.followers_id AND n.created_at = i.followers_at AND NOT n.read AND (n.data ->> 'count')::bigint > 1
	AND NOT EXISTS (SELECT FROM notifications WHERE user_id = $1 AND key = $2)`

	followersSQL = `-- name: follows.followers
SELECT f.followed_at, ` + userColumns + `
FROM follows f JOIN users u ON u.id = f.follower_id` + userJoins + `
WHERE f.following_id = $1 AND (f.followed_at, f.follower_id) < ($2, $3)
ORDER BY f.followed_at DESC, f.follower_id DESC LIMIT $4`

	followingSQL = `-- name: follows.following
SELECT f.followed_at, ` + userColumns + `
FROM follows f JOIN users u ON u.id = f.following_id` + userJoins + `
WHERE f.follower_id = $1 AND (f.followed_at, f.following_id) < ($2, $3)
ORDER BY f.followed_at DESC, f.following_id DESC LIMIT $4`
)

type followRow struct {
	userRow
	FollowedAt time.Time
}

func (r followRow) domain() livestream.Follow {
	return livestream.Follow{User: r.userRow.domain(), FollowedAt: r.FollowedAt}
}

// Follow makes follower follow followee and tells followee of it. It gives the
// notification that they are to be rung for; nil when there is none.
// CodeUserNotFound, CodeCannotFollowSelf, CodeBlocked.
func (s *Follows) Follow(ctx context.Context, follower, followee uuid.UUID) (*livestream.NotificationPush, error) {
	var ring *livestream.NotificationPush
	err := s.db.inTx(ctx, func(tx querier) error {
		ring = nil
		if _, err := tx.Exec(ctx, lockPairSQL, follower, followee); err != nil {
			return err
		}
		if err := refuseBlocked(ctx, tx, follower, followee); err != nil {
			return err
		}
		created, err := scalar[bool](ctx, tx, followSQL, follower, followee)
		if err != nil || !created {
			return err
		}
		ring, err = tellOfFollower(ctx, tx, follower, followee)
		return err
	})
	return ring, fail(ctx, "follow", err)
}

type newFollowerRow struct {
	Username string
	At       time.Time
	Known    bool
}

// tellOfFollower writes that somebody has a new follower: into the notice of those
// who came just before, or as a new one. Who has one of their own already is not told
// of again, however often they change their mind; unfollow takes the others back.
func tellOfFollower(ctx context.Context, tx querier, follower, followee uuid.UUID) (*livestream.NotificationPush, error) {
	if _, err := tx.Exec(ctx, lockInboxSQL, followee); err != nil {
		return nil, err
	}
	key := livestream.NewFollowerKey(follower)
	fan, err := one[newFollowerRow](ctx, tx, newFollowerSQL, followee, follower, key)
	if err != nil || fan.Known {
		return nil, err
	}
	added, err := tx.Exec(ctx, addFollowerSQL, followee, follower, fan.Username, fan.At, livestream.FollowersPause)
	if err != nil || added.RowsAffected() > 0 {
		return nil, err
	}
	made, err := notify(ctx, tx, livestream.NewNotification{
		UserID: followee, Key: key, Type: livestream.NotifyNewFollower, From: follower, At: fan.At,
		Data: map[string]any{"user_id": follower, "username": fan.Username, "count": 1},
	})
	if err != nil || made.ID == uuid.Nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, openFollowersSQL, followee, made.ID, made.CreatedAt)
	return &livestream.NotificationPush{Key: key, At: fan.At, User: &followee}, err
}

// Unfollow ends a follow; there need not be one.
func (s *Follows) Unfollow(ctx context.Context, follower, followee uuid.UUID) error {
	err := s.db.inTx(ctx, func(tx querier) error { return unfollow(ctx, tx, follower, followee) })
	return fail(ctx, "unfollow", err)
}

func unfollow(ctx context.Context, tx querier, follower, followee uuid.UUID) error {
	if _, err := tx.Exec(ctx, lockCountsSQL, follower, followee); err != nil {
		return err
	}
	counted, err := scalars[time.Time](ctx, tx, unfollowSQL, follower, followee)
	if err != nil || len(counted) == 0 {
		return err
	}
	if _, err := tx.Exec(ctx, lockInboxSQL, followee); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, removeFollowerSQL, followee, livestream.NewFollowerKey(follower), counted[0], livestream.FollowersPause)
	return err
}

// Followers lists who follows a member, newest first.
func (s *Follows) Followers(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error) {
	return s.list(ctx, followersSQL, userID, page)
}

// Following lists whom a member follows, newest first.
func (s *Follows) Following(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error) {
	return s.list(ctx, followingSQL, userID, page)
}

func (s *Follows) list(ctx context.Context, sql string, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error) {
	limit := limitOf(page)
	at, id := beforeTime(page)
	rows, err := readMany[followRow](ctx, s.db, sql, userID, at, id, limit+1)
	if err != nil {
		return livestream.List[livestream.Follow]{}, fail(ctx, "list follows", err)
	}
	return listOf(rows, limit, followRow.domain, func(r followRow) livestream.Cursor {
		return livestream.Cursor{Time: r.FollowedAt, ID: r.ID}
	}), nil
}
