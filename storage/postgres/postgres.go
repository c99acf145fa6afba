// Package postgres keeps the read model: every row that a GET shows. One type a
// noun, all on the same connections. It knows neither Temporal nor Gin.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says where the database is and how much of it a process may use.
type Config struct {
	// URL of the primary.
	URL string
	// ReplicaURLs of the streaming replicas; none is fine.
	ReplicaURLs []string
	// MaxConns a pool; default 10.
	MaxConns int32
	// ConnectTimeout bounds opening a connection; default 30 s.
	ConnectTimeout time.Duration
	// IdleTimeout closes an unused connection; default 10 min.
	IdleTimeout time.Duration
	// Tracer sees every query; may be nil.
	Tracer pgx.QueryTracer
}

func (c Config) withDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = 10
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 30 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 10 * time.Minute
	}
	return c
}

// DB is the connections to the primary and its replicas.
type DB struct {
	primary  *pgxpool.Pool
	replicas []*pgxpool.Pool
}

// Open makes the pools; they connect on first use, so that a process starts while
// the database does.
func Open(ctx context.Context, config Config) (*DB, error) {
	config = config.withDefaults()
	primary, err := newPool(ctx, config, config.URL)
	if err != nil {
		return nil, err
	}
	db := &DB{primary: primary}
	for _, url := range config.ReplicaURLs {
		replica, err := newPool(ctx, config, url)
		if err != nil {
			db.Close()
			return nil, err
		}
		db.replicas = append(db.replicas, replica)
	}
	return db, nil
}

func newPool(ctx context.Context, config Config, url string) (*pgxpool.Pool, error) {
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The error repeats the URL, which holds a password.
		return nil, errors.New("postgres: the URL cannot be read; it looks like postgres://user:password@host:5432/database")
	}
	pool.MaxConns = config.MaxConns
	pool.MaxConnIdleTime = config.IdleTimeout
	pool.ConnConfig.ConnectTimeout = config.ConnectTimeout
	pool.ConnConfig.Tracer = config.Tracer
	// Named statements break behind PgBouncer in transaction mode; cached
	// descriptions do not.
	pool.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	made, err := pgxpool.NewWithConfig(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return made, nil
}

// Close closes all connections.
func (db *DB) Close() {
	db.primary.Close()
	for _, replica := range db.replicas {
		replica.Close()
	}
}

// Ping asks whether the primary answers.
func (db *DB) Ping(ctx context.Context) error { return edge("ping", db.primary.Ping(ctx)) }

// PingReplicas asks whether every replica answers.
func (db *DB) PingReplicas(ctx context.Context) error {
	var errs []error
	for _, replica := range db.replicas {
		errs = append(errs, edge("ping a replica", replica.Ping(ctx)))
	}
	return errors.Join(errs...)
}

// querier is what both a pool and a transaction can do.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// attempts is how often a transaction is tried that the database gave up for
// another's sake.
const attempts = 3

// inTx runs fn in a transaction on the primary; a deadlock or a serialisation
// failure runs it again.
func (db *DB) inTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, db.primary, fn)
		var pg *pgconn.PgError
		if attempt < attempts && errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") {
			continue
		}
		return err
	}
}

// one reads exactly one row.
func one[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], sql string, args ...any) (T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		var none T
		return none, err
	}
	return pgx.CollectExactlyOneRow(rows, scan)
}

// all reads all rows.
func all[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
