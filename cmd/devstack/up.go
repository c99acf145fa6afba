package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// stackFlags say how make dev, and what starts a stack like it, run.
type stackFlags struct {
	ChatNodes          int    `env:"CHAT_NODES" default:"2" help:"How many chat nodes run."`
	Limits             string `env:"LIMITS" default:"normal" enum:"normal,load" help:"load lifts the rate and connection limits for a load test from one address."`
	TemporalOnPostgres bool   `env:"TEMPORAL_ON_POSTGRES" help:"Run Temporal on Postgres, as production does, instead of its development server."`
	devstack.Ports
}

type upCmd struct{ stackFlags }

// Run starts the stack and waits for Ctrl-C.
func (c *upCmd) Run(ctx context.Context) error {
	stack, err := c.start(ctx)
	if ctx.Err() != nil {
		if err == nil {
			stack.Close()
		}
		return nil // Ctrl-C while it was starting
	}
	if err != nil {
		return err
	}
	defer stack.Close()
	env := stack.Env
	fmt.Printf(`
LiveStream Pro is running.

  API          %s
  docs         %s/docs
  chat         %s
  Temporal UI  %s
  environment  . .devstack/env

Try next, in another terminal:
  make demo
  curl -s %s/api/streams
  %s workflow list --address %s --namespace %s

Ctrl-C stops all of it; the data stays in .devstack/.
`, env.APIURL, env.APIURL, strings.Join(env.ChatURLs, " "), env.TemporalUIURL, env.APIURL, c.temporal(env), env.TemporalAddress, env.TemporalNamespace)
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping …")
		return nil
	case err := <-stack.Failed():
		return fmt.Errorf("%w; everything is stopped, start it again with: make dev", err)
	}
}

// temporal is how to call Temporal's command line from the project's folder.
func (c *upCmd) temporal(env devstack.Env) string {
	if rel, err := filepath.Rel(filepath.Dir(env.Dir), env.TemporalCLI); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return "temporal"
}

func (f *stackFlags) start(ctx context.Context) (*devstack.Stack, error) {
	root, err := devstack.FindRoot()
	if err != nil {
		return nil, err
	}
	return f.startIn(ctx, root, filepath.Join(root, ".devstack"))
}

// startIn starts a stack that keeps its data in a folder.
func (f *stackFlags) startIn(ctx context.Context, root, dir string) (*devstack.Stack, error) {
	if f.ChatNodes < 1 {
		return nil, fmt.Errorf("CHAT_NODES is %d; one chat node is the least", f.ChatNodes)
	}
	return devstack.Start(ctx, devstack.Options{
		Root: root, Dir: dir, Cache: filepath.Join(root, ".devstack", "bin"), Ports: f.Ports,
		Replicas: 2, ChatNodes: f.ChatNodes, Roles: true, TemporalOnPostgres: f.TemporalOnPostgres, Limits: f.Limits, Migrate: migrate, Out: os.Stdout,
	})
}

// running gives the stack that make dev runs, or starts one that stop ends. The
// context ends when a server of its own does.
func (f *stackFlags) running(ctx context.Context) (_ context.Context, env devstack.Env, stop func(), err error) {
	root, err := devstack.FindRoot()
	if err != nil {
		return nil, env, nil, err
	}
	dir := filepath.Join(root, ".devstack")
	if devstack.Running(dir) {
		env, err := await(ctx, dir)
		if err != nil {
			return nil, env, nil, err
		}
		fmt.Println("using the stack that runs at", env.APIURL)
		return ctx, env, func() {}, nil
	}
	fmt.Println("starting a stack of its own; make dev would keep one running")
	stack, err := f.start(ctx)
	if err != nil {
		return nil, env, nil, err
	}
	fmt.Println()
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case err := <-stack.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	return ctx, stack.Env, func() { cancel(nil); stack.Close() }, nil
}

// startLimit is how long another's stack may take to start; the first time its
// programs are built.
const startLimit = 10 * time.Minute

// await waits for the stack that another process runs in a folder.
func await(ctx context.Context, dir string) (env devstack.Env, err error) {
	told := false
	err = until(ctx, startLimit, func() (bool, error) {
		if !devstack.Running(dir) {
			return false, errors.New("the stack was stopped meanwhile")
		}
		var err error
		if env, err = devstack.LoadEnv(filepath.Join(dir, "env")); err == nil {
			err = client.New(env.APIURL).Do(ctx, "GET", "/health", nil, nil)
		}
		if err != nil && !told {
			fmt.Println("waiting for the stack that is being started")
			told = true
		}
		return err == nil, nil
	})
	return env, err
}
