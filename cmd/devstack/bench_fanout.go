package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// benchFanoutCmd measures how long it takes to tell a creator's followers, beside the
// same rows written by one plain statement, and what others notice of it meanwhile.
type benchFanoutCmd struct {
	stackFlags
	Followers int `default:"1000000" help:"How many the creator has."`
}

// fanoutFile gets the result, in the project's folder.
const fanoutFile = "bench/results/fanout.json"

// firstTold is how many followers hear first, by the goal of 3 s.
const firstTold = 10_000

// The load beside the fan-out: what the development Temporal takes of starts, on the
// machine that does everything else too.
const (
	fanoutStartEvery = 2 * time.Second
	fanoutReadEvery  = 200 * time.Millisecond
	fanoutTalkEvery  = 200 * time.Millisecond
)

// The plain statement writes the notifications alone: not the inboxes' numbers, nobody's
// settings, no limit. Its table has the same columns, indexes and defaults.
const (
	plainTableSQL = `DROP TABLE IF EXISTS bench_plain; CREATE TABLE bench_plain (LIKE notifications INCLUDING ALL)`

	plainSQL = `INSERT INTO bench_plain (user_id, seq, key, type, created_at, data)
SELECT f.follower_id, coalesce(i.last_seq, 0) + 1, 'stream_live:' || '%[2]s', 'stream_live', now(),
	jsonb_build_object('stream_id', '%[2]s', 'user_id', u.id, 'username', u.username, 'title', 'Benchmark')
FROM follows f JOIN users u ON u.id = f.following_id LEFT JOIN inboxes i ON i.user_id = f.follower_id
WHERE f.following_id = '%[1]s' ORDER BY f.follower_id`
)

// Run prepares the members, measures, and prints a table.
func (c *benchFanoutCmd) Run(ctx context.Context) error {
	ctx, env, stop, err := c.running(ctx)
	if err != nil {
		return err
	}
	defer stop()
	base, err := newBench(ctx, env)
	if err != nil {
		return err
	}
	defer base.temporal.Close()
	b := &benchFanout{bench: base, followers: c.Followers}
	if err := b.prepareMembers(ctx); err != nil {
		return fmt.Errorf("prepare the benchmark: %w", err)
	}
	defer b.cleanUp(context.WithoutCancel(ctx))
	result, err := b.run(ctx)
	if err != nil {
		return fmt.Errorf("the benchmark stopped: %w", err)
	}
	result.print()
	return writeResult(filepath.Join(filepath.Dir(env.Dir), fanoutFile), result)
}

type benchFanout struct {
	*bench
	followers int
	star      member
}

// fanoutResult is what is written; times are in seconds, those of arms in
// milliseconds.
type fanoutResult struct {
	At        time.Time `json:"at"`
	CPUs      int       `json:"cpus"`
	Followers int64     `json:"followers"`
	// Plain is the statement's time before and after the fan-out.
	Plain   [2]float64 `json:"plain_seconds"`
	Seconds float64    `json:"seconds"` // from the request on
	Ratio   float64    `json:"ratio"`   // to the mean of the plain ones
	First   float64    `json:"first_seconds"`
	Rows    float64    `json:"rows_per_second"`
	// Ranges are statements; each is four round trips: begin, write, commit, and a look
	// whether one of the followers has a browser. Steps are all others, of one to five.
	Ranges  int   `json:"ranges"`
	Steps   int   `json:"steps"`
	Events  int64 `json:"history_events"`
	History int64 `json:"history_bytes"`
	// Meanwhile is what others noticed.
	Meanwhile []armStat `json:"meanwhile"`
}

func (b *benchFanout) prepareMembers(ctx context.Context) error {
	fmt.Printf("preparing a creator with %d followers\n", b.followers)
	return b.members(ctx, func(conn *pgx.Conn, creator func(name string) (member, error)) error {
		if _, err := conn.Exec(ctx, benchFollowersSQL, b.followers); err != nil {
			return err
		}
		var err error
		if b.star, err = creator(fmt.Sprintf("bench_star_%d", b.followers)); err != nil {
			return err
		}
		if err := b.follow(ctx, conn, b.star.id, b.followers); err != nil {
			return err
		}
		for i := range 10 {
			other, err := creator(fmt.Sprintf("bench_nobody_%d", i+1))
			if err != nil {
				return err
			}
			b.nobody = append(b.nobody, other)
		}
		// Each of them has been told of something before.
		_, err = conn.Exec(ctx, "INSERT INTO inboxes (user_id, last_seq) SELECT follower_id, 1 FROM follows WHERE following_id = $1 ORDER BY 1 ON CONFLICT DO NOTHING", b.star.id)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "VACUUM ANALYZE users, follows, follow_counts, inboxes")
		return err
	})
}

