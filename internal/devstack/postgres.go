package devstack

import (
	"context"
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

// postgres starts a primary and its streaming replicas, and gives their URLs.
func (s *Stack) postgres(ctx context.Context) error {
	owner, err := postgresOwner()
	if err != nil {
		return err
	}
	if s.pgDir, err = s.postgresDir(owner); err != nil {
		return err
	}
	programs := map[string]string{}
	for _, name := range []string{"initdb", "postgres", "pg_basebackup"} {
		if programs[name], err = postgresProgram(name); err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
	}
	primary := filepath.Join(s.pgDir, "primary")
	if _, err := os.Stat(filepath.Join(primary, "PG_VERSION")); err != nil {
		err := run(ctx, owner, nil, programs["initdb"], "-D", primary, "-U", postgresUser, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
		if err != nil {
			return err
		}
	}
	ports := s.options.Ports
	url := func(port int, database string) string {
		return fmt.Sprintf("postgres://%s@%s/%s", postgresUser, address(port), database)
	}
	if err := s.startPostgres(ctx, "postgres", programs["postgres"], primary, ports.Postgres, owner); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url(ports.Postgres, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = 'livestream')").Scan(&there); err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if !there {
		if _, err := conn.Exec(ctx, "CREATE DATABASE livestream"); err != nil {
			return fmt.Errorf("create the database: %w", err)
		}
	}
	s.Env.DatabaseURL = url(ports.Postgres, "livestream")
	for i := range s.options.Replicas {
		name := fmt.Sprintf("replica-%d", i+1)
		dir := filepath.Join(s.pgDir, name)
		port, err := take(s.replicaPort(i), "Postgres "+name, "POSTGRES_PORT")
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err != nil {
			slot := fmt.Sprintf("replica_%d", i+1)
			// A copy that was broken off may have left its slot.
			if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active", slot); err != nil {
				return fmt.Errorf("drop an old replication slot: %w", err)
			}
			_ = os.RemoveAll(dir) // pg_basebackup says so when this did not work
			err := run(ctx, owner, nil, programs["pg_basebackup"], "-h", "127.0.0.1", "-p", strconv.Itoa(ports.Postgres), "-U", postgresUser,
				"-D", dir, "-R", "-X", "stream", "-C", "-S", slot, "-c", "fast", "--no-sync")
			if err != nil {
				return err
			}
		}
		if err := s.startPostgres(ctx, name, programs["postgres"], dir, port, owner); err != nil {
			return err
		}
		s.Env.DatabaseReplicaURLs = append(s.Env.DatabaseReplicaURLs, url(port, "livestream"))
	}
	return nil
}

func (s *Stack) replicaPort(i int) int {
	if s.options.Test {
		return 0
	}
	return s.options.Ports.Postgres + 1 + i
}

func (s *Stack) startPostgres(ctx context.Context, name, program, dir string, port int, owner *syscall.Credential) error {
	args := []string{
		"-D", dir, "-p", strconv.Itoa(port), "-h", "127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "max_connections=400", "-c", "shared_buffers=256MB",
		"-c", "wal_level=replica", "-c", "max_wal_senders=10", "-c", "hot_standby_feedback=on",
		"-c", "wal_keep_size=256MB", "-c", "max_slot_wal_keep_size=2GB",
	}
	if s.options.Test {
		// What a test wrote need not survive the machine.
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	p := &Process{Name: name, Path: program, Args: args, Dir: s.options.Dir, User: owner, StopSignal: syscall.SIGINT}
	if err := s.launch(p); err != nil {
		return err
	}
	return p.await(ctx, 60*time.Second, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://%s@%s/postgres", postgresUser, address(port)))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// postgresOwner is who runs Postgres, which refuses to be root.
func postgresOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("Postgres does not run as root, and there is no account postgres: %w", err)
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

// postgresDir is the databases' folder, for its owner to write. Below a folder
// that others may not enter, such as root's home, it lies in the system's folder
// for temporary files that are kept.
func (s *Stack) postgresDir(owner *syscall.Credential) (string, error) {
	dir := filepath.Join(s.options.Dir, "postgres")
	if owner == nil {
		return dir, os.MkdirAll(dir, 0o700)
	}
	for up := filepath.Dir(dir); up != "/"; up = filepath.Dir(up) {
		info, err := os.Stat(up)
		if err != nil {
			return "", fmt.Errorf("the databases' folder: %w", err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			dir = filepath.Join("/var/tmp", "livestream"+strings.ReplaceAll(s.options.Dir, "/", "-"))
			break
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("the databases' folder: %w", err)
	}
	return dir, os.Chown(dir, int(owner.Uid), int(owner.Gid))
}
