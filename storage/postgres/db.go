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
	// ReplicaURLs are the read replicas', one address each: one for several of them
	// would mix up how far each is. None means that there are none.
	ReplicaURLs []string
	// MaxConns bounds the connections to each server. Zero is 10: more of them
	// only queue inside Postgres instead of here. Where there are replicas, one
	// more to each server measures how far it is.
	MaxConns int32
	// ConnectTimeout bounds one attempt to connect. Zero is 30 s. A caller with a
	// shorter deadline gives up sooner.
	ConnectTimeout time.Duration
	// IdleTimeout closes connections that nobody used for so long. Zero is 10 min.
	IdleTimeout time.Duration
	// MaxLag is how far a replica may be behind the primary. Zero is 1 s. A smaller
	// one shows newer lists, and sends more reads to the primary.
	MaxLag time.Duration
	// StatementTimeout bounds one statement, with the wait for a connection. Zero is
	// 5 s.
	StatementTimeout time.Duration
	// LockTimeout bounds the wait for one lock within a transaction. Zero is 2 s.
	LockTimeout time.Duration
	// IdleInTxTimeout ends a transaction whose owner says nothing for so long, and
	// so lets go of its locks. Zero is 10 s.
	IdleInTxTimeout time.Duration
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
	if c.MaxLag == 0 {
		c.MaxLag = time.Second
	}
	if c.StatementTimeout == 0 {
		c.StatementTimeout = 5 * time.Second
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = 2 * time.Second
	}
	if c.IdleInTxTimeout == 0 {
		c.IdleInTxTimeout = 10 * time.Second
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
	case c.MaxLag < 0:
		return errors.New("postgres: MaxLag is negative")
	// Postgres counts in milliseconds, and takes 0 for no bound.
	case c.StatementTimeout < time.Millisecond:
		return errors.New("postgres: StatementTimeout is less than 1 ms")
	case c.LockTimeout < time.Millisecond:
		return errors.New("postgres: LockTimeout is less than 1 ms")
	case c.IdleInTxTimeout < time.Millisecond:
		return errors.New("postgres: IdleInTxTimeout is less than 1 ms")
	}
	return nil
}

// DB is the connections to the primary and to the replicas.
type DB struct {
	primary  *server
	replicas []*replica
	monitor  *monitor // nil without replicas
	begin    string
	reads    reads
}

// Open validates the configuration and makes the pools. It does not wait for the
// servers, so that a process can start, and say that it is not ready, while they
// are down.
func Open(ctx context.Context, config Config) (*DB, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	primary, err := newServer(ctx, config, config.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres: primary: %w", err)
	}
	db := &DB{primary: primary, begin: beginSQL(config)}
	for i, url := range config.ReplicaURLs {
		s, err := newServer(ctx, config, url)
		if err != nil {
			db.Close()
			return nil, fmt.Errorf("postgres: replica %d: %w", i+1, err)
		}
		db.replicas = append(db.replicas, newReplica(s))
	}
	if len(db.replicas) > 0 {
		db.monitor = startMonitor(ctx, config.MaxLag, primary, db.replicas)
	}
	return db, nil
}

// server is the pool of connections to one server.
type server struct {
	limited
	pool *pgxpool.Pool
}

func newServer(ctx context.Context, config Config, url string) (*server, error) {
	pool, err := newPool(ctx, config, url)
	if err != nil {
		return nil, err
	}
	return &server{limited: limited{querier: pool, timeout: config.StatementTimeout}, pool: pool}, nil
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
	if db.monitor != nil {
		db.monitor.stop()
	}
	db.primary.pool.Close()
	for _, replica := range db.replicas {
		replica.pool.Close()
	}
}

// Ping asks the primary for a sign of life; CodeUnavailable when there is none.
func (db *DB) Ping(ctx context.Context) error {
	return fail(ctx, "ping the primary", db.primary.pool.Ping(ctx))
}

// PingReplicas asks each replica for a sign of life; CodeUnavailable when one of
// them gives none.
func (db *DB) PingReplicas(ctx context.Context) error {
	for i, replica := range db.replicas {
		if err := replica.pool.Ping(ctx); err != nil {
			return fail(ctx, fmt.Sprintf("ping replica %d", i+1), err)
		}
	}
	return nil
}

// A replica gets what is on the primary's disk, which everything committed is
// unless commits do not wait for the disk. What is only in memory may stay there
// for a while, so that waiting for it would be in vain.
const positionSQL = `-- name: db.position
SELECT (CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END)::text`

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
	stats := map[string]*pgxpool.Stat{"primary": db.primary.pool.Stat()}
	for i, replica := range db.replicas {
		stats[fmt.Sprintf("replica-%d", i+1)] = replica.pool.Stat()
	}
	return stats
}

// querier is what a pool and a transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// limited gives each statement a deadline on this side, which cancels it on the
// server too. It holds for servers that hang, and behind PgBouncer, which refuses
// timeouts at the start of a connection and forgets those that are set later.
type limited struct {
	querier
	timeout time.Duration
}

func (l limited) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return l.querier.Exec(ctx, sql, args...)
}

func (l limited) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	rows, err := l.querier.Query(ctx, sql, args...)
	if err != nil {
		cancel()
		return nil, err
	}
	return limitedRows{rows, cancel}, nil
}

type limitedRows struct {
	pgx.Rows
	cancel context.CancelFunc
}

func (r limitedRows) Close() {
	r.Rows.Close()
	r.cancel()
}

// beginSQL opens a transaction with its timeouts, in one message. SET LOCAL is the
// form that PgBouncer in transaction mode keeps: it ends with the transaction.
func beginSQL(config Config) string {
	return fmt.Sprintf("BEGIN; SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %d; SET LOCAL idle_in_transaction_session_timeout = %d",
		config.StatementTimeout.Milliseconds(), config.LockTimeout.Milliseconds(), config.IdleInTxTimeout.Milliseconds())
}

const maxAttempts = 3

// inTx runs fn in a transaction on the primary. When Postgres aborts it for the
// sake of another one, it runs again: fn must not keep state between runs.
func (db *DB) inTx(ctx context.Context, fn func(tx querier) error) error {
	return db.inTxAt(ctx, db.begin, fn)
}

// inTxWith is inTx with a first statement that goes with the beginning, in one message.
func (db *DB) inTxWith(ctx context.Context, first string, fn func(tx querier) error) error {
	return db.inTxAt(ctx, db.begin+"; "+first, fn)
}

func (db *DB) inTxAt(ctx context.Context, begin string, fn func(tx querier) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginTxFunc(ctx, db.primary.pool, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
			return fn(limited{querier: tx, timeout: db.primary.timeout})
		})
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

// scalars gives the only column of all rows of a query, which bounds them itself.
func scalars[T any](ctx context.Context, q querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// many gives all rows of a query, which bounds them itself.
func many[T any](ctx context.Context, q querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}
