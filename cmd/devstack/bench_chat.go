package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// benchChatCmd measures the chat with as many viewers as are wanted of it: nodes and
// generators are processes, because each may have 20,000 descriptors. In the same run
// it measures melody as its documentation has it.
type benchChatCmd struct {
	stackFlags
	Nodes    int           `default:"3" help:"Chat processes, and generators."`
	Streams  int           `default:"500" help:"Streams with a room of viewers each."`
	Viewers  int           `default:"100" help:"Viewers of each of these streams."`
	Hot      int           `default:"10000" help:"Viewers of the hot stream."`
	HotRate  int           `default:"100" help:"Messages a second in the hot stream."`
	Duration time.Duration `default:"20s" help:"How long each load lasts."`
}

// benchChatFile gets the result, in the project's folder.
const benchChatFile = "bench/results/chat.json"

// Run starts nodes and generators, measures, and prints a table.
func (c *benchChatCmd) Run(ctx context.Context) error {
	root, err := devstack.FindRoot()
	if err != nil {
		return err
	}
	var env devstack.Env
	if file := os.Getenv(devstack.TestVariable); file != "" { // a test stack runs this
		if env, err = devstack.LoadEnv(file); err != nil {
			return err
		}
	} else {
		running, e, stop, err := c.running(ctx)
		if err != nil {
			return err
		}
		defer stop()
		ctx, env = running, e
	}
	b := &benchChat{benchChatCmd: c, env: env, binary: filepath.Join(root, ".devstack", "bin", "livestream")}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./cmd/livestream")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the product: %w", err)
	}
	fmt.Println("preparing", c.Streams+1, "streams")
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("prepare the benchmark: %w", err)
	}
	result, err := b.measure(ctx)
	if err != nil {
		return fmt.Errorf("the benchmark stopped: %w", err)
	}
	result.print()
	return writeResult(filepath.Join(root, benchChatFile), result)
}

type benchChat struct {
	*benchChatCmd
	env     devstack.Env
	binary  string
	tickets *redis.Tickets
	owners  []livestream.User
	streams []uuid.UUID // the last one is the hot one
}

// prepare makes streams and those who talk in them.
func (b *benchChat) prepare(ctx context.Context) error {
	db, err := postgres.Open(ctx, postgres.Config{URL: b.env.DatabaseURL})
	if err != nil {
		return err
	}
	defer db.Close()
	cache, err := redis.Open(ctx, redis.Config{URL: b.env.RedisURL})
	if err != nil {
		return err
	}
	b.tickets = redis.NewTickets(cache)
	users, streams := postgres.NewUsers(db), postgres.NewStreams(db)
	for range b.Streams + 1 {
		id := uuid.Must(uuid.NewV7())
		name := "b" + strings.ReplaceAll(id.String(), "-", "")[8:32]
		user, err := users.Create(ctx, livestream.NewUser{ID: id, Username: name, Email: name + "@example.com", DisplayName: name, PasswordHash: "none"})
		if err != nil {
			return err
		}
		stream, err := streams.Create(ctx, livestream.NewStream{
			ID: uuid.Must(uuid.NewV7()), UserID: id, Title: "Benchmark", Ingest: livestream.IngestExternal, Tags: []string{},
		}, time.Now())
		if err != nil {
			return err
		}
		b.owners, b.streams = append(b.owners, user), append(b.streams, stream.ID)
	}
	return nil
}

// chatLoad is what was measured of one load. Times are in milliseconds.
type chatLoad struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	Messages    int64   `json:"messages"`
	Deliveries  int64   `json:"deliveries"`
	Expected    int64   `json:"expected"`
	PerSecond   float64 `json:"deliveries_per_second"`
	P50         float64 `json:"p50"`
	P95         float64 `json:"p95"`
	P99         float64 `json:"p99"`
	Max         float64 `json:"max"`
	Lost        int64   `json:"lost"`
	Doubled     int64   `json:"doubled"`
	CPUSeconds  float64 `json:"node_cpu_seconds"`
	CPUPerEach  float64 `json:"cpu_us_per_delivery"`
}

type chatResult struct {
	At              time.Time  `json:"at"`
	CPUs            int        `json:"cpus"`
	Nodes           int        `json:"nodes"`
	Connected       int        `json:"connected"`
	JoinsPerSecond  float64    `json:"joins_per_second"`
	BytesEach       float64    `json:"rss_bytes_per_connection"`
	GoroutinesEach  float64    `json:"goroutines_per_connection"`
	BaselineBytes   float64    `json:"baseline_rss_bytes_per_connection"`
	BaselineHandles float64    `json:"baseline_goroutines_per_connection"`
	Loads           []chatLoad `json:"loads"`
	// Ratio is how many deliveries a second of CPU makes, of the baseline's.
	Ratio float64 `json:"deliveries_per_cpu_second_of_baseline"`
}