func (b *benchFanout) run(ctx context.Context) (*fanoutResult, error) {
	r := &fanoutResult{At: time.Now().UTC(), CPUs: runtime.NumCPU()}
	var err error
	if r.Plain[0], err = b.plain(ctx); err != nil {
		return nil, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	load, err := b.load(loading)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var stream streamView
	if err := b.star.Do(ctx, "POST", "/api/streams", map[string]any{"title": "Benchmark", "record": false}, &stream); err != nil {
		return nil, err
	}
	id, err := uuid.Parse(stream.ID)
	if err != nil {
		return nil, err
	}
	b.streams = append(b.streams, id)
	err = until(ctx, 10*time.Minute, func() (bool, error) {
		_, err := b.temporal.DescribeWorkflowExecution(ctx, workflows.NotifyID(id), "")
		return err == nil, nil
	})
	if err == nil {
		err = b.temporal.GetWorkflow(ctx, workflows.NotifyID(id), "").Get(ctx, nil)
	}
	r.Seconds = time.Since(began).Seconds()
	stop()
	r.Meanwhile = load()
	if err != nil {
		return nil, err
	}
	if err := b.star.Do(ctx, "POST", "/api/streams/"+stream.ID+"/end", nil, nil); err != nil {
		return nil, err
	}
	var progress livestream.NotifyProgress
	if err := b.star.Do(ctx, "GET", "/api/streams/"+stream.ID+"/notification-progress", nil, &progress); err != nil {
		return nil, err
	}
	r.Followers = progress.Notified
	if r.Followers != int64(b.followers) {
		return nil, fmt.Errorf("%d of %d were told", r.Followers, b.followers)
	}
	if err := b.history(ctx, id, began, r); err != nil {
		return nil, err
	}
	if r.Plain[1], err = b.plain(ctx); err != nil {
		return nil, err
	}
	r.Ratio, r.Rows = 2*r.Seconds/(r.Plain[0]+r.Plain[1]), float64(r.Followers)/r.Seconds
	return r, nil
}

// plain writes the same notifications by one statement in psql, and gives the seconds.
func (b *benchFanout) plain(ctx context.Context) (float64, error) {
	statement := fmt.Sprintf(plainSQL, b.star.id, uuid.Must(uuid.NewV7()))
	if err := b.psql(ctx, plainTableSQL); err != nil {
		return 0, err
	}
	began := time.Now()
	err := b.psql(ctx, statement)
	took := time.Since(began).Seconds()
	return took, errors.Join(err, b.psql(ctx, "DROP TABLE bench_plain"), b.psql(ctx, "CHECKPOINT"))
}

func (b *benchFanout) psql(ctx context.Context, sql string) error {
	cmd := exec.CommandContext(ctx, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", b.env.DatabaseURL, "-c", sql)
	cmd.Env, cmd.Stderr = append(os.Environ(), "PGOPTIONS=-c client_min_messages=warning"), os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("psql: %w", err)
	}
	return nil
}

// history reads from the fan-out's histories when the first followers had been told
// and how many steps it took.
func (b *benchFanout) history(ctx context.Context, stream uuid.UUID, began time.Time, r *fanoutResult) error {
	id := workflows.NotifyID(stream)
	run := ""
	type told struct {
		at time.Time
		n  int64
	}
	var all []told
	for {
		described, err := b.temporal.DescribeWorkflowExecution(ctx, id, run)
		if err != nil {
			return err
		}
		info := described.GetWorkflowExecutionInfo()
		r.Events += info.GetHistoryLength()
		r.History += info.GetHistorySizeBytes()
		steps := map[int64]string{}
		events, previous := b.temporal.GetWorkflowHistory(ctx, id, info.GetExecution().GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT), ""
		for events.HasNext() {
			event, err := events.Next()
			if err != nil {
				return err
			}
			if started := event.GetWorkflowExecutionStartedEventAttributes(); started != nil {
				previous = started.GetContinuedExecutionRunId()
			}
			if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
				steps[event.GetEventId()] = scheduled.GetActivityType().GetName()
				r.Steps++
			}
			if completed := event.GetActivityTaskCompletedEventAttributes(); completed != nil && steps[completed.GetScheduledEventId()] == "NotifyRange" {
				var result livestream.RangeResult
				if err := converter.GetDefaultDataConverter().FromPayloads(completed.GetResult(), &result); err != nil {
					return err
				}
				r.Ranges++
				r.Steps--
				all = append(all, told{event.GetEventTime().AsTime(), result.Notified})
			}
		}
		if run = previous; run == "" {
			break
		}
	}
	slices.SortFunc(all, func(x, y told) int { return x.at.Compare(y.at) })
	var sum int64
	for _, t := range all {
		if sum += t.n; sum >= firstTold {
			r.First = t.at.Sub(began).Seconds()
			return nil
		}
	}
	return nil
}

