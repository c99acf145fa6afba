package telemetry_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// logLevel makes this test program a process that logs.
const logLevel = "TELEMETRY_TEST_LEVEL"

func TestMain(m *testing.M) {
	level := os.Getenv(logLevel)
	if level == "" {
		os.Exit(m.Run())
	}
	logger, err := telemetry.NewLogger(level, "api")
	if err != nil {
		panic(err)
	}
	logger.Debug("detail")
	for range 200 { // more than a sampling logger would write
		logger.Info("request", zap.Duration("response_time_ms", 1500*time.Microsecond), zap.String("path", "/a\nb"))
	}
	logger.Error("failed", zap.Error(errors.New("no route")))
}

func TestLogIsJSONOnStandardError(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]int{"debug": 202, "info": 201, "error": 1} {
		var stderr strings.Builder
		process := exec.CommandContext(t.Context(), os.Args[0])
		process.Env = append(os.Environ(), logLevel+"="+level)
		process.Stderr = &stderr
		stdout, err := process.Output()
		require.NoError(t, err)
		require.Empty(t, stdout, "standard output is for what a command was asked for")
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		require.Len(t, lines, want, "%s: one line an entry, none left out", level)
		for _, line := range lines {
			var entry map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
			require.Equal(t, "api", entry["role"])
			_, err := time.Parse(time.RFC3339Nano, entry["time"].(string))
			require.NoError(t, err)
			if entry["msg"] == "request" {
				require.InDelta(t, 1.5, entry["response_time_ms"], 1e-9, "milliseconds")
				require.Equal(t, "/a\nb", entry["path"])
			}
		}
	}
}

func TestUnknownLevelIsRefused(t *testing.T) {
	t.Parallel()
	_, err := telemetry.NewLogger("loud", "api")
	require.ErrorContains(t, err, "loud")
}

// What Temporal's SDK says comes into the same log, with its fields.
func TestTemporalLogger(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	logger := log.With(telemetry.NewTemporalLogger(zap.New(core, zap.AddCaller())), "WorkflowID", "stream/1")
	logger.Debug("a")
	logger.Info("b", "Attempt", 2)
	logger.Warn("c", "Error", errors.New("no route"))
	logger.Error("d")
	entries := logs.All()
	require.Len(t, entries, 4)
	for i, level := range []zapcore.Level{zapcore.DebugLevel, zapcore.InfoLevel, zapcore.WarnLevel, zapcore.ErrorLevel} {
		require.Equal(t, level, entries[i].Level)
		require.Equal(t, "stream/1", entries[i].ContextMap()["WorkflowID"])
		require.Contains(t, entries[i].Caller.File, "telemetry_test.go", "the line that logged")
	}
	require.Equal(t, int64(2), entries[1].ContextMap()["Attempt"])
	require.Equal(t, "no route", entries[2].ContextMap()["Error"])
}

func TestRegistryHasTheRuntimesMetrics(t *testing.T) {
	t.Parallel()
	families, err := telemetry.NewRegistry().Gather()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, family := range families {
		names[family.GetName()] = true
	}
	for _, name := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes", "process_cpu_seconds_total", "process_open_fds"} {
		require.True(t, names[name], name)
	}
}
