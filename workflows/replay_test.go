package workflows_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// The histories are of real runs, one for each path (make record). What runs in
// production has histories like them: code that cannot replay one would break it.

func TestRecordedHistoriesReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "replay", "*.json"))
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range files {
		path := strings.TrimSuffix(filepath.Base(file), ".json")
		kind, _, _ := strings.Cut(path, "_")
		seen[kind] = true
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, replayer(t).ReplayWorkflowHistoryFromJSONFile(quiet(t), file))
		})
	}
	require.Equal(t, map[string]bool{"stream": true, "notify": true, "archive": true, "payment": true, "refund": true, "hold": true, "event": true, "housekeeping": true, "views": true, "reconciliation": true, "tiers": true, "orphans": true, "push": true}, seen)
}

func TestHistoryOfAnotherWorkflowDoesNotReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "replay", "bad", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		err := replayer(t).ReplayWorkflowHistoryFromJSONFile(quiet(t), file)
		require.ErrorContains(t, err, "nondeterministic", "the check cannot fail: %s", file)
	}
}

func TestHistoriesTellNothingOfWhereTheyWereRecorded(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "replay", "*.json"))
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, trace := range []string{"@" + host, host + ":", "/tmp/", "/home/", "/root/", ".go:"} {
			require.NotContains(t, string(content), trace, file)
		}
	}
}

func replayer(t *testing.T) worker.WorkflowReplayer {
	t.Helper()
	replayer := worker.NewWorkflowReplayer()
	replayer.RegisterWorkflow(workflows.Stream)
	replayer.RegisterWorkflow(workflows.NotifyFollowers)
	replayer.RegisterWorkflow(workflows.PushToBrowsers)
	replayer.RegisterWorkflow(workflows.Archive)
	replayer.RegisterWorkflow(workflows.DeleteArchive)
	replayer.RegisterWorkflow(workflows.Payment)
	replayer.RegisterWorkflow(workflows.Refund)
	replayer.RegisterWorkflow(workflows.Hold)
	replayer.RegisterWorkflow(workflows.StripeEvent)
	replayer.RegisterWorkflow(workflows.ReconcilePayments)
	replayer.RegisterWorkflow(workflows.Housekeeping)
	replayer.RegisterWorkflow(workflows.FlushViews)
	replayer.RegisterWorkflow(workflows.MoveArchives)
	replayer.RegisterWorkflow(workflows.RestoreArchive)
	replayer.RegisterWorkflow(workflows.FindOrphans)
	return replayer
}

func quiet(t *testing.T) log.Logger {
	t.Helper()
	logger, err := telemetry.NewLogger("error", "test")
	require.NoError(t, err)
	return telemetry.NewTemporalLogger(logger)
}
