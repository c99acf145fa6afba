package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

type upCmd struct {
	ChatNodes int    `env:"CHAT_NODES" default:"2" help:"How many chat nodes run."`
	Limits    string `env:"LIMITS" default:"normal" enum:"normal,load" help:"load lifts the rate and connection limits for a load test from one address."`
	devstack.Ports
}

// Run starts the stack and waits for Ctrl-C.
func (c *upCmd) Run(ctx context.Context) error {
	stack, err := c.start(ctx)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil // Ctrl-C while it was starting
		}
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
  temporal workflow list --address %s --namespace %s

Ctrl-C stops all of it; the data stays in .devstack/.
`, env.APIURL, env.APIURL, strings.Join(env.ChatURLs, " "), env.TemporalUIURL, env.APIURL, env.TemporalAddress, env.TemporalNamespace)
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping …")
		return nil
	case err := <-stack.Failed():
		return fmt.Errorf("%w; start it again with: make dev", err)
	}
}

func (c *upCmd) start(ctx context.Context) (*devstack.Stack, error) {
	root, err := devstack.FindRoot()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, ".devstack")
	return devstack.Start(ctx, devstack.Options{
		Root: root, Dir: dir, Cache: filepath.Join(dir, "bin"), Ports: c.Ports,
		Replicas: 2, ChatNodes: c.ChatNodes, Roles: true, Limits: c.Limits, Out: os.Stdout,
	})
}

// runningStack gives the stack that make dev runs, or starts one that stop ends.
func runningStack(ctx context.Context) (env devstack.Env, stop func(), err error) {
	root, err := devstack.FindRoot()
	if err != nil {
		return env, nil, err
	}
	env, err = devstack.LoadEnv(filepath.Join(root, ".devstack", "env"))
	if err == nil && answers(ctx, env.APIURL) {
		fmt.Println("using the stack that runs at", env.APIURL)
		return env, func() {}, nil
	}
	fmt.Println("starting a stack of its own; make dev would keep one running")
	up := upCmd{ChatNodes: 2, Limits: "normal", Ports: devstack.DefaultPorts()}
	stack, err := up.start(ctx)
	if err != nil {
		return env, nil, err
	}
	fmt.Println()
	return stack.Env, stack.Close, nil
}

func answers(ctx context.Context, api string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/health", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection can be used again
	return response.StatusCode == http.StatusOK
}