func (r *fanoutResult) print() {
	fmt.Printf("\n%d followers\n", r.Followers)
	fmt.Printf("  one plain INSERT … SELECT in psql    %8.1f s before, %.1f s after\n", r.Plain[0], r.Plain[1])
	fmt.Printf("  the fan-out, from the request on     %8.1f s, %.2f times the plain statement, %.0f rows/s\n", r.Seconds, r.Ratio, r.Rows)
	fmt.Printf("  the first %d told after           %8.1f s\n", firstTold, r.First)
	fmt.Printf("  %d ranges of four round trips, %d other steps; history: %d events, %d KiB\n\n", r.Ranges, r.Steps, r.Events, r.History>>10)
	fmt.Printf("%-36s %9s %9s %9s %7s\n", "meanwhile, milliseconds", "p50", "p95", "p99", "failed")
	for _, a := range r.Meanwhile {
		fmt.Printf("%-36s %9.1f %9.1f %9.1f %7d\n", a.Name, a.P50, a.P95, a.P99, a.Failed)
	}
	fmt.Println()
}

// load asks for what others do, at fixed times, until ctx ends; what it gives waits
// for the answers and says how long they took.
func (b *benchFanout) load(ctx context.Context) (func() []armStat, error) {
	talk, hangUp, err := b.talk(ctx)
	if err != nil {
		return nil, err
	}
	creators := b.nobody[1:]
	paced := []struct {
		arm
		every time.Duration
	}{
		{arm{"POST /api/streams of others", b.start(creators)}, fanoutStartEvery},
		{arm{"GET /api/streams", b.read("/api/streams?status=live")}, fanoutReadEvery},
		{arm{"GET /api/notifications", b.read("/api/notifications")}, fanoutReadEvery},
		{arm{"chat, one node to the other", talk}, fanoutTalkEvery},
	}
	stats, pacers := make([]armStat, len(paced)), sync.WaitGroup{}
	for i, p := range paced {
		pacers.Go(func() { stats[i] = pace(ctx, p.arm, p.every) })
	}
	return func() []armStat {
		pacers.Wait()
		hangUp()
		return stats
	}, nil
}

// pace does something at fixed times until ctx ends, whether or not it was done by
// then. A time counts from the moment when it was due.
func pace(ctx context.Context, a arm, every time.Duration) armStat {
	var (
		mu       sync.Mutex
		took     []time.Duration
		failures []error
		running  sync.WaitGroup
	)
	steady := context.WithoutCancel(ctx)
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(n) * every)
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			running.Wait()
			stat := summary(a.name, took)
			stat.count(failures)
			return stat
		}
		running.Go(func() {
			ctx, cancel := context.WithTimeout(steady, time.Minute)
			defer cancel()
			after, err := a.do(ctx, n)
			passed := time.Since(due)
			if err == nil {
				err = after()
			}
			mu.Lock()
			defer mu.Unlock()
			took, failures = append(took, passed), append(failures, err)
		})
	}
}

func (b *benchFanout) read(path string) func(context.Context, int) (func() error, error) {
	return func(ctx context.Context, i int) (func() error, error) {
		return func() error { return nil }, b.nobody[i%len(b.nobody)].Do(ctx, "GET", path, nil, nil)
	}
}

// talk opens a chat with a writer on one node and a reader on another; a sample is a
// message from the one to the other.
func (b *benchFanout) talk(ctx context.Context) (do func(context.Context, int) (func() error, error), hangUp func(), err error) {
	d := &demo{env: b.env}
	if err := b.nobody[0].Do(ctx, "POST", "/api/streams", map[string]any{"title": "Benchmark", "record": false}, &d.stream); err != nil {
		return nil, nil, err
	}
	from, err := d.dial(ctx, b.nobody[0], "chat", b.env.ChatURLs[0])
	if err != nil {
		return nil, nil, err
	}
	to, err := d.dial(ctx, b.nobody[1], "chat", b.env.ChatURLs[len(b.env.ChatURLs)-1])
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	do = func(ctx context.Context, i int) (func() error, error) {
		mu.Lock()
		defer mu.Unlock()
		return func() error { return nil }, d.say(ctx, from, to, fmt.Sprint("message ", i))
	}
	return do, func() {
		_ = from.Close()
		_ = to.Close()
		_ = b.nobody[0].Do(context.WithoutCancel(ctx), "POST", "/api/streams/"+d.stream.ID+"/end", nil, nil)
	}, nil
}
