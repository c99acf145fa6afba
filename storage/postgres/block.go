package postgres

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	blockSQL = `-- name: blocks.block
INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2) ON CONFLICT (user_id, blocked_id) DO NOTHING`

	blockedSQL = `-- name: blocks.between
SELECT EXISTS (SELECT FROM blocks WHERE user_id = $1 AND blocked_id = $2) OR EXISTS (SELECT FROM blocks WHERE user_id = $2 AND blocked_id = $1)`

	unblockSQL = `-- name: blocks.unblock
DELETE FROM blocks WHERE user_id = $1 AND blocked_id = $2`

	listBlocksSQL = `-- name: blocks.list
SELECT b.blocked_at, ` + userColumns + `
FROM blocks b JOIN users u ON u.id = b.blocked_id` + userJoins + `
WHERE b.user_id = $1 AND (b.blocked_at, b.blocked_id) < ($2, $3)
ORDER BY b.blocked_at DESC, b.blocked_id DESC LIMIT $4`
)

type blockRow struct {
	userRow
	BlockedAt time.Time
}

func (r blockRow) domain() livestream.Block {
	return livestream.Block{User: r.userRow.domain(), BlockedAt: r.BlockedAt}
}

// Block has a member told of nothing that another does, keeps the two from following
// and tipping each other, and ends what they follow; doing it again changes nothing. A
// tip that is under way is booked, and its recipient is not told. What is said in a chat
// is up to that chat's bans. CodeUserNotFound, CodeCannotBlockSelf.
func (s *Follows) Block(ctx context.Context, userID, blocked uuid.UUID) error {
	err := s.db.inTx(ctx, func(tx querier) error {
		if _, err := tx.Exec(ctx, lockPairSQL, userID, blocked); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, blockSQL, userID, blocked); err != nil {
			return err
		}
		// The inboxes are taken in the order of their owners, as fan-outs do.
		first, second := userID, blocked
		if bytes.Compare(first[:], second[:]) > 0 {
			first, second = second, first
		}
		if err := unfollow(ctx, tx, second, first); err != nil {
			return err
		}
		return unfollow(ctx, tx, first, second)
	})
	return fail(ctx, "block", err)
}

// refuseBlocked is CodeBlocked when one of two members has blocked the other.
func refuseBlocked(ctx context.Context, tx querier, a, b uuid.UUID) error {
	blocked, err := scalar[bool](ctx, tx, blockedSQL, a, b)
	if err == nil && blocked {
		err = livestream.Errorf(livestream.CodeBlocked, "one of you has blocked the other")
	}
	return err
}

// Unblock ends a block; there need not be one. It brings no follow back.
func (s *Follows) Unblock(ctx context.Context, userID, blocked uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, unblockSQL, userID, blocked)
	return fail(ctx, "unblock", err)
}

// Blocks lists whom a member has blocked, newest first.
func (s *Follows) Blocks(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Block], error) {
	limit := limitOf(page)
	at, id := beforeTime(page)
	rows, err := readMany[blockRow](ctx, s.db, listBlocksSQL, userID, at, id, limit+1)
	if err != nil {
		return livestream.List[livestream.Block]{}, fail(ctx, "list blocks", err)
	}
	return listOf(rows, limit, blockRow.domain, func(r blockRow) livestream.Cursor {
		return livestream.Cursor{Time: r.BlockedAt, ID: r.ID}
	}), nil
}