func (b *benchChat) measure(ctx context.Context) (*chatResult, error) {
	result := &chatResult{At: time.Now().UTC(), CPUs: runtime.NumCPU(), Nodes: b.Nodes}
	nodes, err := b.startNodes(ctx)
	if err != nil {
		return nil, err
	}
	defer stopAll(nodes)
	before := usageOf(ctx, nodes)

	rooms := b.streams[:b.Streams]
	generators, err := b.startGenerators(ctx, addressesOf(nodes), rooms, b.Viewers, "/ws/streams/%s/chat")
	if err != nil {
		return nil, err
	}
	defer stopAll(generators)
	joined, took, err := connectAll(generators)
	if err != nil {
		return nil, err
	}
	result.Connected, result.JoinsPerSecond = joined, float64(joined)/took.Seconds()
	fmt.Printf("%d connected, %.0f a second\n", joined, result.JoinsPerSecond)
	time.Sleep(5 * time.Second) // garbage of the upgrades is collected in the idle time that is measured
	idle, err := b.load(ctx, "idle", nodes, generators, joined, nil, 0)
	if err != nil {
		return nil, err
	}
	after := usageOf(ctx, nodes)
	result.BytesEach = float64(after.rss-before.rss) / float64(joined)
	result.GoroutinesEach = float64(after.goroutines-before.goroutines) / float64(joined)
	steady, err := b.load(ctx, "steady", nodes, generators, joined, rooms, 1)
	if err != nil {
		return nil, err
	}
	stopAll(generators)

	hot := b.streams[b.Streams:]
	generators, err = b.startGenerators(ctx, addressesOf(nodes), hot, b.Hot, "/ws/streams/%s/chat")
	if err != nil {
		return nil, err
	}
	defer stopAll(generators)
	if joined, _, err = connectAll(generators); err != nil {
		return nil, err
	}
	busy, err := b.load(ctx, "hot", nodes, generators, joined, hot, b.HotRate)
	if err != nil {
		return nil, err
	}
	stopAll(generators)
	stopAll(nodes)

	// The baseline: the same hot room on one process, without Redis, which is in its
	// favour.
	baseline, err := startMelody(ctx)
	if err != nil {
		return nil, err
	}
	defer stopAll([]*benchProcess{baseline})
	before = usageOf(ctx, []*benchProcess{baseline})
	generators, err = b.startGenerators(ctx, []string{baseline.address}, hot, b.Hot, "/ws/%s")
	if err != nil {
		return nil, err
	}
	defer stopAll(generators)
	if joined, _, err = connectAll(generators); err != nil {
		return nil, err
	}
	after = usageOf(ctx, []*benchProcess{baseline})
	result.BaselineBytes = float64(after.rss-before.rss) / float64(joined)
	result.BaselineHandles = float64(after.goroutines-before.goroutines) / float64(joined)
	plain, err := b.load(ctx, "hot, melody as documented", []*benchProcess{baseline}, generators, joined, hot, b.HotRate)
	if err != nil {
		return nil, err
	}
	result.Loads = []chatLoad{idle, steady, busy, plain}
	if busy.CPUPerEach > 0 {
		result.Ratio = plain.CPUPerEach / busy.CPUPerEach
	}
	return result, nil
}

// load lets members talk and asks the generators what came of it.
func (b *benchChat) load(ctx context.Context, name string, nodes, generators []*benchProcess, viewers int, streams []uuid.UUID, rate int) (chatLoad, error) {
	fmt.Println("measuring:", name)
	load := chatLoad{Name: name, Connections: viewers}
	for _, g := range generators {
		if err := g.tell("reset"); err != nil {
			return load, err
		}
		if _, err := g.hear(); err != nil {
			return load, err
		}
	}
	began, before := time.Now(), usageOf(ctx, nodes)
	if len(streams) > 0 {
		sent, err := b.talk(ctx, nodes, streams, rate)
		if err != nil {
			return load, err
		}
		load.Messages = sent
		load.Expected = sent * int64(viewers/len(streams))
	} else {
		time.Sleep(b.Duration)
	}
	spoke := time.Since(began)
	time.Sleep(2 * time.Second) // what is late still counts
	load.CPUSeconds = (usageOf(ctx, nodes).cpu - before.cpu).Seconds()
	var all histogram
	for _, g := range generators {
		if err := g.tell("report"); err != nil {
			return load, err
		}
		line, err := g.hear()
		if err != nil {
			return load, err
		}
		var r generatorReport
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return load, fmt.Errorf("read a generator's report: %w", err)
		}
		load.Deliveries, load.Lost, load.Doubled = load.Deliveries+r.Deliveries, load.Lost+r.Lost, load.Doubled+r.Doubled
		all.add(r.Times)
	}
	load.PerSecond = float64(load.Deliveries) / spoke.Seconds()
	load.P50, load.P95, load.P99, load.Max = all.at(0.5), all.at(0.95), all.at(0.99), all.at(1)
	if load.Deliveries > 0 {
		load.CPUPerEach = load.CPUSeconds * 1e6 / float64(load.Deliveries)
	}
	return load, nil
}

func (r *chatResult) print() {
	fmt.Printf("\n%d connections on %d nodes, %d CPUs shared with the generators\n", r.Connected, r.Nodes, r.CPUs)
	fmt.Printf("joins/s %.0f   bytes a connection %.0f (melody %.0f)   goroutines a connection %.2f (melody %.2f)\n\n",
		r.JoinsPerSecond, r.BytesEach, r.BaselineBytes, r.GoroutinesEach, r.BaselineHandles)
	fmt.Printf("%-27s %8s %9s %11s %10s %8s %8s %8s %8s %6s %6s %9s %9s\n", "load", "viewers", "messages", "deliveries", "each s", "p50 ms", "p95 ms", "p99 ms", "max ms", "lost", "double", "CPU s", "CPU µs")
	for _, l := range r.Loads {
		fmt.Printf("%-27s %8d %9d %11d %10.0f %8.1f %8.1f %8.1f %8.1f %6d %6d %9.2f %9.2f\n",
			l.Name, l.Connections, l.Messages, l.Deliveries, l.PerSecond, l.P50, l.P95, l.P99, l.Max, l.Lost, l.Doubled, l.CPUSeconds, l.CPUPerEach)
	}
	fmt.Printf("\ndeliveries a CPU second, of melody's: %.1f\n", r.Ratio)
}
