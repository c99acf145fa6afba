package e2e

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// stack is the product as processes of its own, on servers that it shares with
// other tests: the database, the bucket and the rest are its own.
type stack struct {
	*testing.T
	ctx      context.Context
	env      devstack.Env
	stripe   *stripesim.Server
	temporal client.Client
	db       *pgxpool.Pool

	variables []string

	api, worker, transcode, chat1, chat2 *devstack.Role
}

// patience is how long a condition may take. A worker that died is noticed by its
// steps' timeouts, and the machine may be busy with other tests.
var patience = flag.Duration("patience", 3*time.Minute, "how long a condition may take")

// Sets of roles: not every test needs all of them.
const (
	api = 1 << iota
	worker
	transcode
	chat

	everything = api | worker | transcode | chat
)

// newStack starts the roles of the product that are asked for. What changes the
// environment does so before they start.
func newStack(t *testing.T, roles int, changes ...func(*devstack.Env)) *stack {
	return newStackOn(t, place{}, roles, changes...)
}

// place is what a test has of its own instead of what tests share.
type place struct {
	temporal  *devstack.Temporal
	database  string   // which is migrated, and has no replicas
	variables []string // that replace those of the roles
}

// newStackOn is newStack on servers of the test's own.
func newStackOn(t *testing.T, own place, wanted int, changes ...func(*devstack.Env)) *stack {
	t.Helper()
	s := &stack{T: t, ctx: lasting(t), env: testenv.Load(t)}
	s.env.Dir = scratch(t)
	s.variables = own.variables
	if own.database == "" {
		s.env.DatabaseURL = testenv.Database(t)
		s.env.DatabaseReplicaURLs = testenv.ReplicaURLs(t, s.env.DatabaseURL)
	} else {
		s.env.DatabaseURL, s.env.DatabaseReplicaURLs = own.database, nil
	}
	s.env.RedisURL = testenv.Redis(t)
	s.env.S3Bucket = testenv.Bucket(t)
	if own.temporal == nil {
		s.env.TemporalNamespace = testenv.Namespace(t)
	} else {
		s.env.TemporalAddress, s.env.TemporalNamespace = own.temporal.Address, own.temporal.Namespace
	}
	for _, change := range changes {
		change(&s.env)
	}
	s.env.APIURL = "http://" + free(t)
	s.env.ChatURLs = []string{"ws://" + free(t), "ws://" + free(t)}

	var err error
	s.stripe, err = stripesim.New(stripesim.Config{
		WebhookURL: s.env.APIURL + "/api/webhooks/stripe", WebhookSecret: s.env.StripeWebhookSecret,
		Journal: filepath.Join(s.env.Dir, "stripesim.jsonl"),
	})
	require.NoError(t, err)
	t.Cleanup(s.stripe.Close)
	stripe := httptest.NewUnstartedServer(s.stripe)
	stripe.Config.ErrorLog = log.New(io.Discard, "", 0) // it cuts connections on demand
	stripe.Start()
	t.Cleanup(stripe.Close)
	s.env.StripeAPIBase = stripe.URL

	s.db, err = pgxpool.New(s.ctx, s.env.DatabaseURL)
	require.NoError(t, err)
	t.Cleanup(s.db.Close)
	s.dialTemporal()

	s.api = s.role("api", strings.TrimPrefix(s.env.APIURL, "http://"), "api")
	s.worker = s.role("worker", free(t), "worker", "--queues", devstack.WorkerQueues)
	s.transcode = s.role("transcode", free(t), "worker", "--queues", "transcode")
	s.chat1 = s.role("chat-1", strings.TrimPrefix(s.env.ChatURLs[0], "ws://"), "chat")
	s.chat2 = s.role("chat-2", strings.TrimPrefix(s.env.ChatURLs[1], "ws://"), "chat")
	var roles []*devstack.Role
	for _, r := range []struct {
		kind int
		role *devstack.Role
	}{{api, s.api}, {worker, s.worker}, {transcode, s.transcode}, {chat, s.chat1}, {chat, s.chat2}} {
		if wanted&r.kind != 0 {
			roles = append(roles, r.role)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.showLogs(roles)
		}
	})
	for _, role := range roles {
		require.NoError(t, role.Start())
		t.Cleanup(role.Kill)
	}
	for _, role := range roles {
		require.NoError(t, role.Ready(s.ctx))
	}
	return s
}

