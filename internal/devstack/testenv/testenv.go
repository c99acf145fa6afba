// Package testenv gives each test a database, a bucket, a Redis database and a
// Temporal namespace of its own on the stack that make test starts.
package testenv

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// Load gives the running test stack. Without one, the test fails.
func Load(tb testing.TB) devstack.Env {
	tb.Helper()
	file := os.Getenv(devstack.TestVariable)
	if file == "" {
		tb.Fatalf("no test stack runs; use: make test, or for this package alone: go run ./cmd/devstack test -- go test ./path/to/package")
	}
	env, err := devstack.LoadEnv(file)
	require.NoError(tb, err)
	return env
}

// Context ends with the test, or after a limit that no test should reach.
func Context(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func name() string { return "t_" + strings.ReplaceAll(uuid.NewString(), "-", "") }

// Database makes an empty database with the product's schema, and gives its URL.
func Database(tb testing.TB) string {
	tb.Helper()
	env, ctx := Load(tb), Context(tb)
	database := name()
	exec(ctx, tb, env, "CREATE DATABASE "+database+" TEMPLATE "+devstack.TemplateDatabase)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		exec(ctx, tb, env, "DROP DATABASE IF EXISTS "+database+" WITH (FORCE)")
	})
	return withPath(tb, env.DatabaseURL, database)
}

func exec(ctx context.Context, tb testing.TB, env devstack.Env, sql string) {
	tb.Helper()
	conn, err := pgx.Connect(ctx, env.DatabaseURL)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(tb, err)
}

// ReplicaURLs are where the replicas have a database.
func ReplicaURLs(tb testing.TB, database string) []string {
	tb.Helper()
	u, err := url.Parse(database)
	require.NoError(tb, err)
	var urls []string
	for _, replica := range Load(tb).DatabaseReplicaURLs {
		urls = append(urls, withPath(tb, replica, u.Path))
	}
	return urls
}

// Redis gives the URL of a Redis database that no other test uses.
func Redis(tb testing.TB) string {
	tb.Helper()
	env := Load(tb)
	options, err := redis.ParseURL(env.RedisURL)
	require.NoError(tb, err)
	c := redis.NewClient(options)
	defer func() { require.NoError(tb, c.Close()) }()
	number, err := c.Incr(Context(tb), "testenv").Result()
	require.NoError(tb, err)
	return withPath(tb, env.RedisURL, fmt.Sprint(number%4095+1))
}

// Bucket makes an empty bucket, and gives its name.
func Bucket(tb testing.TB) string {
	tb.Helper()
	bucket := "t-" + uuid.NewString()
	dir := filepath.Join(Load(tb).S3Dir, bucket)
	require.NoError(tb, os.Mkdir(dir, 0o755))
	tb.Cleanup(func() { _ = os.RemoveAll(dir) }) // the gateway may still write
	return bucket
}

// Namespace makes a Temporal namespace with the product's search attributes, and
// gives its name.
func Namespace(tb testing.TB) string {
	tb.Helper()
	env := Load(tb)
	return NamespaceAt(tb, env.TemporalAddress)
}

// NamespaceAt is Namespace on another server.
func NamespaceAt(tb testing.TB, address string) string {
	tb.Helper()
	ctx := Context(tb)
	c, err := client.DialContext(ctx, client.Options{HostPort: address})
	require.NoError(tb, err)
	defer c.Close()
	namespace := name()
	_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	require.NoError(tb, err)
	root, err := devstack.FindRoot()
	require.NoError(tb, err)
	config, err := devstack.LoadTemporalConfig(root)
	require.NoError(tb, err)
	attributes := map[string]enums.IndexedValueType{}
	for attribute, kind := range config.SearchAttributes {
		attributes[attribute], err = enums.IndexedValueTypeFromString(kind)
		require.NoError(tb, err)
	}
	require.Eventually(tb, func() bool {
		_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: attributes})
		return err == nil || strings.Contains(err.Error(), "already exist")
	}, 30*time.Second, 100*time.Millisecond, "the namespace is not there")
	return namespace
}

func withPath(tb testing.TB, address, path string) string {
	tb.Helper()
	u, err := url.Parse(address)
	require.NoError(tb, err)
	u.Path = "/" + strings.TrimPrefix(path, "/")
	return u.String()
}
