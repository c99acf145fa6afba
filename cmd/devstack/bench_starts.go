package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// benchStartsCmd measures POST /api/streams of creators with more and more followers,
// while many others start and end streams, and many are live.
type benchStartsCmd struct {
	stackFlags
	Followers []int         `default:"0,1000,100000,1000000" help:"How many the creators have, the fewest first."`
	PerSecond int           `default:"50" help:"Starts a second, of all creators together."`
	Live      int           `default:"500" help:"Streams that are live all the time."`
	Lasting   time.Duration `default:"90s" help:"How long it measures."`
}

const (
	// Of each audience a creator starts each startsEvery; startsCreators take turns, so
	// that one's stream has ended before its next one starts. Their fan-outs are cancelled
	// after the answer: the first ranges are told, and the machine is left to the starts.
	startsEvery    = time.Second
	startsCreators = 5
	// Others take turns too: one has that long for a stream.
	othersTurn = 10 * time.Second
	// startsFile gets the result, in the project's folder.
	startsFile = "bench/results/starts.json"
)

// Run prepares the members, measures, and prints a table.
func (c *benchStartsCmd) Run(ctx context.Context) error {
	root, err := devstack.FindRoot()
	if err != nil {
		return err
	}
	c.TemporalOnPostgres, c.Limits = true, "load"
	stack, err := c.startIn(ctx, root, filepath.Join(root, ".devstack", "starts"))
	if err != nil {
		return err
	}
	defer stack.Close()
	base, err := newBench(ctx, stack.Env)
	if err != nil {
		return err
	}
	defer base.temporal.Close()
	b := &benchStarts{bench: base, command: c, popular: make([][]member, len(c.Followers))}
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("prepare the benchmark: %w", err)
	}
	result := b.measure(ctx)
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("the benchmark stopped: %w", err)
	}
	result.print()
	return writeResult(filepath.Join(root, startsFile), result)
}

type benchStarts struct {
	*bench
	command *benchStartsCmd
	popular [][]member // by audience
	live    []member
}

