// Package devstack starts the real servers on this machine, without containers,
// and the product on them: for make dev, make test, the demo and the benchmarks.
// No product code imports it.
package devstack

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say what is started, and where.
type Options struct {
	// Root is the project's folder.
	Root string
	// Dir is the folder for data, logs and pids.
	Dir string
	// Cache is the folder for programs that are built; it survives Dir.
	Cache string
	// Ports of make dev; tests take free ones.
	Ports Ports
	// Replicas of Postgres; ChatNodes of the product.
	Replicas  int
	ChatNodes int
	// Roles runs the product too, and starts a role again that dies.
	Roles bool
	// Test leaves out what tests do not need: durability against power loss, the
	// UI, a Stripe simulator that all share. Instead of that there is stripe-mock.
	Test bool
	// TemporalOnPostgres runs Temporal as production does, for load.
	TemporalOnPostgres bool
	// Limits is the product's LIMITS.
	Limits string
	// Migrate brings a database's schema up to date. The caller has it, because
	// the stores' own tests use this package.
	Migrate func(ctx context.Context, url string) error
	// Out gets a line a step.
	Out io.Writer
}

// Stack is what runs.
type Stack struct {
	Env Env

	options  Options
	ports    plan
	lock     *os.File
	out      sync.Mutex
	failed   chan error
	stopping chan struct{}
	guards   sync.WaitGroup

	mu        sync.Mutex
	processes []*Process
}

