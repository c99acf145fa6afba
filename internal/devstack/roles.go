package devstack

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
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
	vars := append(env.Variables(), "LISTEN="+address, "SCRATCH_DIR="+filepath.Join(dir, "scratch-"+name))
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
const WorkerQueues = "stream,notify,archive,payment"

// migrate brings the database's schema up to date; for tests a template too, of
// which each makes its own database.
func (s *Stack) migrate(ctx context.Context) (string, error) {
	urls := []string{s.Env.DatabaseURL}
	if s.options.Test {
		template := strings.TrimSuffix(s.Env.DatabaseURL, "/livestream") + "/" + TemplateDatabase
		if err := createDatabase(ctx, s.Env.DatabaseURL, TemplateDatabase); err != nil {
			return "", err
		}
		urls = append(urls, template)
	}
	for _, url := range urls {
		if err := run(ctx, nil, []string{"DATABASE_URL=" + url}, s.Env.Binary, "migrate"); err != nil {
			return "", err
		}
	}
	return "", nil
}

// roles starts the product's processes and watches over them.
func (s *Stack) roles(ctx context.Context) error {
	roles := []*Role{
		NewRole(s.Env, s.options.Dir, "api", address(s.options.Ports.API), []string{"api"}, "LIMITS="+s.options.Limits),
		NewRole(s.Env, s.options.Dir, "worker", address(s.options.Ports.Worker), []string{"worker", "--queues", WorkerQueues}),
		NewRole(s.Env, s.options.Dir, "transcode", address(s.options.Ports.Worker+1), []string{"worker", "--queues", "transcode"}),
	}
	for i, url := range s.Env.ChatURLs {
		name := fmt.Sprintf("chat-%d", i+1)
		roles = append(roles, NewRole(s.Env, s.options.Dir, name, strings.TrimPrefix(url, "ws://"), []string{"chat"}, "LIMITS="+s.options.Limits))
	}
	group, parallel := errgroup.WithContext(ctx)
	for _, role := range roles {
		group.Go(func() error {
			return s.step(parallel, role.Name, func(ctx context.Context) (string, error) {
				if err := s.launch(role.Process); err != nil {
					return "", err
				}
				return role.Address, role.Ready(ctx)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, role := range roles {
		s.guards.Add(1)
		go func() {
			defer s.guards.Done()
			s.guard(role)
		}()
	}
	return nil
}

// restartPause keeps a role that cannot start from doing nothing else.
const restartPause = time.Second

// guard starts a role again when it dies.
func (s *Stack) guard(role *Role) {
	for {
		select {
		case <-role.Done():
		case <-s.stopping:
			return
		}
		s.printf("  died %-22s %s; it is started again\n", role.Name, role.lastWords())
		select {
		case <-time.After(restartPause):
		case <-s.stopping:
			return
		}
		if err := role.Start(); err != nil {
			s.printf("  fail %-22s %v\n", role.Name, err)
			continue
		}
		if err := role.Ready(context.Background()); err == nil {
			s.printf("  ok   %-22s %s\n", role.Name, role.Address)
		}
	}
}
