package devstack

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// Role is one process of the product. It can be killed and started again on its
// port.
type Role struct {
	*Process
	Address string
}

// NewRole prepares a role. dir is the folder for its log and pid; overrides are
// variables that replace those of env.
func NewRole(env Env, dir, name, address string, args []string, overrides ...string) *Role {
	// Nothing stands before the roles that would have to notice that one drains.
	vars := append(env.Variables(), "VAPID_CONTACT=mailto:operator@example.com", "WEB_PUSH_ALLOW_LOOPBACK=true", "LISTEN="+address, "SCRATCH_DIR="+filepath.Join(dir, "scratch-"+name), "DRAIN_NOTICE=0s")
	return &Role{
		Process: &Process{Name: name, Path: env.Binary, Args: args, Env: append(vars, overrides...), Dir: dir},
		Address: address,
	}
}

// Launch starts the role and waits until it is healthy.
func (r *Role) Launch(ctx context.Context) error {
	if err := r.Start(); err != nil {
		return err
	}
	return r.Ready(ctx)
}

// Ready waits until the role is healthy.
func (r *Role) Ready(ctx context.Context) error {
	return r.await(ctx, 60*time.Second, healthy("http://"+r.Address+"/health"))
}

// WorkerQueues are the queues of the role worker; the role transcode has its own.
const WorkerQueues = "stream,notify,archive,payment,push"

// roles starts the product's processes and watches over them.
func (s *Stack) roles(ctx context.Context) error {
	limits := "LIMITS=" + s.options.Limits
	roles := []*Role{
		NewRole(s.Env, s.options.Dir, "api", address(s.ports.api), []string{"api"}, limits),
		NewRole(s.Env, s.options.Dir, "worker", address(s.ports.worker), []string{"worker", "--queues", WorkerQueues}),
		NewRole(s.Env, s.options.Dir, "transcode", address(s.ports.transcode), []string{"worker", "--queues", "transcode"}),
	}
	for i, port := range s.ports.chat {
		roles = append(roles, NewRole(s.Env, s.options.Dir, fmt.Sprintf("chat-%d", i+1), address(port), []string{"chat"}, limits))
	}
	group, parallel := errgroup.WithContext(ctx)
	for _, role := range roles {
		group.Go(func() error {
			return s.step(parallel, role.Name, role.Address, func(ctx context.Context) error {
				if err := s.start(ctx, role.Process); err != nil {
					return err
				}
				return role.Ready(ctx)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.guard(ctx, roles)
	return nil
}

// A role that dies is started again at once; one that goes on dying, ever later.
const (
	restartPause    = time.Second
	restartPauseMax = 30 * time.Second
)

// guard watches over roles until the stack is stopped.
func (s *Stack) guard(ctx context.Context, roles []*Role) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		<-s.stopping
		cancel()
	}()
	for _, role := range roles {
		s.guards.Go(func() { s.revive(ctx, role) })
	}
}

// revive starts a role again whenever it dies.
func (s *Stack) revive(ctx context.Context, role *Role) {
	pause, began := restartPause, time.Now()
	for {
		select {
		case <-role.Done():
		case <-ctx.Done():
			return
		}
		if time.Since(began) > restartPauseMax {
			pause = restartPause
		}
		s.printf("  died %-22s %v; it is started again in %s\n", role.Name, role.ended(), pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause, began = min(2*pause, restartPauseMax), time.Now()
		if err := role.Start(); err != nil {
			s.printf("  fail %-22s %v\n", role.Name, err)
			continue
		}
		if err := role.Ready(ctx); err == nil {
			s.printf("  ok   %-22s %-22s again\n", role.Name, role.Address)
		}
	}
}
