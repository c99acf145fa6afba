package postgres

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// monitorInterval is how often each server is asked how far it is.
	monitorInterval = 100 * time.Millisecond
	// hurryInterval is how often a replica is while a read waits for it.
	hurryInterval = 5 * time.Millisecond
	// probeTimeout is when a server that does not say how far it is counts as down.
	probeTimeout = time.Second
	// maxSamples bounds what is remembered of the primary. A replica that is further
	// behind lags since it was last seen nearer.
	maxSamples = 128
)

// replica is a server that reads may go to.
type replica struct {
	*server
	reads atomic.Int64
	busy  atomic.Int64  // reads under way
	wake  chan struct{} // a probe is wanted now
	mu    sync.Mutex    // held to change state
	state atomic.Pointer[replicaState]
}

// replicaState is what is known of a replica; it is replaced, never changed.
type replicaState struct {
	up bool
	// life ends when the replica goes down, and all reads on it with it.
	life     context.Context
	end      context.CancelFunc
	replayed livestream.Position
	// complete is a time at which it had all that the primary had; current says that
	// it lacks nothing that is known of.
	complete time.Time
	current  bool
}

func newReplica(s *server) *replica {
	r := &replica{server: s, wake: make(chan struct{}, 1)}
	life, end := context.WithCancel(context.Background())
	end()
	r.state.Store(&replicaState{life: life, end: end, complete: time.Now()})
	return r
}

func (s *replicaState) lag(now time.Time) time.Duration {
	if s.up && s.current {
		return 0
	}
	return now.Sub(s.complete)
}

// fail takes a replica out of the rotation, and has it looked at, unless it has
// gone down since the state was read, and perhaps come back.
func (r *replica) fail(seen *replicaState) {
	r.mu.Lock()
	state := *r.state.Load()
	failed := state.up && state.life == seen.life
	if failed {
		state.up, state.current = false, false
		r.state.Store(&state)
	}
	r.mu.Unlock()
	if failed {
		state.end()
		r.pool.Reset() // the other connections are no better
		nudge(r.wake)
	}
}

// progressed notes what a probe found.
func (r *replica) progressed(replayed livestream.Position, complete time.Time, current bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := *r.state.Load()
	if !state.up {
		state.life, state.end = context.WithCancel(context.Background())
	}
	state.up, state.replayed, state.current = true, replayed, current
	if complete.After(state.complete) {
		state.complete = complete
	}
	r.state.Store(&state)
}

// monitor knows how far the servers are.
//
// A replica's lag is the age of the newest position of the primary that it has
// replayed. Time alone, of the last transaction replayed, would grow on a primary
// that nobody writes to; position alone is no time.
type monitor struct {
	maxLag   time.Duration
	replicas []*replica
	wake     chan struct{} // a sample of the primary is wanted now
	waiting  atomic.Int64  // reads that wait for a replica

	mu      sync.Mutex
	samples []sample      // of the primary, oldest first
	changed chan struct{} // closed at the next news

	stop func()
}

// sample is that the primary was at a position, or further, at a time.
type sample struct {
	at       time.Time
	position livestream.Position
}