func (b *benchStarts) prepare(ctx context.Context) error {
	audiences := b.command.Followers
	fmt.Printf("preparing creators with up to %d followers, and %d streams that are live\n", slices.Max(audiences), b.command.Live)
	err := b.members(ctx, func(conn *pgx.Conn, creator func(string) (member, error)) error {
		// What an earlier run told its followers would be looked through.
		if _, err := conn.Exec(ctx, "TRUNCATE notifications, inboxes"); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, benchFollowersSQL, slices.Max(audiences)); err != nil {
			return err
		}
		for i, followers := range audiences {
			for n := range startsCreators {
				c, err := creator(fmt.Sprintf("bench_audience_%d_%d", followers, n+1))
				if err != nil {
					return err
				}
				if err := b.follow(ctx, conn, c.id, followers); err != nil {
					return fmt.Errorf("followers of %s: %w", c.name, err)
				}
				b.popular[i] = append(b.popular[i], c)
			}
		}
		for _, kind := range []struct {
			name    string
			count   int
			members *[]member
		}{{"bench_live", b.command.Live, &b.live}, {"bench_other", b.command.PerSecond * int(othersTurn/time.Second), &b.nobody}} {
			for n := range kind.count {
				c, err := creator(fmt.Sprintf("%s_%d", kind.name, n+1))
				if err != nil {
					return err
				}
				*kind.members = append(*kind.members, c)
			}
		}
		_, err := conn.Exec(ctx, "VACUUM ANALYZE users, follows, follow_counts")
		return err
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, c := range b.live {
		group.Go(func() error { // the queues may still be full of what an earlier run left
			return until(ctx, time.Minute, func() (bool, error) {
				return c.Do(ctx, "POST", "/api/streams", map[string]any{"title": "Benchmark", "record": false}, nil) == nil, nil
			})
		})
	}
	return group.Wait()
}

// measure lets all of them start streams at fixed times, whether or not answers have
// come.
func (b *benchStarts) measure(ctx context.Context) startsResult {
	fmt.Printf("measuring for %s\n", b.command.Lasting)
	r := startsResult{At: time.Now().UTC(), CPUs: runtime.NumCPU(), Live: b.command.Live, PerSecond: b.command.PerSecond, Audiences: make([]armStat, len(b.command.Followers))}
	ctx, cancel := context.WithTimeout(ctx, b.command.Lasting)
	defer cancel()
	rest := float64(b.command.PerSecond) - float64(len(b.command.Followers))/startsEvery.Seconds()
	before := machineBusy()
	var running sync.WaitGroup
	running.Go(func() {
		r.Others = pace(ctx, arm{"of others", b.startAndEnd}, time.Duration(float64(time.Second)/rest))
	})
	for i, followers := range b.command.Followers {
		running.Go(func() {
			r.Audiences[i] = pace(ctx, arm{fmt.Sprintf("%d followers", followers), b.start(b.popular[i])}, startsEvery)
		})
	}
	running.Wait()
	starts := r.Others.Samples
	for _, a := range r.Audiences {
		starts += a.Samples
	}
	r.CPUPerStart = float64((machineBusy() - before).Milliseconds()) / float64(starts)
	return r
}

// startAndEnd starts a stream of one whom nobody follows, and ends it.
func (b *benchStarts) startAndEnd(ctx context.Context, i int) (func() error, error) {
	creator := b.nobody[i%len(b.nobody)]
	var stream streamView
	err := creator.Do(ctx, "POST", "/api/streams", map[string]any{"title": "Benchmark", "record": false}, &stream)
	return func() error {
		return creator.Do(ctx, "POST", "/api/streams/"+stream.ID+"/end", nil, nil)
	}, err
}

// startsResult is what is written, in milliseconds.
type startsResult struct {
	At        time.Time `json:"at"`
	CPUs      int       `json:"cpus"`
	Live      int       `json:"live"`
	PerSecond int       `json:"per_second"`
	Audiences []armStat `json:"audiences"`
	Others    armStat   `json:"others"`
	// CPUPerStart is what a start, its fan-out's first step and its end take of the whole
	// machine: the product, Temporal, the databases and this program.
	CPUPerStart float64 `json:"cpu_ms_per_start"`
}

func (r startsResult) print() {
	fmt.Printf("\n%-36s %9s %9s %9s %7s %9s\n", fmt.Sprintf("%d starts/s, %d live, milliseconds", r.PerSecond, r.Live), "p50", "p95", "p99", "failed", "p95 ratio")
	for _, a := range append(r.Audiences, r.Others) {
		fmt.Printf("%-36s %9.1f %9.1f %9.1f %7d %9.2f\n", a.Name, a.P50, a.P95, a.P99, a.Failed, a.P95/r.Audiences[0].P95)
	}
	for _, a := range append(r.Audiences, r.Others) {
		if a.Failed > 0 {
			fmt.Printf("%s: %s\n", a.Name, a.Error)
		}
	}
	fmt.Printf("a start and its end take %.0f ms of CPU, all programs together: %d/s need %.1f CPUs, here are %d\n\n",
		r.CPUPerStart, r.PerSecond, r.CPUPerStart*float64(r.PerSecond)/1000, r.CPUs)
}

// machineBusy is how long the machine's CPUs have worked since it was started; 0 where
// the system does not say.
func machineBusy() (busy time.Duration) {
	content, _ := os.ReadFile("/proc/stat")
	total, _, _ := strings.Cut(string(content), "\n")
	for i, field := range strings.Fields(total) {
		if n, err := strconv.Atoi(field); err == nil && i != idleField && i != waitField {
			busy += time.Duration(n) * tick
		}
	}
	return busy
}

// Where the first line of /proc/stat has the time without work.
const (
	idleField = 4
	waitField = 5
)
