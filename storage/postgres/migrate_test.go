package postgres_test

import (
	"context"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// emptyDatabase makes a database with nothing in it.
func emptyDatabase(tb testing.TB) string {
	tb.Helper()
	base := testenv.Load(tb).DatabaseURL
	name := "t_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec := func(sql string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, base)
		require.NoError(tb, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, sql)
		require.NoError(tb, err)
	}
	exec("CREATE DATABASE " + name)
	tb.Cleanup(func() { exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)") })
	address, err := url.Parse(base)
	require.NoError(tb, err)
	address.Path = "/" + name
	return address.String()
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	database, ctx := emptyDatabase(t), testenv.Context(t)

	var steps []string
	log := func(step string) { steps = append(steps, step) }
	require.NoError(t, postgres.Migrate(ctx, database, log))
	files, err := filepath.Glob("migrations/*.sql")
	require.NoError(t, err)
	require.Len(t, steps, len(files))
	require.Contains(t, steps[0], "00001_users.sql", "a step names its file")

	steps = nil
	require.NoError(t, postgres.Migrate(ctx, database, log))
	require.Empty(t, steps, "the second time nothing is left to do")

	storeAt(t, postgres.Config{URL: database}).MustCreateUser(t)
}

func TestMigrateByManyAtOnce(t *testing.T) {
	t.Parallel()
	database, ctx := emptyDatabase(t), testenv.Context(t)
	steps := make([]int, 5)
	for _, err := range race(len(steps), func(i int) error {
		return postgres.Migrate(ctx, database, func(string) { steps[i]++ })
	}) {
		require.NoError(t, err)
	}
	files, err := filepath.Glob("migrations/*.sql")
	require.NoError(t, err)
	slices.Sort(steps)
	require.Equal(t, []int{0, 0, 0, 0, len(files)}, steps, "one of them does it all, and the others wait")
	storeAt(t, postgres.Config{URL: database}).MustCreateUser(t)
}

func TestMigrateWithoutServer(t *testing.T) {
	t.Parallel()
	require.Error(t, postgres.Migrate(testenv.Context(t), "postgres://%", nil))
	err := postgres.Migrate(testenv.Context(t), "postgres://user@"+closedPort(t)+"/db", nil)
	requireCode(t, livestream.CodeUnavailable, err)
}
