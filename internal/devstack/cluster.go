package devstack

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Cluster is a Postgres primary with its replicas and nothing else, for tests and
// benchmarks that kill them, hold them back or fill them.
type Cluster struct {
	PrimaryURL  string
	ReplicaURLs []string
	// Replicas are their processes, in the same order.
	Replicas []*Process

	stack *Stack
}

// StartCluster starts a cluster in a folder, on free ports. It is as little durable
// as a stack for tests.
func StartCluster(ctx context.Context, dir string, replicas int) (_ *Cluster, err error) {
	s := &Stack{options: Options{Dir: dir, Replicas: replicas, Test: true, Out: io.Discard}, failed: make(chan error, 1), stopping: make(chan struct{})}
	for _, dir := range []string{filepath.Join(dir, "run"), filepath.Join(dir, "log")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the cluster's folder: %w", err)
		}
	}
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.ports, err = claim(ctx, s.options); err != nil {
		return nil, err
	}
	if err := s.postgres(ctx); err != nil {
		return nil, err
	}
	return &Cluster{PrimaryURL: s.Env.DatabaseURL, ReplicaURLs: s.Env.DatabaseReplicaURLs, Replicas: s.processes[1:], stack: s}, nil
}

// KillPrimary ends the primary at once, as a crash would.
func (c *Cluster) KillPrimary() { c.stack.processes[0].Kill() }

// RestartPrimary starts the primary again, and waits until it answers. It does not
// start as long as connections of the one that was killed are there, which notice
// that shortly after.
func (c *Cluster) RestartPrimary(ctx context.Context) error {
	primary := c.stack.processes[0]
	for deadline := time.Now().Add(goneLimit); ; {
		if err := primary.Start(); err != nil {
			return err
		}
		err := primary.await(ctx, time.Minute, answers(postgresURL(c.stack.ports.postgres, "postgres")))
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}

// Close stops all of it.
func (c *Cluster) Close() { c.stack.Close() }

// PostgresOwner is who runs Postgres, and programs that like it refuse to be root;
// nil is the caller.
func PostgresOwner() (*syscall.Credential, error) { return postgresOwner() }
