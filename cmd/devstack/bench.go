package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// benchCmd measures POST /api/streams on creators with and without followers, in
// turn, so that whatever else the machine does hits both alike.
type benchCmd struct{ stackFlags }

const (
	// benchFollowers is how many a popular creator has.
	benchFollowers = 100_000
	// benchSamples are measured of each kind, one each benchEvery: the
	// development Temporal needs a quarter of a second of one core for a stream,
	// and what is measured is a start, not a queue.
	benchSamples = 60
	benchEvery   = 1500 * time.Millisecond
	// benchCreators of each kind take turns, so that one's stream has ended
	// before its next one starts.
	benchCreators = 3
	// benchFile gets the result, in the project's folder.
	benchFile = "bench/results/stream-start.json"
)

// Run prepares the members, measures, and prints a table.
func (c *benchCmd) Run(ctx context.Context) error {
	ctx, env, stop, err := c.running(ctx)
	if err != nil {
		return err
	}
	defer stop()
	b, err := newBench(ctx, env)
	if err != nil {
		return err
	}
	defer b.temporal.Close()
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("prepare the benchmark: %w", err)
	}
	defer b.cleanUp(context.WithoutCancel(ctx))
	result, err := b.measure(ctx)
	if err != nil {
		return fmt.Errorf("the benchmark stopped: %w", err)
	}
	result.print()
	err = writeResult(filepath.Join(filepath.Dir(env.Dir), benchFile), result)
	return errors.Join(err, result.failed())
}

type bench struct {
	env      devstack.Env
	temporal temporal.Client

	nobody, popular []member
	mu              sync.Mutex
	streams         []uuid.UUID
}

// newBench connects to Temporal; the connection is the caller's to close.
func newBench(ctx context.Context, env devstack.Env) (*bench, error) {
	c, err := temporal.DialContext(ctx, temporal.Options{
		HostPort: env.TemporalAddress, Namespace: env.TemporalNamespace, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the benchmark: %w", err)
	}
	return &bench{env: env, temporal: c}, nil
}

// arm is one of the things that are measured in turn. do is timed; what it
// returns is done after that.
type arm struct {
	name string
	do   func(ctx context.Context, i int) (after func() error, err error)
}

// measure sends what is measured at fixed times, whether or not answers have
// come. A time counts from the moment when the request was due. A request that
// failed counts with the time that it took, and the result says so.
func (b *bench) measure(ctx context.Context) (benchResult, error) {
	arms := []arm{
		{"GET /health", b.health},
		{"POST /api/streams, 0 followers", b.start(b.nobody)},
		{fmt.Sprintf("POST /api/streams, %d followers", benchFollowers), b.start(b.popular)},
	}
	fmt.Printf("measuring %d starts of each kind, one each %s\n", benchSamples, benchEvery)
	var running sync.WaitGroup
	took, failures := make([][]time.Duration, len(arms)), make([][]error, len(arms))
	for i := range arms {
		took[i], failures[i] = make([]time.Duration, benchSamples), make([]error, benchSamples)
	}
	began := time.Now().Add(benchEvery)
	for n := range benchSamples * len(arms) {
		due := began.Add(time.Duration(n) * benchEvery / time.Duration(len(arms)))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			running.Wait()
			return benchResult{}, context.Cause(ctx)
		}
		running.Go(func() {
			i, sample := n%len(arms), n/len(arms)
			after, err := arms[i].do(ctx, sample)
			took[i][sample] = time.Since(due)
			if err == nil {
				err = after()
			}
			failures[i][sample] = err
		})
		if n%(10*len(arms)) == 10*len(arms)-1 {
			fmt.Printf("  %d of %d\n", (n+1)/len(arms), benchSamples)
		}
	}
	running.Wait()
	result := benchResult{At: began.UTC(), CPUs: runtime.NumCPU(), Samples: benchSamples, EverySeconds: benchEvery.Seconds()}
	for i, a := range arms {
		stat := summary(a.name, took[i])
		stat.count(failures[i])
		result.Arms = append(result.Arms, stat)
	}
	result.compare()
	return result, nil
}

