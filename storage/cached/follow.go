package cached

import (
	"context"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// FollowStore keeps who follows whom.
type FollowStore interface {
	Follow(ctx context.Context, follower, followee uuid.UUID) (*livestream.NotificationPush, error)
	Unfollow(ctx context.Context, follower, followee uuid.UUID) error
	Block(ctx context.Context, userID, blocked uuid.UUID) error
	Unblock(ctx context.Context, userID, blocked uuid.UUID) error
	Blocks(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Block], error)
	Followers(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error)
	Following(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error)
}

// Follows keeps who follows whom, and both members' counts right. Lists are not
// copied.
type Follows struct {
	FollowStore
	cache *Cache
}

// NewFollows puts copies before a store.
func NewFollows(cache *Cache, store FollowStore) *Follows { return &Follows{store, cache} }

// Follow makes one member follow another; see the store. Doing it again drops the
// copies too: the first attempt may have been killed before it could.
func (s *Follows) Follow(ctx context.Context, follower, followee uuid.UUID) (*livestream.NotificationPush, error) {
	ring, err := s.FollowStore.Follow(ctx, follower, followee)
	s.cache.wrote(ctx, err, countsEntry(follower), countsEntry(followee))
	return ring, err
}

// Unfollow ends a follow; see the store.
func (s *Follows) Unfollow(ctx context.Context, follower, followee uuid.UUID) error {
	err := s.FollowStore.Unfollow(ctx, follower, followee)
	s.cache.wrote(ctx, err, countsEntry(follower), countsEntry(followee))
	return err
}

// Block ends what two members follow of each other; see the store.
func (s *Follows) Block(ctx context.Context, userID, blocked uuid.UUID) error {
	err := s.FollowStore.Block(ctx, userID, blocked)
	s.cache.wrote(ctx, err, countsEntry(userID), countsEntry(blocked))
	return err
}
