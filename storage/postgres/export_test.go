package postgres

import "github.com/jackc/pgx/v5/pgxpool"

// CreatorLock is what a range of a creator's followers shares.
var CreatorLock = creatorLock

// PoolConfigs are those of the pools that a DB has.
func (db *DB) PoolConfigs() []*pgxpool.Config {
	configs := []*pgxpool.Config{db.primary.pool.Config()}
	for _, replica := range db.replicas {
		configs = append(configs, replica.pool.Config())
	}
	return configs
}
