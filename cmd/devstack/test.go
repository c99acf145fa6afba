package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

type testCmd struct {
	Command []string `arg:"" passthrough:"" help:"The command, with its arguments; it finds the stack by LIVESTREAM_STACK."`
}

// Run starts the servers on free ports, runs the command and gives its exit code.
func (c *testCmd) Run(ctx context.Context) (err error) {
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return errors.New("the command is missing, as in: devstack test -- go test ./chat/")
	}
	root, err := devstack.FindRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "livestream-test-")
	if err != nil {
		return fmt.Errorf("make a folder for the test stack: %w", err)
	}
	defer func() { sweep(dir, err != nil) }()
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres runs as another user
		return fmt.Errorf("make a folder for the test stack: %w", err)
	}
	stack, err := devstack.Start(ctx, devstack.Options{
		Root: root, Dir: dir, Cache: filepath.Join(root, ".devstack", "bin"), Replicas: 2, Test: true, Migrate: migrate, Out: os.Stderr,
	})
	if err != nil {
		return fmt.Errorf("the test stack did not start: %w", err)
	}
	defer stack.Close()
	return beside(ctx, stack, command)
}

// beside runs a command until it ends, is interrupted, or has lost a server.
func beside(ctx context.Context, stack *devstack.Stack, command []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), devstack.TestVariable+"="+filepath.Join(stack.Env.Dir, "env"))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// go test does not pass a signal on to its tests, so all of them get it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // what it left behind
	go func() {
		select {
		case err := <-stack.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// sweep removes a test stack's folder. After a failure its logs stay.
func sweep(dir string, failed bool) {
	entries, _ := os.ReadDir(dir) // without them nothing is removed
	for _, entry := range entries {
		if !failed || entry.Name() != "log" {
			_ = os.RemoveAll(filepath.Join(dir, entry.Name()))
		}
	}
	_ = os.Remove(dir) // not when logs stay
}

func migrate(ctx context.Context, url string) error { return postgres.Migrate(ctx, url, nil) }
