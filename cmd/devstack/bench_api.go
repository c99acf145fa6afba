package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/bigdata"
)

// benchAPICmd measures the API on the database of the targets' size, at a fixed
// rate of requests that do not wait for one another, beside a bare Gin handler
// that gives the same bytes and bare pgx that runs the same statements.
type benchAPICmd struct {
	stackFlags
	Scale   float64       `default:"1" help:"Size of the database: 1 is 1 million members, 10 million follows, 200,000 streams and 100,000 archives. It is made once, in .devstack/bench."`
	Rate    int           `default:"1000" help:"Requests a second."`
	Phase   time.Duration `default:"20s" help:"How long each phase lasts: cold, warm, bare Gin, bare pgx."`
	Clients int           `default:"32" help:"Clients that ask without a pause in the measurement of saturation."`
	Out     string        `default:"bench/results/api.json" help:"File for the result, in the project's folder."`
}

// Run prepares the database, measures, and prints a table.
func (c *benchAPICmd) Run(ctx context.Context) error {
	if c.Rate < 1 || c.Phase < time.Second || c.Clients < 1 || c.Scale < bigdata.MinScale {
		return fmt.Errorf("rate and clients must be positive, phase at least 1s, scale at least %v", bigdata.MinScale)
	}
	root, err := devstack.FindRoot()
	if err != nil {
		return err
	}
	c.Limits = "load"
	// A database of its own: the one of make dev is somebody's.
	stack, err := c.startIn(ctx, root, filepath.Join(root, ".devstack", "bench"))
	if err != nil {
		return err
	}
	defer stack.Close()
	b := &benchAPI{command: c, env: stack.Env, sizes: bigdata.SizesAt(c.Scale)}
	if err := b.fill(ctx); err != nil {
		return fmt.Errorf("prepare the benchmark: %w", err)
	}
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("prepare the benchmark: %w", err)
	}
	defer b.baseline.process.Stop()
	result, err := b.measure(ctx)
	if err != nil {
		return fmt.Errorf("the benchmark stopped: %w", err)
	}
	result.print()
	return writeResult(filepath.Join(root, c.Out), result)
}

type benchAPI struct {
	command   *benchAPICmd
	env       devstack.Env
	sizes     bigdata.Sizes
	http      *http.Client
	tokens    []benchMember
	endpoints []endpoint
	baseline  *baseline
}

type benchMember struct {
	id    uuid.UUID
	token string
}

// endpoint is one kind of request, and how often it comes among all of them.
type endpoint struct {
	name, method string
	weight       int
	request      func(r *rand.Rand) (path, body, token string)
}

// fill makes the big database, once.
func (b *benchAPI) fill(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.env.DatabaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it was only read from
	var users int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM (SELECT FROM users LIMIT $1) u", b.sizes.Users).Scan(&users); err != nil {
		return err
	}
	switch users {
	case b.sizes.Users:
		return nil
	case 0:
	default:
		return fmt.Errorf("the database in .devstack/bench has another size; remove that folder to have it made anew")
	}
	fmt.Printf("making %d members and what belongs to them, once\n", b.sizes.Users)
	return bigdata.Fill(ctx, b.env.DatabaseURL, bigdata.Options{Scale: b.command.Scale, Log: func(step string, took time.Duration) {
		fmt.Printf("  %-32s %s\n", step, took.Round(time.Millisecond))
	}})
}

// benchMembers ask with a token; each has its own, so that nobody's limit counts.
const benchMembers = 500

func (b *benchAPI) prepare(ctx context.Context) error {
	tokens, err := auth.LoadTokens(b.env.JWTKeyFile, time.Now)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // the same members each time
	for range benchMembers {
		id := bigdata.UserID(100 + r.IntN(b.sizes.Users-100))
		token, err := tokens.Issue(livestream.Identity{UserID: id, Role: livestream.RoleMember, FamilyID: uuid.New()})
		if err != nil {
			return err
		}
		b.tokens = append(b.tokens, benchMember{id, token})
	}
	b.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 512, MaxConnsPerHost: 512}}
	b.endpoints = b.mix()
	b.baseline, err = newBaseline(ctx, b)
	return err
}