// Start starts everything, what does not depend on one another at once. When a
// part fails, the rest is stopped again.
func Start(ctx context.Context, options Options) (_ *Stack, err error) {
	s := &Stack{options: options, failed: make(chan error, 1), stopping: make(chan struct{})}
	for _, dir := range []string{options.Dir, filepath.Join(options.Dir, "run"), filepath.Join(options.Dir, "log"), options.Cache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the stack's folder: %w", err)
		}
	}
	if s.lock, err = lockDir(options.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.ports, err = claim(ctx, options); err != nil {
		return nil, err
	}
	if err := s.install(ctx); err != nil {
		return nil, err
	}
	if err := s.describe(); err != nil {
		return nil, err
	}
	if err := s.components(ctx); err != nil {
		return nil, err
	}
	if err := s.step(ctx, "migrate", "", s.migrate); err != nil {
		return nil, err
	}
	if options.Roles {
		if err := s.roles(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.Env.Write(s.envFile())
}

// describe fills in what is known of the stack before it runs.
func (s *Stack) describe() error {
	s.Env.Dir = s.options.Dir
	s.Env.APIURL = "http://" + address(s.ports.api)
	for _, port := range s.ports.chat {
		s.Env.ChatURLs = append(s.Env.ChatURLs, "ws://"+address(port))
	}
	s.Env.StripeWebhookSecret, s.Env.StripeSecretKey = "whsec_devstack", "sk_test_devstack"
	s.Env.JWTKeyFile = filepath.Join(s.options.Dir, "keys", "jwt.pem")
	err := makeKey(s.Env.JWTKeyFile, func() (any, error) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	})
	if err != nil {
		return err
	}
	s.Env.VAPIDKeyFile = filepath.Join(s.options.Dir, "keys", "vapid.pem")
	return makeKey(s.Env.VAPIDKeyFile, func() (any, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
}

// components starts the servers, and builds the product meanwhile.
func (s *Stack) components(ctx context.Context) error {
	group, parallel := errgroup.WithContext(ctx)
	component := func(name, detail string, start func(context.Context) error) {
		group.Go(func() error { return s.step(parallel, name, detail, start) })
	}
	component("postgres", fmt.Sprintf("%s + %d replicas", address(s.ports.postgres), len(s.ports.replicas)), s.postgres)
	component("redis", address(s.ports.redis), s.redis)
	if !s.options.TemporalOnPostgres {
		component("temporal", address(s.ports.temporal), s.temporal)
	}
	component("s3", address(s.ports.s3), s.s3)
	if s.options.Test {
		component("stripe-mock", address(s.ports.stripe), s.stripeMock)
	} else {
		component("stripesim", address(s.ports.stripe), s.stripe)
	}
	group.Go(func() error {
		err := s.step(parallel, "build the product", "", s.buildProduct)
		if err != nil && s.options.Test && parallel.Err() == nil {
			// Tests of other packages run all the same, and go test says it better.
			s.printf("       %v\n", err)
			return nil
		}
		return err
	})
	if err := group.Wait(); err != nil || !s.options.TemporalOnPostgres {
		return err
	}
	return s.step(ctx, "temporal", address(s.ports.temporal)+" on Postgres", s.temporalOnPostgres)
}

// migrate brings the schema up to date, for tests that of the database that they
// copy too.
func (s *Stack) migrate(ctx context.Context) error {
	urls := []string{s.Env.DatabaseURL}
	if s.options.Test {
		urls = append(urls, postgresURL(s.ports.postgres, TemplateDatabase))
	}
	for _, url := range urls {
		if err := s.options.Migrate(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

// step prints a line when it is done, and now and then while it takes long.
func (s *Stack) step(ctx context.Context, name, detail string, do func(context.Context) error) error {
	began, done := time.Now(), make(chan struct{})
	var ticker sync.WaitGroup
	ticker.Go(func() {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.printf("  …    %-22s %-30s %s\n", name, detail, time.Since(began).Round(time.Second))
			case <-done:
				return
			}
		}
	})
	err := do(ctx)
	close(done)
	ticker.Wait()
	took := time.Since(began).Round(10 * time.Millisecond)
	switch {
	case err == nil:
		s.printf("  ok   %-22s %-30s %s\n", name, detail, took)
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s was broken off: %w", name, context.Cause(ctx))
	default:
		s.printf("  fail %-22s %-30s %s\n", name, detail, took)
		return fmt.Errorf("%s: %w", name, err)
	}
}

func (s *Stack) printf(format string, args ...any) {
	s.out.Lock()
	defer s.out.Unlock()
	_, _ = fmt.Fprintf(s.options.Out, format, args...) // a terminal that is gone stops nothing
}

// launch starts a server and waits until it is ready. Close stops it, and Failed
// tells when it ends before.
func (s *Stack) launch(ctx context.Context, p *Process, limit time.Duration, ready func(context.Context) error) error {
	if err := s.start(ctx, p); err != nil {
		return err
	}
	if err := p.await(ctx, limit, ready); err != nil {
		return err
	}
	go func() {
		select {
		case <-p.Done():
			select {
			case <-s.stopping:
			case s.failed <- p.ended():
			default: // another one was first
			}
		case <-s.stopping:
		}
	}()
	return nil
}

// start starts a process that Close stops.
func (s *Stack) start(ctx context.Context, p *Process) error {
	if err := gone(ctx, p.Name, p.pidFile(), p.Path); err != nil {
		return err
	}
	// A log is that of one run of the stack.
	if err := os.Remove(p.Log()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the last run's log: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.Start(); err != nil {
		return err
	}
	if !slices.Contains(s.processes, p) {
		s.processes = append(s.processes, p)
	}
	return nil
}

// Failed tells of the first server that ended by itself.
func (s *Stack) Failed() <-chan error { return s.failed }

// Close stops everything: first the product, then the servers that it needs.
// Nothing is left.
func (s *Stack) Close() {
	close(s.stopping)
	s.guards.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, product := range []bool{true, false} {
		var stopping sync.WaitGroup
		for _, p := range s.processes {
			if product == (p.Path == s.Env.Binary) {
				stopping.Go(p.Stop)
			}
		}
		stopping.Wait()
	}
	_ = os.Remove(s.envFile()) // it describes what runs
	s.lock.Close()
}

func (s *Stack) envFile() string { return filepath.Join(s.options.Dir, "env") }

// lockDir makes sure that one stack at a time uses a folder. The lock ends with
// the process, however that ends.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the stack's folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(file) // the number is a help, no more
		file.Close()
		return nil, &RunningError{Dir: dir, Pid: strings.TrimSpace(string(holder))}
	}
	err = file.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(file, os.Getpid())
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock the stack's folder: %w", err)
	}
	return file, nil
}

// RunningError is when another process runs a stack in the folder.
type RunningError struct{ Dir, Pid string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("a stack runs in %s already; use it, or stop it with Ctrl-C or: kill %s", e.Dir, e.Pid)
}

// Running says whether a stack runs in a folder, or is being started or stopped.
func Running(dir string) bool {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// makeKey makes a private key, once.
func makeKey(file string, generate func() (any, error)) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	private, err := generate()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	content, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: content}), 0o600)
}
