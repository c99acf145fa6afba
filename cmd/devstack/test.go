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
)

type testCmd struct {
	Command []string `arg:"" passthrough:"" help:"The command, with its arguments; it finds the stack by LIVESTREAM_STACK."`
}

// Run starts the servers on free ports, runs the command and gives its exit code.
func (c *testCmd) Run(ctx context.Context) error {
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return errors.New("which command? For example: devstack test -- go test ./...")
	}
	root, err := devstack.FindRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "livestream-test-")
	if err != nil {
		return fmt.Errorf("make a folder for the test stack: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres runs as another user
		return fmt.Errorf("make a folder for the test stack: %w", err)
	}
	stack, err := devstack.Start(ctx, devstack.Options{
		Root: root, Dir: dir, Cache: filepath.Join(root, ".devstack", "bin"), Replicas: 2, Test: true, Out: os.Stderr,
	})
	if err != nil {
		return fmt.Errorf("the test stack did not start: %w", err)
	}
	defer stack.Close()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), devstack.TestVariable+"="+filepath.Join(dir, "env"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}
