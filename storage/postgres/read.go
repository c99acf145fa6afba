package postgres

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	livestream "github.com/livestream-pro/livestream-pro"
)

// maxReadWait is how long a read waits for a replica that has what the reader
// wrote, before it asks the primary.
const maxReadWait = 50 * time.Millisecond

// readOne is one on the server that the policy of the context leads to. It is for
// lists, profiles and the like: money, credentials, permissions and what must be
// unique are read from the primary, whatever the policy.
func readOne[T any](ctx context.Context, db *DB, sql string, args ...any) (T, error) {
	return read(ctx, db, func(ctx context.Context, q querier) (T, error) { return one[T](ctx, q, sql, args...) })
}

// readMany is many, on such a server.
func readMany[T any](ctx context.Context, db *DB, sql string, args ...any) ([]T, error) {
	return read(ctx, db, func(ctx context.Context, q querier) ([]T, error) { return many[T](ctx, q, sql, args...) })
}

// read asks a replica, when one will do, and otherwise the primary. What a replica
// fails to answer is asked again elsewhere.
func read[T any](ctx context.Context, db *DB, query func(ctx context.Context, q querier) (T, error)) (T, error) {
	until := time.Now().Add(maxReadWait)
	var tried []*replica
	for {
		r := db.reader(ctx, tried, until)
		if r == nil {
			db.reads.primary.Add(1)
			return query(ctx, db.primary)
		}
		result, answered, err := readReplica(ctx, r, query)
		if answered {
			return result, err
		}
		tried = append(tried, r)
	}
}

// readReplica runs a query on a replica, and says whether that gave an answer. One
// that goes down meanwhile is not waited for.
func readReplica[T any](ctx context.Context, r *replica, query func(ctx context.Context, q querier) (T, error)) (T, bool, error) {
	state := r.state.Load()
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(state.life, cancel)() //nolint:contextcheck // the replica's life, not the caller's
	r.reads.Add(1)
	r.busy.Add(1)
	defer r.busy.Add(-1)

	result, err := query(attempt, r)
	switch {
	case err == nil, errors.Is(err, pgx.ErrNoRows), ctx.Err() != nil:
		return result, true, err
	case state.life.Err() != nil:
		return result, false, err
	case tooSlow(err): // asking again would make it worse
		return result, true, err
	case disconnected(err), aborted(err): // or a conflict with what it replays
		r.fail(state)
	}
	// The rest may be a schema or a database that has not arrived there yet.
	return result, false, err
}

// tooSlow says whether a statement took longer than it may.
func tooSlow(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &pg) && pg.Code == stateCanceled
}

// reader gives the replica that a read is to ask, and nil for the primary.
func (db *DB) reader(ctx context.Context, tried []*replica, until time.Time) *replica {
	policy := livestream.ReadPolicyOf(ctx)
	if !policy.Replica || db.monitor == nil {
		return nil
	}
	r, why := db.pick(policy.After, tried)
	if why == fallbackBehind {
		r, why = db.await(ctx, policy.After, tried, until)
	}
	if r == nil {
		db.reads.fallbacks[why].Add(1)
	}
	return r
}

// fallback is why a read that a replica might have answered went to the primary.
type fallback int

const (
	fallbackNone   fallback = iota
	fallbackDown            // no replica is there
	fallbackLag             // those that are there lag too much
	fallbackBehind          // those that do not lag have not replayed what the reader wrote
	fallbacks
)

// pick gives the least busy of the replicas that are in rotation and have replayed
// a position, and otherwise the reason why there is none.
func (db *DB) pick(after livestream.Position, tried []*replica) (*replica, fallback) {
	var best *replica
	why, now := fallbackDown, time.Now()
	turn := int(db.reads.turn.Add(1))
	for i := range db.replicas {
		// Of those that are equally busy, each has its turn.
		r := db.replicas[(turn+i)%len(db.replicas)]
		state := r.state.Load()
		if !state.up || slices.Contains(tried, r) {
			continue
		}
		switch {
		case !db.monitor.inRotation(state, now):
			why = max(why, fallbackLag)
		case state.replayed < after:
			why = max(why, fallbackBehind)
		case best == nil || r.busy.Load() < best.busy.Load():
			best = r
		}
	}
	if best != nil {
		return best, fallbackNone
	}
	return nil, why
}

// await is pick, again and again, until a replica has replayed the position or the
// time is over. A position that the primary itself does not have is not waited for:
// nobody wrote it.
func (db *DB) await(ctx context.Context, after livestream.Position, tried []*replica, until time.Time) (*replica, fallback) {
	began := time.Now()
	timeout := time.NewTimer(until.Sub(began))
	defer timeout.Stop()
	defer db.monitor.hurry(after)()
	for {
		progress := db.monitor.progress()
		r, why := db.pick(after, tried)
		if why != fallbackBehind || db.monitor.beyond(after, began) {
			return r, why
		}
		select {
		case <-progress:
		case <-timeout.C:
			return nil, why
		case <-ctx.Done():
			return nil, why
		}
	}
}

// reads counts where reads went.
type reads struct {
	turn      atomic.Uint32
	primary   atomic.Int64
	fallbacks [fallbacks]atomic.Int64
}

// ReadStats says where reads went since Open, and how the replicas are, for metrics.
// Only reads that a replica may answer count.
type ReadStats struct {
	Primary   int64
	Replicas  []ReplicaStats // in the order of Config.ReplicaURLs
	Fallbacks FallbackStats
}

// ReplicaStats is of one replica.
type ReplicaStats struct {
	Reads int64
	// InRotation says that it is asked.
	InRotation bool
	// Lag is how far it is behind the primary: 0 when it has replayed all that is
	// known of, and growing while it is down.
	Lag time.Duration
}

// FallbackStats counts the reads that a replica was allowed to answer and the
// primary did, by the reason.
type FallbackStats struct {
	// Down: no replica was there.
	Down int64
	// Lag: each one that was there was further behind than Config.MaxLag.
	Lag int64
	// Behind: none had replayed what the reader wrote, within 50 ms.
	Behind int64
}

// ReadStats gives what was counted, and the state of the replicas.
func (db *DB) ReadStats() ReadStats {
	stats := ReadStats{Primary: db.reads.primary.Load(), Fallbacks: FallbackStats{
		Down: db.reads.fallbacks[fallbackDown].Load(), Lag: db.reads.fallbacks[fallbackLag].Load(), Behind: db.reads.fallbacks[fallbackBehind].Load(),
	}}
	now := time.Now()
	for _, r := range db.replicas {
		state := r.state.Load()
		stats.Replicas = append(stats.Replicas, ReplicaStats{
			Reads: r.reads.Load(), InRotation: db.monitor.inRotation(state, now), Lag: state.lag(now),
		})
	}
	return stats
}
