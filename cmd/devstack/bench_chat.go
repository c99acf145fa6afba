package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
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

// benchProcess is a node or a generator.
type benchProcess struct {
	command *exec.Cmd
	address string
	in      *bufio.Writer
	out     *bufio.Scanner
}

func (p *benchProcess) tell(line string) error {
	_, err := fmt.Fprintln(p.in, line)
	return errors.Join(err, p.in.Flush())
}

func (p *benchProcess) hear() (string, error) {
	if !p.out.Scan() {
		return "", errors.New("a generator ended")
	}
	return p.out.Text(), nil
}

func stopAll(processes []*benchProcess) {
	for _, p := range processes {
		_ = p.command.Process.Kill() // it may have ended
		_ = p.command.Wait()
	}
}

func addressesOf(nodes []*benchProcess) (list []string) {
	for _, n := range nodes {
		list = append(list, n.address)
	}
	return list
}

func (b *benchChat) startNodes(ctx context.Context) (nodes []*benchProcess, err error) {
	for range b.Nodes {
		address, err := devstack.FreeAddress(ctx)
		if err != nil {
			return nodes, err
		}
		command := exec.CommandContext(ctx, b.binary, "chat")
		command.Env = append(os.Environ(), "LISTEN="+address, "LIMITS=load", "LOG_LEVEL=error", "DATABASE_URL="+b.env.DatabaseURL, "REDIS_URL="+b.env.RedisURL)
		command.Stderr = os.Stderr
		if err := command.Start(); err != nil {
			return nodes, err
		}
		nodes = append(nodes, &benchProcess{command: command, address: address})
	}
	return nodes, awaitHealth(ctx, addressesOf(nodes))
}

func startMelody(ctx context.Context) (*benchProcess, error) {
	address, err := devstack.FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, os.Args[0], "bench-chat-melody", address)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	return &benchProcess{command: command, address: address}, awaitHealth(ctx, []string{address})
}

func awaitHealth(ctx context.Context, addresses []string) error {
	deadline := time.Now().Add(30 * time.Second)
	for _, address := range addresses {
		for {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health", nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				response.Body.Close()
				break
			}
			if time.Now().After(deadline) {
				return err
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// startGenerators spreads the viewers of each stream over the generators, and those
// over the nodes.
func (b *benchChat) startGenerators(ctx context.Context, addresses []string, streams []uuid.UUID, viewers int, path string) (list []*benchProcess, err error) {
	for i := range b.Nodes {
		command := exec.CommandContext(ctx, os.Args[0], "bench-chat-generator", strconv.Itoa(i))
		command.Stderr = os.Stderr
		in, err := command.StdinPipe()
		if err != nil {
			return list, err
		}
		out, err := command.StdoutPipe()
		if err != nil {
			return list, err
		}
		if err := command.Start(); err != nil {
			return list, err
		}
		g := &benchProcess{command: command, in: bufio.NewWriter(in), out: bufio.NewScanner(out)}
		g.out.Buffer(nil, 1<<20)
		list = append(list, g)
		orders := generatorOrders{Source: fmt.Sprintf("127.0.0.%d", 10+i)}
		for s, stream := range streams {
			for v := range viewers {
				if v%b.Nodes == i {
					orders.Targets = append(orders.Targets, generatorTarget{
						Address: addresses[(v+s)%len(addresses)], Path: fmt.Sprintf(path, stream),
					})
				}
			}
		}
		// Viewers come to all streams at the same time.
		rand.Shuffle(len(orders.Targets), func(i, j int) { orders.Targets[i], orders.Targets[j] = orders.Targets[j], orders.Targets[i] })
		content, err := json.Marshal(orders)
		if err != nil {
			return list, err
		}
		if err := g.tell(string(content)); err != nil {
			return list, err
		}
	}
	return list, nil
}

// connectAll has all generators connect at once.
func connectAll(generators []*benchProcess) (joined int, took time.Duration, err error) {
	for _, g := range generators {
		if _, err := g.hear(); err != nil { // it is ready
			return 0, 0, err
		}
	}
	began := time.Now()
	for _, g := range generators {
		if err := g.tell("connect"); err != nil {
			return 0, 0, err
		}
	}
	for _, g := range generators {
		line, err := g.hear()
		if err != nil {
			return joined, 0, err
		}
		n, err := strconv.Atoi(line)
		if err != nil {
			return joined, 0, fmt.Errorf("a generator says: %s", line)
		}
		joined += n
	}
	return joined, time.Since(began), nil
}

// usage is what processes have used.
type usage struct {
	rss, goroutines int64
	cpu             time.Duration
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

func usageOf(ctx context.Context, processes []*benchProcess) (all usage) {
	const tick = 10 * time.Millisecond // of /proc
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		for _, i := range []int{11, 12} { // user and system time
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			all.cpu += time.Duration(n) * tick
		}
		pages, _ := strconv.ParseInt(fields[21], 10, 64)
		all.rss += pages * int64(os.Getpagesize())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/metrics", nil)
		if err != nil {
			continue
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			continue
		}
		scanner := bufio.NewScanner(response.Body)
		for scanner.Scan() {
			if m := goroutines.FindStringSubmatch(scanner.Text()); m != nil {
				n, _ := strconv.ParseInt(m[1], 10, 64)
				all.goroutines += n
			}
		}
		response.Body.Close()
	}
	return all
}
