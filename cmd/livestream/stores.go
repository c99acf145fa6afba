package main

import (
	"github.com/livestream-pro/livestream-pro/storage/cached"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// stores are those whose rows have copies in Redis. Every role writes through
// them, so that no copy outlives a write.
type stores struct {
	copies     *redis.Cache
	users      *cached.Users
	follows    *cached.Follows
	streams    *cached.Streams
	recordings *cached.Recordings
	archives   *cached.Archives
}

func (o *observed) openStores(db *postgres.DB, cache *redis.Client) (stores, error) {
	copies := redis.NewCache(cache, redis.CacheConfig{})
	if err := o.registry.Register(copies); err != nil {
		return stores{}, err
	}
	c := cached.New(copies, db)
	return stores{
		copies:     copies,
		users:      cached.NewUsers(c, postgres.NewUsers(db)),
		follows:    cached.NewFollows(c, postgres.NewFollows(db)),
		streams:    cached.NewStreams(c, postgres.NewStreams(db)),
		recordings: cached.NewRecordings(c, postgres.NewRecordings(db)),
		archives:   cached.NewArchives(c, postgres.NewArchives(db)),
	}, nil
}
