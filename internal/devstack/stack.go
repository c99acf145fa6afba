// Package devstack starts the real servers on this machine, without containers,
// and the product on them: for make dev, make test, the demo and the benchmarks.
// No product code imports it.
package devstack

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
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
	Ports Ports
	// Replicas of Postgres; ChatNodes of the product.
	Replicas  int
	ChatNodes int
	// Roles runs the product too, and starts a role again that dies.
	Roles bool
	// Test leaves out what tests do not need: durability against power loss, the
	// UI, a Stripe simulator that all share.
	Test bool
	// Limits is the product's LIMITS.
	Limits string
	// Out gets a line a step.
	Out io.Writer
}

// Stack is what runs.
type Stack struct {
	Env Env

	options   Options
	pgDir     string
	out       sync.Mutex
	mu        sync.Mutex
	processes []*Process
	stopping  chan struct{}
	guards    sync.WaitGroup
}

// Start starts everything, what does not depend on one another at once. When a
// part fails, the rest is stopped again.
func Start(ctx context.Context, options Options) (_ *Stack, err error) {
	s := &Stack{options: options, stopping: make(chan struct{})}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, dir := range []string{options.Dir, filepath.Join(options.Dir, "run"), filepath.Join(options.Dir, "log"), options.Cache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the stack's folder: %w", err)
		}
	}
	if err := s.takePorts(); err != nil {
		return nil, err
	}
	if err := s.install(ctx); err != nil {
		return nil, err
	}
	s.Env.Dir = options.Dir
	s.Env.StripeWebhookSecret, s.Env.StripeSecretKey = "whsec_devstack", "sk_test_devstack"
	s.Env.JWTKeyFile = filepath.Join(options.Dir, "keys", "jwt.pem")
	if err := makeKey(s.Env.JWTKeyFile); err != nil {
		return nil, err
	}
	group, parallel := errgroup.WithContext(ctx)
	component := func(name string, port int, start func(context.Context) error) {
		group.Go(func() error {
			return s.step(parallel, name, func(ctx context.Context) (string, error) { return address(port), start(ctx) })
		})
	}
	p := s.options.Ports
	component("postgres", p.Postgres, s.postgres)
	component("redis", p.Redis, s.redis)
	component("temporal", p.Temporal, s.temporal)
	component("s3", p.S3, s.s3)
	if !options.Test {
		component("stripesim", p.Stripe, s.stripe)
	}
	group.Go(func() error {
		return s.step(parallel, "build the product", func(ctx context.Context) (_ string, err error) {
			s.Env.Binary, err = s.build(ctx, "livestream", "./cmd/livestream")
			return "", err
		})
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := s.step(ctx, "migrate", s.migrate); err != nil {
		return nil, err
	}
	if options.Roles {
		if err := s.roles(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.Env.Write(filepath.Join(options.Dir, "env"))
}

// takePorts claims all ports before anything starts, so that one that is taken is
// told at once.
func (s *Stack) takePorts() (err error) {
	p := &s.options.Ports
	ports := []struct {
		port           *int
		what, variable string
	}{
		{&p.Temporal, "Temporal", "TEMPORAL_PORT"}, {&p.Postgres, "Postgres", "POSTGRES_PORT"}, {&p.Redis, "Redis", "REDIS_PORT"}, {&p.S3, "the S3 gateway", "S3_PORT"},
	}
	if !s.options.Test {
		ports = append(ports, []struct {
			port           *int
			what, variable string
		}{
			{&p.TemporalUI, "Temporal's UI", "TEMPORAL_UI_PORT"}, {&p.Stripe, "the Stripe simulator", "STRIPE_PORT"},
			{&p.API, "the API", "API_PORT"}, {&p.Worker, "the worker", "WORKER_PORT"},
		}...)
	}
	for _, port := range ports {
		if *port.port, err = take(*port.port, port.what, port.variable); err != nil {
			return err
		}
	}
	for i := range s.options.ChatNodes {
		port, err := take(p.Chat+i, "chat", "CHAT_PORT")
		if err != nil {
			return err
		}
		s.Env.ChatURLs = append(s.Env.ChatURLs, "ws://"+address(port))
	}
	s.Env.APIURL = "http://" + address(p.API)
	return nil
}

// step prints a line when it is done, and now and then while it takes long.
func (s *Stack) step(ctx context.Context, name string, do func(context.Context) (string, error)) error {
	began, done := time.Now(), make(chan struct{})
	var ticker sync.WaitGroup
	ticker.Add(1)
	go func() {
		defer ticker.Done()
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.printf("  …    %-22s %s\n", name, time.Since(began).Round(time.Second))
			case <-done:
				return
			}
		}
	}()
	detail, err := do(ctx)
	close(done)
	ticker.Wait()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s was broken off: %w", name, context.Cause(ctx))
		}
		s.printf("  fail %-22s %s\n", name, time.Since(began).Round(time.Millisecond))
		return fmt.Errorf("%s: %w", name, err)
	}
	s.printf("  ok   %-22s %-22s %s\n", name, detail, time.Since(began).Round(time.Millisecond))
	return nil
}

func (s *Stack) printf(format string, args ...any) {
	s.out.Lock()
	defer s.out.Unlock()
	fmt.Fprintf(s.options.Out, format, args...)
}

// launch starts a process that Close stops.
func (s *Stack) launch(p *Process) error {
	if err := p.stale(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stopping:
		return errors.New("the stack is being stopped")
	default:
	}
	if err := p.Start(); err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

// Close stops everything, the last one first. Nothing is left.
func (s *Stack) Close() {
	s.mu.Lock()
	select {
	case <-s.stopping:
	default:
		close(s.stopping)
	}
	s.mu.Unlock()
	s.guards.Wait()
	// Roles first and at once; then the servers that they need.
	var roles, servers []*Process
	for _, p := range slices.Backward(s.processes) {
		if p.Path == s.Env.Binary {
			roles = append(roles, p)
		} else {
			servers = append(servers, p)
		}
	}
	for _, group := range [][]*Process{roles, servers} {
		var stopping sync.WaitGroup
		for _, p := range group {
			stopping.Add(1)
			go func() { defer stopping.Done(); p.Stop() }()
		}
		stopping.Wait()
	}
	s.processes = nil
	if s.options.Test && s.pgDir != "" {
		_ = os.RemoveAll(s.pgDir) // it may lie outside Dir
	}
}

// Failed is closed over by up: it gives the first server that ends by itself.
func (s *Stack) Failed() <-chan error {
	failed := make(chan error, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		if p.Path == s.Env.Binary {
			continue
		}
		go func() {
			select {
			case <-p.Done():
				select {
				case <-s.stopping:
				case failed <- fmt.Errorf("%s stopped: %s (log: %s)", p.Name, p.lastWords(), p.Log()):
				default:
				}
			case <-s.stopping:
			}
		}()
	}
	return failed
}

// makeKey makes the key of the access tokens, once.
func makeKey(file string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
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
