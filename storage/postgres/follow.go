package postgres

import (
	"bytes"
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Follows say who follows whom.
type Follows struct{ db *DB }

// NewFollows are the follows of a database.
func NewFollows(db *DB) *Follows { return &Follows{db} }

const createFollow = `-- name: follow.create
INSERT INTO follows (follower_id, following_id) VALUES ($1, $2) ON CONFLICT (follower_id, following_id) DO NOTHING`

const deleteFollow = `-- name: follow.delete
DELETE FROM follows WHERE follower_id = $1 AND following_id = $2`

const countFollow = `-- name: follow.count
INSERT INTO follow_counts AS c (user_id, followers, following) VALUES ($1, greatest($2, 0), greatest($3, 0))
ON CONFLICT (user_id) DO UPDATE SET followers = c.followers + $2, following = c.following + $3`

// Follow makes one user follow another, and says whether that is new.
//
// Errors: user_not_found, cannot_follow_self.
func (s *Follows) Follow(ctx context.Context, follower, followee uuid.UUID) (bool, error) {
	created, err := s.change(ctx, createFollow, follower, followee, 1)
	return created, edge("follow", err)
}

// Unfollow undoes it; it is no error when there was nothing to undo.
func (s *Follows) Unfollow(ctx context.Context, follower, followee uuid.UUID) error {
	_, err := s.change(ctx, deleteFollow, follower, followee, -1)
	return edge("unfollow", err)
}

func (s *Follows) change(ctx context.Context, sql string, follower, followee uuid.UUID, by int64) (changed bool, err error) {
	err = s.db.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, follower, followee)
		if err != nil {
			return err
		}
		changed = tag.RowsAffected() > 0
		if !changed {
			return nil
		}
		// Always in the order of the ids, so that two who follow one another at
		// once do not wait for each other.
		first, second := [3]any{follower, int64(0), by}, [3]any{followee, by, int64(0)}
		if bytes.Compare(follower[:], followee[:]) > 0 {
			first, second = second, first
		}
		for _, args := range [][3]any{first, second} {
			if _, err := tx.Exec(ctx, countFollow, args[:]...); err != nil {
				return err
			}
		}
		return nil
	})
	return changed, err
}

const followers = `-- name: follow.followers
SELECT ` + userColumns + `, f.followed_at FROM follows f JOIN users u ON u.id = f.follower_id LEFT JOIN follow_counts c ON c.user_id = u.id
WHERE f.following_id = $1 AND ($2::timestamptz IS NULL OR (f.followed_at, f.follower_id) < ($2, $3::uuid))
ORDER BY f.followed_at DESC, f.follower_id DESC LIMIT $4`

const following = `-- name: follow.following
SELECT ` + userColumns + `, f.followed_at FROM follows f JOIN users u ON u.id = f.following_id LEFT JOIN follow_counts c ON c.user_id = u.id
WHERE f.follower_id = $1 AND ($2::timestamptz IS NULL OR (f.followed_at, f.following_id) < ($2, $3::uuid))
ORDER BY f.followed_at DESC, f.following_id DESC LIMIT $4`

// Followers lists who follows a user, newest first.
func (s *Follows) Followers(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error) {
	return s.list(ctx, followers, userID, page)
}

// Following lists whom a user follows, newest first.
func (s *Follows) Following(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error) {
	return s.list(ctx, following, userID, page)
}

func (s *Follows) list(ctx context.Context, sql string, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error) {
	at, id := afterTime(page)
	rows, err := all(ctx, s.db.primary, func(row pgx.CollectableRow) (livestream.Follow, error) {
		var f livestream.Follow
		err := row.Scan(append(userFields(&f.User), &f.FollowedAt)...)
		return f, err
	}, sql, userID, at, id, fetchLimit(page))
	return listOf(rows, page, func(f livestream.Follow) livestream.Cursor {
		return livestream.Cursor{Time: f.FollowedAt, ID: f.User.ID}
	}), edge("list follows", err)
}
