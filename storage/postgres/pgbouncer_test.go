package postgres_test

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// pooler is how TestThroughPgBouncer tells the suite that it runs where to go.
var pooler = flag.String("pooler", "", "address of a PgBouncer before the stack's primary, which the stores go through")

// pooled leads a URL of the stack's primary through the pooler, if there is one.
func pooled(tb testing.TB, database string) string {
	tb.Helper()
	primary, err := url.Parse(testenv.Load(tb).DatabaseURL)
	require.NoError(tb, err)
	return strings.Replace(database, "@"+primary.Host+"/", "@"+*pooler+"/", 1)
}

const pgbouncerINI = `
[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = trust
auth_file = %s
admin_users = livestream
pool_mode = transaction
default_pool_size = 4
max_client_conn = 1000
server_idle_timeout = 5
`

// startPgBouncer runs a PgBouncer in transaction mode before the stack's primary.
func startPgBouncer(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	require.NoError(t, err, "PgBouncer is missing; install it with: apt-get install pgbouncer")
	address, err = devstack.FreeAddress(t.Context())
	require.NoError(t, err)
	primary, err := url.Parse(testenv.Load(t).DatabaseURL)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "livestream-pgbouncer-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, sub := range []string{"log", "run"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	users, ini := filepath.Join(dir, "users.txt"), filepath.Join(dir, "pgbouncer.ini")
	_, port, _ := strings.Cut(address, ":")
	require.NoError(t, os.WriteFile(users, []byte(`"livestream" ""`), 0o644))
	require.NoError(t, os.WriteFile(ini, fmt.Appendf(nil, pgbouncerINI, primary.Hostname(), primary.Port(), port, users), 0o644))
	owner, err := devstack.PostgresOwner()
	require.NoError(t, err)
	p := &devstack.Process{Name: "pgbouncer", Path: program, Args: []string{ini}, Dir: dir, User: owner}
	require.NoError(t, p.Start())
	t.Cleanup(p.Kill)
	return address
}

// S5: all that the stores promise holds behind a PgBouncer in transaction mode.
func TestThroughPgBouncer(t *testing.T) {
	t.Parallel()
	if *pooler != "" {
		return // this is the run below
	}
	address, ctx := startPgBouncer(t), testenv.Context(t)
	console, err := pgx.ParseConfig("postgres://livestream@" + address + "/pgbouncer")
	require.NoError(t, err)
	console.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // it knows no other
	var admin *pgx.Conn
	require.Eventually(t, func() bool {
		admin, err = pgx.ConnectConfig(ctx, console)
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	defer admin.Close(context.Background())

	// Tests of migrations and of replicas go to the servers themselves.
	suite := exec.CommandContext(ctx, os.Args[0], "-test.skip=^(TestThroughPgBouncer|TestReplicas|TestEveryQueryReadsAnIndex|TestMigrate.*)$", "-test.count=1", "-test.v", "-pooler="+address)
	output, err := suite.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Greater(t, strings.Count(string(output), "\n--- PASS"), 50, "%s", output)

	rows, err := admin.Query(ctx, "SHOW TOTALS")
	require.NoError(t, err)
	totals := map[string]int64{}
	var name string
	var value pgtype.Numeric
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		n, err := value.Int64Value()
		totals[name] = n.Int64
		return err
	})
	require.NoError(t, err)
	require.Greater(t, totals["total_xact_count"], int64(1000), "they went through it: %v", totals)
}
