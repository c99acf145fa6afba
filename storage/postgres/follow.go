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

	usernameSQL = `-- name: users.username
SELECT username FROM users WHERE id = $1`

	lockCountsSQL = `-- name: follows.lock_counts
SELECT FROM follow_counts WHERE user_id IN ($1, $2) ORDER BY user_id FOR NO KEY UPDATE`

	unfollowSQL = `-- name: follows.unfollow
WITH removed AS (
	DELETE FROM follows WHERE follower_id = $1 AND following_id = $2 RETURNING follower_id, following_id
)
UPDATE follow_counts c SET
	followers = c.followers - CASE WHEN c.user_id = r.following_id THEN 1 ELSE 0 END,
	following = c.following - CASE WHEN c.user_id = r.follower_id THEN 1 ELSE 0 END
FROM removed r WHERE c.user_id IN (r.follower_id, r.following_id)`

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

// Follow makes follower follow followee, tells followee of it, and says whether
// they did not before. CodeUserNotFound, CodeCannotFollowSelf.
func (s *Follows) Follow(ctx context.Context, follower, followee uuid.UUID) (bool, error) {
	var created bool
	err := s.db.inTx(ctx, func(tx querier) (err error) {
		created, err = scalar[bool](ctx, tx, followSQL, follower, followee)
		if err != nil || !created {
			return err
		}
		username, err := scalar[string](ctx, tx, usernameSQL, follower)
		if err != nil {
			return err
		}
		_, err = notify(ctx, tx, livestream.NewNotification{
			UserID: followee, Key: livestream.NewFollowerKey(follower), Type: livestream.NotifyNewFollower,
			Data: map[string]any{"user_id": follower, "username": username, "count": 1},
		})
		return err
	})
	return created, fail(ctx, "follow", err)
}

// Unfollow ends a follow; there need not be one.
func (s *Follows) Unfollow(ctx context.Context, follower, followee uuid.UUID) error {
	err := s.db.inTx(ctx, func(tx querier) error {
		if _, err := tx.Exec(ctx, lockCountsSQL, follower, followee); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, unfollowSQL, follower, followee)
		return err
	})
	return fail(ctx, "unfollow", err)
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