// startMonitor watches until stop, not until the context of the start ends.
func startMonitor(ctx context.Context, maxLag time.Duration, primary *server, replicas []*replica) *monitor {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m := &monitor{maxLag: maxLag, replicas: replicas, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	var watching sync.WaitGroup
	watching.Go(func() { m.watchPrimary(ctx, primary) })
	for _, r := range replicas {
		watching.Go(func() { m.watchReplica(ctx, r) })
	}
	m.stop = func() {
		cancel()
		watching.Wait()
	}
	return m
}

func (m *monitor) watchPrimary(ctx context.Context, primary *server) {
	p := newProbe(primary, positionSQL)
	defer p.close(ctx)
	for {
		// The earlier time: the position is at least that of then.
		at := time.Now()
		var text string
		if err := p.ask(ctx, &text); err == nil {
			if position, err := livestream.ParsePosition(text); err == nil {
				m.sampled(sample{at, position})
			}
		}
		if !pause(ctx, m.wake, monitorInterval) {
			return
		}
	}
}

func (m *monitor) sampled(s sample) {
	m.mu.Lock()
	if last := len(m.samples) - 1; last >= 0 {
		switch {
		case s.position < m.samples[last].position: // another server took over, and has less
			m.samples = nil
		case s.position == m.samples[last].position: // it lacks nothing until now
			m.samples = m.samples[:last]
		case len(m.samples) == maxSamples:
			m.samples = append([]sample(nil), m.samples[1:]...)
		}
	}
	m.samples = append(m.samples, s)
	m.mu.Unlock()
	m.news()
}

const replayedSQL = `-- name: db.replayed
SELECT pg_last_wal_replay_lsn()::text WHERE pg_is_in_recovery()`

func (m *monitor) watchReplica(ctx context.Context, r *replica) {
	p := newProbe(r.server, replayedSQL)
	defer p.close(ctx)
	for {
		at := time.Now()
		var text string
		err := p.ask(ctx, &text) // no row: it is no replica any more
		replayed, unread := livestream.ParsePosition(text)
		if err = errors.Join(err, unread); err == nil {
			complete, current := m.judge(replayed, at)
			r.progressed(replayed, complete, current)
			m.news()
		} else if ctx.Err() == nil {
			r.fail(r.state.Load())
		}
		interval := monitorInterval
		if err == nil && m.waiting.Load() > 0 {
			interval = hurryInterval
		}
		if !pause(ctx, r.wake, interval) {
			return
		}
	}
}

// judge says at what time, as far as is known, a server that has replayed a
// position lacked nothing, and whether that is still so. The zero time is unknown.
func (m *monitor) judge(replayed livestream.Position, now time.Time) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.samples) - 1; i >= 0; i-- {
		if m.samples[i].position <= replayed {
			if i == len(m.samples)-1 {
				return now, true
			}
			return m.samples[i].at, false
		}
	}
	return time.Time{}, false
}

// inRotation says whether a replica may be read. One that was not heard of for too
// long may be as far behind.
func (m *monitor) inRotation(state *replicaState, now time.Time) bool {
	return state.up && now.Sub(state.complete) <= m.maxLag
}

// hurry has the servers asked at once, and the replicas again and again until the
// returned function is called.
func (m *monitor) hurry(after livestream.Position) (done func()) {
	if m.waiting.Add(1) == 1 {
		for _, r := range m.replicas {
			if r.state.Load().up {
				nudge(r.wake)
			}
		}
	}
	if after > m.newest().position {
		nudge(m.wake)
	}
	return func() { m.waiting.Add(-1) }
}

// beyond says whether the primary has not come to a position, which it is asked
// later than a time.
func (m *monitor) beyond(position livestream.Position, since time.Time) bool {
	newest := m.newest()
	return position > newest.position && newest.at.After(since)
}

func (m *monitor) newest() sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		return sample{}
	}
	return m.samples[len(m.samples)-1]
}

// progress is closed at the next news of any server.
func (m *monitor) progress() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *monitor) news() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// nudge leaves a word for who reads the channel; one is enough.
func nudge(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// pause waits, and says whether to go on.
func pause(ctx context.Context, wake <-chan struct{}, interval time.Duration) bool {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
		return true
	case <-timer.C:
		return true
	}
}

// probe asks one server one question, on a connection of its own: how far a server
// is must be known when all of the pool's are busy.
type probe struct {
	config *pgx.ConnConfig
	sql    string
	conn   *pgx.Conn
}

func newProbe(s *server, sql string) *probe {
	config := s.pool.Config().ConnConfig
	config.Tracer = nil // it is no request's
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return &probe{config: config, sql: sql}
}

// ask reads the only column of the only row. The next call after an error connects
// anew.
func (p *probe) ask(ctx context.Context, answer *string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if p.conn == nil {
		if p.conn, err = pgx.ConnectConfig(ctx, p.config); err != nil {
			return err
		}
	}
	if err = p.conn.QueryRow(ctx, p.sql).Scan(answer); err != nil {
		p.close(ctx)
	}
	return err
}

func (p *probe) close(ctx context.Context) {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	_ = p.conn.Close(ctx) // nothing was written on it
	p.conn = nil
}
