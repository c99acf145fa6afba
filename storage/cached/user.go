package cached

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// UserStore keeps members.
type UserStore interface {
	Create(ctx context.Context, user livestream.NewUser) (livestream.User, error)
	ByID(ctx context.Context, id uuid.UUID) (livestream.User, error)
	CredentialsByEmail(ctx context.Context, email string) (livestream.Credentials, error)
	Update(ctx context.Context, id uuid.UUID, patch livestream.UserPatch) (livestream.User, error)
}

// Users keeps members, with copies of their profiles and counts. Credentials are
// never copied.
type Users struct {
	UserStore
	cache *Cache
}

// NewUsers puts copies before a store.
func NewUsers(cache *Cache, store UserStore) *Users { return &Users{store, cache} }

// profileEntry is a member without their counts, which change more often.
func profileEntry(id uuid.UUID) redis.CacheEntry {
	return redis.CacheEntry{Key: "user:{" + id.String() + "}", Kind: "user", TTL: 5 * time.Minute}
}

// countsEntry holds both counts.
func countsEntry(id uuid.UUID) redis.CacheEntry {
	return redis.CacheEntry{Key: "user:{" + id.String() + "}:follower_count", Kind: "follower_count", TTL: time.Hour}
}

type followCounts struct {
	Followers int64 `json:"followers"`
	Following int64 `json:"following"`
}

// ByID gives a member; CodeUserNotFound. A copy has neither their address nor
// their role, which are not for everybody, and for which copies are too old.
func (s *Users) ByID(ctx context.Context, id uuid.UUID) (livestream.User, error) {
	if !livestream.ReadPolicyOf(ctx).Replica {
		return s.UserStore.ByID(ctx, id)
	}
	user, counts, err := redis.GetPair(ctx, s.cache.copies, profileEntry(id), countsEntry(id),
		func(ctx context.Context) (livestream.User, followCounts, error) {
			user, err := s.UserStore.ByID(ctx, id)
			user.Email, user.Role = "", ""
			return user, followCounts{user.FollowerCount, user.FollowingCount}, err
		})
	user.FollowerCount, user.FollowingCount = counts.Followers, counts.Following
	return user, err
}

// Create registers a member; see the store.
func (s *Users) Create(ctx context.Context, user livestream.NewUser) (livestream.User, error) {
	created, err := s.UserStore.Create(ctx, user)
	s.cache.wrote(ctx, err, profileEntry(user.ID))
	return created, err
}

// Update changes a profile; see the store.
func (s *Users) Update(ctx context.Context, id uuid.UUID, patch livestream.UserPatch) (livestream.User, error) {
	user, err := s.UserStore.Update(ctx, id, patch)
	s.cache.wrote(ctx, err, profileEntry(id))
	return user, err
}