// health is the floor: what the machine and HTTP take when nothing is done.
func (b *bench) health(ctx context.Context, _ int) (func() error, error) {
	return func() error { return nil }, client.New(b.env.APIURL).Do(ctx, "GET", "/health", nil, nil)
}

// start starts a stream of one of the creators. Outside of the measured time it is
// ended, and its fan-out cancelled: a hundred of them are ten million rows, and
// what is measured is one start, not what is left of those before it.
func (b *bench) start(creators []member) func(context.Context, int) (func() error, error) {
	return func(ctx context.Context, i int) (func() error, error) {
		creator := creators[i%len(creators)]
		var stream streamView
		err := creator.Do(ctx, "POST", "/api/streams", map[string]any{"title": "Benchmark", "record": false}, &stream)
		return func() error {
			id, err := uuid.Parse(stream.ID)
			if err != nil {
				return err
			}
			b.mu.Lock()
			b.streams = append(b.streams, id)
			b.mu.Unlock()
			if err := creator.Do(ctx, "POST", "/api/streams/"+stream.ID+"/end", nil, nil); err != nil {
				return err
			}
			return b.cancelFanOut(ctx, id)
		}, err
	}
}

// benchResult is what is written, in milliseconds.
type benchResult struct {
	At           time.Time `json:"at"`
	CPUs         int       `json:"cpus"`
	Samples      int       `json:"samples"`
	EverySeconds float64   `json:"every_seconds"`
	Arms         []armStat `json:"arms"`
	Ratio        armStat   `json:"ratio"`
}

type armStat struct {
	Name    string  `json:"name"`
	Samples int     `json:"samples"`
	P50     float64 `json:"p50"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
	// Failed is how many requests did, Error what the first of them said.
	Failed int    `json:"failed,omitempty"`
	Error  string `json:"error,omitempty"`
}

func summary(name string, took []time.Duration) armStat {
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(int(q*float64(len(took))), len(took)-1)].Microseconds()) / 1000
	}
	return armStat{Name: name, Samples: len(took), P50: at(0.50), P95: at(0.95), P99: at(0.99)}
}

// count notes the requests that failed.
func (s *armStat) count(failures []error) {
	for _, err := range failures {
		if err != nil && s.Failed == 0 {
			s.Error = err.Error()
		}
		if err != nil {
			s.Failed++
		}
	}
}

// compare sets the ratio of the last arm to the one before.
func (r *benchResult) compare() {
	base, with := r.Arms[len(r.Arms)-2], r.Arms[len(r.Arms)-1]
	r.Ratio = armStat{Name: "ratio", P50: with.P50 / base.P50, P95: with.P95 / base.P95, P99: with.P99 / base.P99}
}

func (r *benchResult) print() {
	fmt.Printf("\n%-36s %9s %9s %9s\n", fmt.Sprintf("%d samples, milliseconds", r.Samples), "p50", "p95", "p99")
	for _, a := range r.Arms {
		fmt.Printf("%-36s %9.1f %9.1f %9.1f\n", a.Name, a.P50, a.P95, a.P99)
	}
	fmt.Printf("%-36s %9.2f %9.2f %9.2f\n\n", "with followers / without", r.Ratio.P50, r.Ratio.P95, r.Ratio.P99)
}

// failed is an error when a request was.
func (r *benchResult) failed() error {
	for _, a := range r.Arms {
		if a.Failed > 0 {
			return fmt.Errorf("%d of %d failed: %s: %s", a.Failed, r.Samples, a.Name, a.Error)
		}
	}
	return nil
}

// writeResult writes a benchmark's result where scripts find it.
func writeResult(file string, result any) error {
	content, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	fmt.Println("written to", file)
	return nil
}
