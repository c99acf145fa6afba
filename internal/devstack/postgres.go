package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresUser is the account of the database.
const postgresUser = "livestream"

// TemplateDatabase is a migrated database of a stack for tests, which each test
// copies.
const TemplateDatabase = "livestream_template"

// cluster is a Postgres primary and the replicas that stream from it.
type cluster struct {
	stack    *Stack
	dir      string
	owner    *syscall.Credential
	programs map[string]string
}

// postgres starts a primary and its streaming replicas.
func (s *Stack) postgres(ctx context.Context) error {
	c, err := s.newCluster("postgres")
	if err != nil {
		return err
	}
	if err := c.primary(ctx); err != nil {
		return err
	}
	for i := range s.ports.replicas {
		if err := c.replica(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// newCluster prepares a cluster in a folder of the stack.
func (s *Stack) newCluster(folder string) (*cluster, error) {
	c := &cluster{stack: s, dir: filepath.Join(s.options.Dir, folder), programs: map[string]string{}}
	var err error
	if c.owner, err = postgresOwner(); err != nil {
		return nil, err
	}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	for _, name := range []string{"initdb", "postgres", "pg_basebackup"} {
		if c.programs[name], err = postgresProgram(name); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// server starts one that is nobody's replica.
func (c *cluster) server(ctx context.Context, name, folder string, port int) error {
	dir := filepath.Join(c.dir, folder)
	err := c.once(dir, func(dir string) error {
		return c.stack.run(ctx, c.owner, c.programs["initdb"], "-D", dir, "-U", postgresUser, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	})
	if err == nil {
		_, err = c.start(ctx, name, dir, port)
	}
	return err
}

func (c *cluster) primary(ctx context.Context) error {
	port := c.stack.ports.postgres
	if err := c.server(ctx, "postgres", "primary", port); err != nil {
		return err
	}
	databases := []string{"livestream"}
	if c.stack.options.Test {
		databases = append(databases, TemplateDatabase)
	}
	conn, err := pgx.Connect(ctx, postgresURL(port, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, name := range databases {
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil {
			return fmt.Errorf("look for database %s: %w", name, err)
		}
		if there {
			continue
		}
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	c.stack.Env.DatabaseURL = postgresURL(port, "livestream")
	return nil
}

// replica starts one replica and waits until it streams. One that cannot follow
// any more, because the primary has dropped what it lacks, is copied anew.
func (c *cluster) replica(ctx context.Context, i int) error {
	name, slot := fmt.Sprintf("replica-%d", i+1), fmt.Sprintf("replica_%d", i+1)
	dir, port := filepath.Join(c.dir, name), c.stack.ports.replicas[i]
	conn, err := pgx.Connect(ctx, postgresURL(c.stack.ports.postgres, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var usable bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND wal_status <> 'lost')", slot).Scan(&usable)
	if err != nil {
		return fmt.Errorf("look for replication slot %s: %w", slot, err)
	}
	if !usable {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an old %s: %w", name, err)
		}
	}
	err = c.once(dir, func(dir string) error {
		// A copy that was broken off has left its slot.
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", slot); err != nil {
			return fmt.Errorf("drop replication slot %s: %w", slot, err)
		}
		return c.stack.run(ctx, c.owner, c.programs["pg_basebackup"], "-h", "127.0.0.1", "-p", strconv.Itoa(c.stack.ports.postgres), "-U", postgresUser,
			"-D", dir, "-R", "-X", "stream", "-C", "-S", slot, "-c", "fast", "--no-sync")
	})
	if err != nil {
		return err
	}
	// The primary's port may have changed since the copy was made.
	source := fmt.Sprintf("primary_conninfo=host=127.0.0.1 port=%d user=%s application_name=%s", c.stack.ports.postgres, postgresUser, slot)
	p, err := c.start(ctx, name, dir, port, "-c", source)
	if err != nil {
		return err
	}
	c.stack.Env.DatabaseReplicaURLs = append(c.stack.Env.DatabaseReplicaURLs, postgresURL(port, "livestream"))
	return p.await(ctx, 30*time.Second, func(ctx context.Context) error {
		var streams bool
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming')", slot).Scan(&streams)
		if err == nil && !streams {
			err = errors.New("it does not stream from the primary")
		}
		return err
	})
}

// once makes a data folder that is not there yet. It has its name only when it is
// whole.
func (c *cluster) once(dir string, create func(dir string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	unfinished := dir + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("remove what an earlier start left: %w", err)
	}
	if err := create(unfinished); err != nil {
		return err
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return fmt.Errorf("make a data folder: %w", err)
	}
	return nil
}

// start runs one server and waits until it answers.
func (c *cluster) start(ctx context.Context, name, dir string, port int, args ...string) (*Process, error) {
	args = append([]string{
		"-D", dir, "-p", strconv.Itoa(port), "-h", "127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "max_connections=400", "-c", "shared_buffers=256MB",
		"-c", "wal_level=replica", "-c", "max_wal_senders=10", "-c", "hot_standby_feedback=on",
		"-c", "wal_keep_size=256MB", "-c", "max_slot_wal_keep_size=2GB",
	}, args...)
	if c.stack.options.Test {
		// What a test wrote need not survive the machine, only its processes: a commit is
		// with the kernel before it is acknowledged.
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	p := &Process{Name: name, Path: c.programs["postgres"], Args: args, Dir: c.stack.options.Dir, User: c.owner, StopSignal: syscall.SIGINT}
	if err := gone(ctx, name, filepath.Join(dir, "postmaster.pid"), p.Path); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(goneLimit); ; {
		err := c.stack.launch(ctx, p, 60*time.Second, answers(postgresURL(port, "postgres")))
		if err == nil || !strings.Contains(err.Error(), leftoverHint) || time.Now().After(deadline) {
			return p, err
		}
	}
}

// leftoverHint is Postgres's last word when it finds connections of a predecessor
// that was killed; they notice that shortly after.
const leftoverHint = "Terminate any old server processes"

func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
}

func (c *cluster) makeDir() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("the databases' folder: %w", err)
	}
	if c.owner == nil {
		return nil
	}
	return os.Chown(c.dir, int(c.owner.Uid), int(c.owner.Gid))
}

func postgresURL(port int, database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s", postgresUser, address(port), database)
}

// postgresOwner is who runs Postgres, which refuses to be root.
func postgresOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("a Postgres does not run as root, and there is no account postgres: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account postgres: %w", err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