// mix is what clients ask for: mostly what is live and who streams it. Some members
// and streams are much more popular than others.
func (b *benchAPI) mix() []endpoint {
	popular := func(r *rand.Rand, n int) int {
		zipf := rand.NewZipf(r, 1.1, 10, uint64(n-1)) //nolint:gosec // n is positive
		return 1 + int(zipf.Uint64())                 //nolint:gosec // below n
	}
	user := func(r *rand.Rand) string { return bigdata.UserID(popular(r, b.sizes.Users)).String() }
	live := func(r *rand.Rand) string {
		return bigdata.StreamID(b.sizes.Streams - r.IntN(b.sizes.LiveStreams)).String()
	}
	archive := func(r *rand.Rand) string { return bigdata.ArchiveID(popular(r, b.sizes.Archives*9/10)).String() }
	member := func(r *rand.Rand) benchMember { return b.tokens[r.IntN(len(b.tokens))] }
	read := func(path func(r *rand.Rand) string) func(r *rand.Rand) (string, string, string) {
		return func(r *rand.Rand) (string, string, string) { return path(r), "", "" }
	}
	own := func(path string) func(r *rand.Rand) (string, string, string) {
		return func(r *rand.Rand) (string, string, string) { return path, "", member(r).token }
	}
	return []endpoint{
		{"GET /api/streams/{id}", "GET", 24, read(func(r *rand.Rand) string { return "/api/streams/" + live(r) })},
		{"GET /api/streams?status=live", "GET", 15, read(func(*rand.Rand) string { return "/api/streams?status=live" })},
		{"GET /api/users/{id}", "GET", 20, read(func(r *rand.Rand) string { return "/api/users/" + user(r) })},
		{"GET …/followers", "GET", 7, read(func(r *rand.Rand) string { return "/api/users/" + user(r) + "/followers" })},
		{"GET /api/archives?user_id=", "GET", 6, read(func(r *rand.Rand) string { return "/api/archives?user_id=" + user(r) })},
		{"GET /api/archives/{id}", "GET", 6, read(func(r *rand.Rand) string { return "/api/archives/" + archive(r) })},
		{"GET /api/notifications", "GET", 6, own("/api/notifications")},
		{"GET /api/users/me", "GET", 4, own("/api/users/me")},
		{"GET /api/transactions", "GET", 2, own("/api/transactions")},
		{"PATCH /api/users/me", "PATCH", 4, func(r *rand.Rand) (string, string, string) {
			return "/api/users/me", fmt.Sprintf(`{"bio":"number %d"}`, r.IntN(1000)), member(r).token
		}},
		{"PUT …/follow", "PUT", 3, func(r *rand.Rand) (string, string, string) {
			return "/api/users/" + bigdata.UserID(1+r.IntN(90)).String() + "/follow", "", member(r).token
		}},
		{"DELETE …/follow", "DELETE", 2, func(r *rand.Rand) (string, string, string) {
			return "/api/users/" + bigdata.UserID(1+r.IntN(90)).String() + "/follow", "", member(r).token
		}},
		{"POST /api/notifications/read", "POST", 1, func(r *rand.Rand) (string, string, string) {
			return "/api/notifications/read", `{"all":true}`, member(r).token
		}},
	}
}

// measure runs the phases one after the other, the baselines in the same run.
func (b *benchAPI) measure(ctx context.Context) (apiResult, error) {
	result := apiResult{
		At: time.Now().UTC(), CPUs: runtime.NumCPU(), Rate: b.command.Rate, Scale: b.command.Scale, Endpoints: map[string]map[string]armStat{},
	}
	api := func(ctx context.Context, e endpoint, r *rand.Rand) error {
		path, body, token := e.request(r)
		return b.ask(ctx, b.env.APIURL, e.method, path, body, token)
	}
	for _, phase := range []struct {
		name   string
		before func(ctx context.Context) error
		do     func(ctx context.Context, e endpoint, r *rand.Rand) error
	}{
		{"cold", b.forget, api},
		{"warm", nil, api},
		{"gin", nil, b.baseline.gin},
		{"pgx", nil, b.baseline.pgx},
	} {
		fmt.Printf("%s: %d requests a second for %s\n", phase.name, b.command.Rate, b.command.Phase)
		if phase.before != nil {
			if err := phase.before(ctx); err != nil {
				return result, err
			}
		}
		stats, err := b.openLoop(ctx, phase.do)
		if err != nil {
			return result, fmt.Errorf("%s: %w", phase.name, err)
		}
		result.Endpoints[phase.name] = stats
	}
	var err error
	result.Saturation, err = b.saturate(ctx)
	return result, err
}

// forget empties the caches, so that the database answers.
func (b *benchAPI) forget(ctx context.Context) error {
	options, err := redis.ParseURL(b.env.RedisURL)
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	defer client.Close() //nolint:errcheck // it has done what it was for
	return client.FlushDB(ctx).Err()
}