// lasting ends what a test waits for, should nothing else.
func lasting(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute+*patience)
	t.Cleanup(cancel)
	return ctx
}

// in is the same stack for a test within a test.
func (s *stack) in(t *testing.T) *stack {
	inner := *s
	inner.T, inner.ctx = t, lasting(t)
	return &inner
}

func (s *stack) role(name, address string, args ...string) *devstack.Role {
	return devstack.NewRole(s.env, s.env.Dir, name, address, args, s.variables...)
}

// kill ends a role as a crash would.
func (s *stack) kill(role *devstack.Role) {
	s.Helper()
	role.Kill()
}

// restart starts a role again that was killed.
func (s *stack) restart(role *devstack.Role) {
	s.Helper()
	require.NoError(s, role.Launch(s.ctx))
}

func (s *stack) dialTemporal() {
	s.Helper()
	logger, err := telemetry.NewLogger("error", "test")
	require.NoError(s, err)
	s.temporal, err = client.DialContext(s.ctx, client.Options{
		HostPort: s.env.TemporalAddress, Namespace: s.env.TemporalNamespace, Logger: telemetry.NewTemporalLogger(logger),
	})
	require.NoError(s, err)
	s.Cleanup(s.temporal.Close)
}

// logTail is how many lines of a role's log a failed test shows, each up to
// lineTail: of those that say that something is wrong.
const (
	logTail  = 10
	lineTail = 600
)

func (s *stack) showLogs(roles []*devstack.Role) {
	for _, role := range roles {
		content, err := os.ReadFile(role.Log())
		if err != nil {
			s.Logf("the log of %s: %v", role.Name, err)
			continue
		}
		var lines []string
		for line := range strings.Lines(string(content)) {
			if !strings.Contains(line, `"level":"info"`) {
				lines = append(lines, strings.TrimSpace(line[:min(len(line), lineTail)]))
			}
		}
		s.Logf("what %s complains of:\n%s", role.Name, strings.Join(lines[max(0, len(lines)-logTail):], "\n"))
	}
}

// until polls a condition until it holds.
func (s *stack) until(what string, condition func() bool) {
	s.Helper()
	deadline := time.NewTimer(*patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			require.FailNow(s, "it did not happen", "%s, within %s", what, *patience)
		}
	}
}

// closed waits until a workflow is closed, and gives how.
func (s *stack) closed(workflowID string) enums.WorkflowExecutionStatus {
	s.Helper()
	status := enums.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED
	s.until(workflowID+" is closed", func() bool {
		described, err := s.temporal.DescribeWorkflowExecution(s.ctx, workflowID, "")
		if err != nil {
			return false // it may not have begun
		}
		status = described.WorkflowExecutionInfo.Status
		return status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING
	})
	return status
}

// completed waits until a workflow has come to its proper end.
func (s *stack) completed(workflowID string) {
	s.Helper()
	require.Equal(s, enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, s.closed(workflowID), workflowID)
}

// history is what a workflow has gone through.
func (s *stack) history(workflowID string) []*history.HistoryEvent {
	s.Helper()
	var events []*history.HistoryEvent
	iterator := s.temporal.GetWorkflowHistory(s.ctx, workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		require.NoError(s, err)
		events = append(events, event)
	}
	return events
}

// number asks the database for one.
func (s *stack) number(query string, args ...any) int64 {
	s.Helper()
	var n int64
	require.NoError(s, s.db.QueryRow(s.ctx, query, args...).Scan(&n))
	return n
}

// begin opens a transaction that is rolled back in the end.
func (s *stack) begin() pgx.Tx {
	s.Helper()
	tx, err := s.db.Begin(s.ctx)
	require.NoError(s, err)
	s.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// scratch is a folder for logs, pids and data that goes with the test.
func scratch(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"log", "run"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	return dir
}

func free(t *testing.T) string {
	t.Helper()
	address, err := devstack.FreeAddress(t.Context())
	require.NoError(t, err)
	return address
}

// get fetches a file as a player would, and gives its type too.
func (s *stack) get(address string) (kind string, content []byte) {
	s.Helper()
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, address, nil)
	require.NoError(s, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(s, err)
	defer response.Body.Close()
	content, err = io.ReadAll(response.Body)
	require.NoError(s, err)
	require.Equal(s, http.StatusOK, response.StatusCode, address)
	return response.Header.Get("Content-Type"), content
}
