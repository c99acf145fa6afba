package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/bigdata"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// errNoBaseline is of a kind of request that a baseline does not have.
var errNoBaseline = errors.New("this has no baseline")

// baseline is what the API is held against: its bytes from memory through bare
// Gin, in a process of its own as the API is, and its statements through bare pgx.
type baseline struct {
	bench      *benchAPI
	process    *devstack.Process
	url        string
	pool       *pgxpool.Pool
	statements map[string][]statement // by endpoint
}

type statement struct {
	sql  string
	args []any
}

// samples is how many different calls of each endpoint are replayed.
const samples = 200

func newBaseline(ctx context.Context, b *benchAPI) (*baseline, error) {
	base := &baseline{bench: b, statements: map[string][]statement{}}
	if err := base.serve(ctx); err != nil {
		return nil, err
	}
	if err := base.capture(ctx); err != nil {
		return nil, fmt.Errorf("capture the statements: %w", err)
	}
	config, err := pgxpool.ParseConfig(b.env.DatabaseURL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 10 // as the API has
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	base.pool, err = pgxpool.NewWithConfig(ctx, config)
	return base, err
}

// serve gives the API's answers to a bare handler.
func (base *baseline) serve(ctx context.Context) error {
	b, answers := base.bench, map[string]json.RawMessage{}
	for _, e := range b.endpoints {
		if e.method != http.MethodGet {
			continue
		}
		path, _, token := e.request(rand.New(rand.NewPCG(4, 4))) //nolint:gosec // any will do
		request, err := http.NewRequestWithContext(ctx, e.method, b.env.APIURL+path, nil)
		if err != nil {
			return err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := b.http.Do(request)
		if err != nil {
			return err
		}
		content, err := io.ReadAll(response.Body)
		response.Body.Close() //nolint:errcheck // it is read to its end
		if err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s: %w", path, response.Status, content, err)
		}
		answers[base.path(e)] = content
	}
	content, err := json.Marshal(answers)
	if err != nil {
		return err
	}
	file := filepath.Join(b.env.Dir, "baseline.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	address, err := devstack.FreeAddress(ctx)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	base.process = &devstack.Process{Name: "baseline", Path: program, Args: []string{"baseline", "--listen", address, "--answers", file}, Dir: b.env.Dir}
	if err := base.process.Start(); err != nil {
		return err
	}
	base.url = "http://" + address
	return until(ctx, 20*time.Second, func() (bool, error) {
		return b.ask(ctx, base.url, http.MethodGet, base.path(b.endpoints[0]), "", "") == nil, nil
	})
}

// path is where the bare handler has an endpoint's bytes.
func (base *baseline) path(e endpoint) string {
	for i, other := range base.bench.endpoints {
		if other.name == e.name {
			return fmt.Sprintf("/%d", i)
		}
	}
	return "/none"
}

func (base *baseline) gin(ctx context.Context, e endpoint, _ *rand.Rand) error {
	if e.method != http.MethodGet {
		return errNoBaseline
	}
	return base.bench.ask(ctx, base.url, http.MethodGet, base.path(e), "", "")
}

// pgx runs one of an endpoint's statements and reads its rows.
func (base *baseline) pgx(ctx context.Context, e endpoint, r *rand.Rand) error {
	all := base.statements[e.name]
	if len(all) == 0 {
		return errNoBaseline
	}
	s := all[r.IntN(len(all))]
	rows, err := base.pool.Query(ctx, s.sql, s.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if _, err := rows.Values(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// tracer remembers the statements of the stores.
type tracer struct {
	mu   sync.Mutex
	last statement
}

func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = statement{data.SQL, data.Args}
	return ctx
}

func (*tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// capture calls the stores as the handlers do, and keeps what they send.
func (base *baseline) capture(ctx context.Context) error {
	t := &tracer{}
	db, err := postgres.Open(ctx, postgres.Config{URL: base.bench.env.DatabaseURL, Tracer: t})
	if err != nil {
		return err
	}
	defer db.Close()
	var (
		sizes   = base.bench.sizes
		r       = rand.New(rand.NewPCG(5, 5)) //nolint:gosec // the same each time
		page    = livestream.Page{Limit: livestream.DefaultPageLimit}
		live    = livestream.StreamLive
		users   = postgres.NewUsers(db)
		streams = postgres.NewStreams(db)
	)
	user := func() int { return 1 + r.IntN(sizes.Users) }
	for name, call := range map[string]func() error{
		"GET /api/streams/{id}": func() error {
			_, err := streams.ByID(ctx, bigdata.StreamID(sizes.Streams-r.IntN(sizes.LiveStreams)))
			return err
		},
		"GET /api/streams?status=live": func() error {
			_, err := streams.List(ctx, livestream.StreamFilter{Status: &live}, page)
			return err
		},
		"GET /api/users/{id}": func() error { _, err := users.ByID(ctx, bigdata.UserID(user())); return err },
		"GET …/followers": func() error {
			_, err := postgres.NewFollows(db).Followers(ctx, bigdata.UserID(user()), page)
			return err
		},
		"GET /api/archives?user_id=": func() error {
			id := bigdata.UserID(user())
			_, err := postgres.NewArchives(db).List(ctx, livestream.ArchiveFilter{UserID: &id}, page)
			return err
		},
		"GET /api/archives/{id}": func() error {
			_, err := postgres.NewArchives(db).ByID(ctx, bigdata.ArchiveID(1+r.IntN(sizes.Archives*9/10)))
			return err
		},
		"GET /api/notifications": func() error {
			_, err := postgres.NewNotifications(db).List(ctx, bigdata.UserID(user()), false, page)
			return err
		},
		"GET /api/users/me": func() error { _, err := users.ByID(ctx, bigdata.UserID(user())); return err },
		"GET /api/transactions": func() error {
			_, err := postgres.NewTransactions(db).List(ctx, livestream.TransactionFilter{UserID: bigdata.UserID(user())}, page)
			return err
		},
	} {
		for range samples {
			if err := call(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			base.statements[name] = append(base.statements[name], t.last)
		}
	}
	return nil
}

// baselineCmd is the bare handler.
type baselineCmd struct {
	Listen  string `required:"" help:"Address to serve on."`
	Answers string `required:"" type:"path" help:"File with the bytes of each path."`
}

// Run serves until ctx ends.
func (c *baselineCmd) Run(ctx context.Context) error {
	content, err := os.ReadFile(c.Answers)
	if err != nil {
		return err
	}
	var answers map[string]json.RawMessage
	if err := json.Unmarshal(content, &answers); err != nil {
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	for path, answer := range answers {
		router.GET(path, func(c *gin.Context) { c.Data(http.StatusOK, "application/json", answer) })
	}
	server := &http.Server{Addr: c.Listen, Handler: router, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close() // nobody waits for an answer any more
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