// openLoop sends requests at fixed times, whether or not answers have come, and
// counts each one's time from the moment when it was due.
func (b *benchAPI) openLoop(ctx context.Context, do func(ctx context.Context, e endpoint, r *rand.Rand) error) (map[string]armStat, error) {
	var weights []int
	for i, e := range b.endpoints {
		for range e.weight {
			weights = append(weights, i)
		}
	}
	var (
		mu      sync.Mutex
		took    = map[string][]time.Duration{}
		failed  error
		failing atomic.Int64
		running sync.WaitGroup
		r       = rand.New(rand.NewPCG(2, 2)) //nolint:gosec // the same requests each time
		began   = time.Now().Add(100 * time.Millisecond)
		every   = time.Second / time.Duration(b.command.Rate)
	)
	for n := range int(b.command.Phase / every) {
		due := began.Add(time.Duration(n) * every)
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				running.Wait()
				return nil, ctx.Err()
			}
		}
		e, own := b.endpoints[weights[r.IntN(len(weights))]], rand.New(rand.NewPCG(r.Uint64(), 0)) //nolint:gosec // as above
		running.Go(func() {
			err := do(ctx, e, own)
			passed := time.Since(due)
			if errors.Is(err, errNoBaseline) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			took[e.name] = append(took[e.name], passed)
			if err != nil {
				failing.Add(1)
				failed = err
			}
		})
	}
	running.Wait()
	if n := failing.Load(); n > 0 {
		return nil, fmt.Errorf("%d requests failed, one of them: %w", n, failed)
	}
	stats := map[string]armStat{}
	for name, all := range took {
		stats[name] = summary(name, all)
	}
	return stats, nil
}

func (b *benchAPI) ask(ctx context.Context, base, method, path, body, token string) error {
	request, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := b.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, content)
	}
	return nil
}

// saturationRounds take turns, so that the machine's other work hits both alike.
const saturationRounds = 3

// saturate has clients ask for cached streams without a pause, of the API and of
// the bare handler in turn.
func (b *benchAPI) saturate(ctx context.Context) (saturation, error) {
	fmt.Printf("saturation: %d clients ask for cached streams without a pause\n", b.command.Clients)
	var out saturation
	for range saturationRounds {
		for _, arm := range []struct {
			base string
			sum  *float64
		}{{b.env.APIURL, &out.API}, {b.baseline.url, &out.Gin}} {
			rate, err := b.closedLoop(ctx, arm.base)
			if err != nil {
				return out, err
			}
			*arm.sum += rate / saturationRounds
		}
	}
	out.Ratio = out.API / out.Gin
	return out, nil
}

func (b *benchAPI) closedLoop(ctx context.Context, base string) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.command.Phase/4)
	defer cancel()
	var (
		done    atomic.Int64
		running sync.WaitGroup
		mu      sync.Mutex
		began   = time.Now()
	)
	for client := range b.command.Clients {
		running.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(client))) //nolint:gosec // the same requests each time
			for ctx.Err() == nil {
				path, _, _ := b.endpoints[0].request(r)
				if base != b.env.APIURL {
					path = b.baseline.path(b.endpoints[0])
				}
				if e := b.ask(ctx, base, "GET", path, "", ""); e != nil {
					if ctx.Err() == nil {
						mu.Lock()
						err = e
						mu.Unlock()
					}
					return
				}
				done.Add(1)
			}
		})
	}
	running.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), err
}

type apiResult struct {
	At         time.Time                     `json:"at"`
	CPUs       int                           `json:"cpus"`
	Rate       int                           `json:"requests_per_second"`
	Scale      float64                       `json:"scale"`
	Endpoints  map[string]map[string]armStat `json:"endpoints"` // by phase
	Saturation saturation                    `json:"saturation"`
}

// saturation is requests a second.
type saturation struct {
	API   float64 `json:"api"`
	Gin   float64 `json:"gin"`
	Ratio float64 `json:"ratio"`
}

func (r apiResult) print() {
	phases := []string{"cold", "warm", "gin", "pgx"}
	var names []string
	for name := range r.Endpoints["warm"] {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Printf("\n%-30s", "milliseconds, p50/p95/p99")
	for _, phase := range phases {
		fmt.Printf(" %21s", phase)
	}
	fmt.Println()
	for _, name := range names {
		fmt.Printf("%-30s", name)
		for _, phase := range phases {
			if s, ok := r.Endpoints[phase][name]; ok {
				fmt.Printf(" %21s", fmt.Sprintf("%.1f/%.1f/%.1f", s.P50, s.P95, s.P99))
			} else {
				fmt.Printf(" %21s", "–")
			}
		}
		fmt.Println()
	}
	fmt.Printf("\nsaturation on cached streams: %.0f requests/s, bare Gin %.0f, ratio %.2f\n\n", r.Saturation.API, r.Saturation.Gin, r.Saturation.Ratio)
}
