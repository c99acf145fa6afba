package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"
	"gopkg.in/yaml.v3"
)

// temporalStores are the databases of a Temporal on Postgres, by the schemas that
// its tool brings along.
var temporalStores = []string{"temporal", "visibility"}

func temporalDatabase(store string) string { return "temporal_" + store }

// temporalOnPostgres starts Temporal as production runs it, on a Postgres of its own,
// instead of the development server: that one keeps everything in one file of SQLite,
// and load queues up before it.
func (s *Stack) temporalOnPostgres(ctx context.Context) error {
	config, err := LoadTemporalConfig(s.options.Root)
	if err != nil {
		return err
	}
	if s.Env.TemporalCLI, err = s.tool(ctx, "temporal"); err != nil {
		return err
	}
	server, err := s.tool(ctx, "temporal-server")
	if err != nil {
		return err
	}
	port, err := s.temporalDatabases(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.options.Dir, "temporal")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := temporalFiles(ctx, config, dir, s.ports.temporal, port)
	if err != nil {
		return err
	}
	for name, content := range files {
		text, err := yaml.Marshal(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	s.Env.TemporalAddress, s.Env.TemporalNamespace = address(s.ports.temporal), config.Namespace
	p := &Process{Name: "temporal", Path: server, Dir: s.options.Dir, StopSignal: syscall.SIGINT, Args: []string{
		"--root", dir, "--config", ".", "--env", "server", "--allow-no-auth", "start",
	}, Env: []string{"GOGC=400"}} // it has some 100 MB, and the collector would take a fifth of its time
	return s.launch(ctx, p, temporalLimit, func(ctx context.Context) error { return makeNamespace(ctx, s.Env.TemporalAddress, config) })
}

// temporalDatabases starts their server, and brings their schemas up to date.
func (s *Stack) temporalDatabases(ctx context.Context) (port int, err error) {
	tool, err := s.tool(ctx, "temporal-sql-tool")
	if err != nil {
		return 0, err
	}
	c, err := s.newCluster("temporal-postgres")
	if err != nil {
		return 0, err
	}
	if port, err = freePort(ctx); err != nil {
		return 0, err
	}
	if err := c.server(ctx, "temporal-postgres", "primary", port); err != nil {
		return 0, err
	}
	conn, err := pgx.Connect(ctx, postgresURL(port, "postgres"))
	if err != nil {
		return 0, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, store := range temporalStores {
		database := temporalDatabase(store)
		run := func(args ...string) error {
			return s.run(ctx, nil, tool, append([]string{
				"--plugin", "postgres12", "--endpoint", "127.0.0.1", "--port", fmt.Sprint(port), "--user", postgresUser, "--database", database,
			}, args...)...)
		}
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there); err != nil {
			return 0, fmt.Errorf("look for database %s: %w", database, err)
		}
		if !there {
			if _, err := conn.Exec(ctx, "CREATE DATABASE "+database); err != nil {
				return 0, fmt.Errorf("create database %s: %w", database, err)
			}
			if err := run("setup-schema", "--version", "0.0"); err != nil {
				return 0, err
			}
		}
		if err := run("update-schema", "--schema-name", "postgresql/v12/"+store); err != nil {
			return 0, err
		}
	}
	return port, nil
}

// temporalFiles are the server's files: all of its services in one process, and the
// development server's dynamic configuration.
func temporalFiles(ctx context.Context, config TemporalConfig, dir string, port, postgres int) (map[string]any, error) {
	type tree = map[string]any
	stores, services := tree{}, tree{}
	for _, store := range temporalStores {
		stores[store] = tree{"sql": tree{
			"pluginName": "postgres12", "databaseName": temporalDatabase(store), "connectAddr": address(postgres), "connectProtocol": "tcp",
			"user": postgresUser, "maxConns": 30, "maxIdleConns": 30, "maxConnLifetime": "1h",
		}}
	}
	for _, service := range []string{"frontend", "history", "matching", "worker"} {
		rpc := tree{"bindOnLocalHost": true}
		for _, name := range []string{"grpcPort", "membershipPort"} {
			listener, err := listenAnywhere(ctx)
			if err != nil {
				return nil, err
			}
			defer listener.Close() // all are held until the last one is there
			rpc[name] = listener.Addr().(*net.TCPAddr).Port
		}
		services[service] = tree{"rpc": rpc}
	}
	services["frontend"].(tree)["rpc"].(tree)["grpcPort"] = port

	dynamic := tree{}
	for key, value := range config.DynamicConfig {
		if text, ok := value.(string); ok { // what the command takes is JSON
			value = strings.Trim(text, `"`)
		}
		dynamic[key] = []tree{{"value": value}}
	}
	cluster := tree{"enabled": true, "initialFailoverVersion": 1, "rpcName": "frontend", "rpcAddress": address(port)}
	return map[string]any{
		"dynamic.yaml": dynamic,
		"server.yaml": tree{
			"log": tree{"stdout": true, "level": "warn"},
			"persistence": tree{
				"defaultStore": "temporal", "visibilityStore": "visibility", "numHistoryShards": 8, "datastores": stores,
			},
			"global":   tree{"membership": tree{"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
			"services": services,
			"clusterMetadata": tree{
				"failoverVersionIncrement": 10, "masterClusterName": "active", "currentClusterName": "active",
				"clusterInformation": tree{"active": cluster},
			},
			"dynamicConfigClient": tree{"filepath": filepath.Join(dir, "dynamic.yaml"), "pollInterval": "10s"},
		},
	}, nil
}

// makeNamespace makes the product's namespace with its search attributes; it may be
// there.
func makeNamespace(ctx context.Context, address string, config TemporalConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{HostPort: address, Logger: silent})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: config.Namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if there := new(serviceerror.NamespaceAlreadyExists); err != nil && !errors.As(err, &there) {
		return err
	}
	attributes := map[string]enums.IndexedValueType{}
	for name, kind := range config.SearchAttributes {
		if attributes[name], err = enums.IndexedValueTypeFromString(kind); err != nil {
			return err
		}
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: config.Namespace, SearchAttributes: attributes})
	if there := new(serviceerror.AlreadyExists); err != nil && !errors.As(err, &there) {
		return err
	}
	_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: config.Namespace})
	return err
}
