package ffmpeg_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
)

// generateInto makes this test program a worker that encodes for hours.
const generateInto = "FFMPEG_TEST_GENERATE"

func TestMain(m *testing.M) {
	dst := os.Getenv(generateInto)
	if dst == "" {
		os.Exit(m.Run())
	}
	tool, err := ffmpeg.New(ffmpeg.Config{})
	if err == nil {
		err = tool.Generate(context.Background(), dst, ffmpeg.GenerateOptions{Seconds: 36_000, Width: 64, Height: 64})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A worker that is killed takes its programs with it: nobody else would end them.
func TestKilledWorkerLeavesNoProgram(t *testing.T) {
	t.Parallel()
	dst := filepath.Join(t.TempDir(), "endless.mp4")
	worker := exec.Command(os.Args[0])
	worker.Env = append(os.Environ(), generateInto+"="+dst)
	worker.Stderr = os.Stderr
	require.NoError(t, worker.Start())
	t.Cleanup(func() { _ = worker.Process.Kill() }) // it is dead unless the test failed before
	require.Eventually(t, func() bool { return len(running(t, dst)) == 1 }, 30*time.Second, 10*time.Millisecond, "it encodes")
	require.NoError(t, worker.Process.Kill())
	_ = worker.Wait() // it was killed
	requireGone(t, dst)
}
