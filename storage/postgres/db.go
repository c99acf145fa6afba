package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Config says where the database is and how many connections to hold.
type Config struct {
	// URL is the primary's, or that of a PgBouncer in transaction mode before it.
	URL string
	// ReplicaURLs are the read replicas'; none means that there are none.
	ReplicaURLs []string
	// MaxConns bounds the connections to each server. Zero is 10: more of them
	// only queue inside Postgres instead of here.
	MaxConns int32
	// ConnectTimeout bounds one attempt to connect. Zero is 30 s. A caller with a
	// shorter deadline gives up sooner.
	ConnectTimeout time.Duration
	// IdleTimeout closes connections that nobody used for so long. Zero is 10 min.
	IdleTimeout time.Duration
	// Tracer sees every query; its SQL begins with "-- name: noun.action". Nil
	// traces nothing.
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

func (c Config) validate() error {
	switch {
	case c.URL == "":
		return errors.New("postgres: URL is required")
	case c.MaxConns < 0:
		return errors.New("postgres: MaxConns is negative")
	case c.ConnectTimeout < 0:
		return errors.New("postgres: ConnectTimeout is negative")
	case c.IdleTimeout < 0:
		return errors.New("postgres: IdleTimeout is negative")
	}
	return nil
}

// DB is the pools of connections to the primary and to the replicas.
type DB struct {
	primary  *pgxpool.Pool
	replicas []*pgxpool.Pool
}

// Open validates the configuration and makes the pools. It does not wait for the
// servers, so that a process can start, and say that it is not ready, while they
// are down.
func Open(ctx context.Context, config Config) (*DB, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	primary, err := newPool(ctx, config, config.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres: primary: %w", err)
	}
	db := &DB{primary: primary}
	for i, url := range config.ReplicaURLs {
		replica, err := newPool(ctx, config, url)
		if err != nil {
			db.Close()
			return nil, fmt.Errorf("postgres: replica %d: %w", i+1, err)
		}
		db.replicas = append(db.replicas, replica)
	}
	return db, nil
}

func newPool(ctx context.Context, config Config, url string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	c.MaxConns = config.MaxConns
	c.MinConns = min(c.MinConns, c.MaxConns)
	c.MaxConnIdleTime = config.IdleTimeout
	c.ConnConfig.ConnectTimeout = config.ConnectTimeout
	c.ConnConfig.Tracer = config.Tracer
	// Only the descriptions of statements are kept, on this side: a prepared
	// statement would be missing on the next server connection that PgBouncer
	// gives us.
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	return pgxpool.NewWithConfig(ctx, c)
}

// Close waits until all connections are given back, and closes them.
func (db *DB) Close() {
	db.primary.Close()
	for _, replica := range db.replicas {
		replica.Close()
	}
}

// Ping asks the primary for a sign of life; CodeUnavailable when there is none.
func (db *DB) Ping(ctx context.Context) error {
	return fail(ctx, "ping the primary", db.primary.Ping(ctx))
}

// PingReplicas asks each replica for a sign of life; CodeUnavailable when one of
// them gives none.
func (db *DB) PingReplicas(ctx context.Context) error {
	for i, replica := range db.replicas {
		if err := replica.Ping(ctx); err != nil {
			return fail(ctx, fmt.Sprintf("ping replica %d", i+1), err)
		}
	}
	return nil
}

const positionSQL = `-- name: db.position
SELECT pg_current_wal_insert_lsn()::text`

// Position is how far the primary's log is: behind all that has been committed.
func (db *DB) Position(ctx context.Context) (livestream.Position, error) {
	text, err := scalar[string](ctx, db.primary, positionSQL)
	if err != nil {
		return 0, fail(ctx, "position", err)
	}
	return livestream.ParsePosition(text)
}

// Stats are the states of the pools, for metrics: "primary", "replica-1" and so on.
func (db *DB) Stats() map[string]*pgxpool.Stat {
	stats := map[string]*pgxpool.Stat{"primary": db.primary.Stat()}
	for i, replica := range db.replicas {
		stats[fmt.Sprintf("replica-%d", i+1)] = replica.Stat()
	}
	return stats
}

// reader is where lists and profiles are read from: the one place to change when
// reads go to replicas. Money and permissions are always read from the primary.
func (db *DB) reader() querier { return db.primary }

// querier is what a pool and a transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const maxAttempts = 3

// inTx runs fn in a transaction on the primary. When Postgres aborts it for the
// sake of another one, it runs again: fn must not keep state between runs.
func (db *DB) inTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, db.primary, fn)
		if attempt == maxAttempts || !aborted(err) {
			return err
		}
	}
}

// one gives the only row of a query; pgx.ErrNoRows when there is none.
func one[T any](ctx context.Context, q querier, sql string, args ...any) (T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		var zero T
		return zero, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
}

// scalar gives the only column of the only row.
func scalar[T any](ctx context.Context, q querier, sql string, args ...any) (T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		var zero T
		return zero, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}

// many gives all rows of a query, which bounds them itself.
func many[T any](ctx context.Context, q querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}
