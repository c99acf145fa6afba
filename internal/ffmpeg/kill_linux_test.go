package ffmpeg_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
)

// generateInto makes this test program a worker that encodes for hours.
const generateInto = "FFMPEG_TEST_GENERATE"

// With these it does so with another program, and after it has concealed itself.
const (
	generateWith = "FFMPEG_TEST_PROGRAM"
	concealed    = "FFMPEG_TEST_CONCEALED"
)

func TestMain(m *testing.M) {
	dst := os.Getenv(generateInto)
	if dst == "" {
		os.Exit(m.Run())
	}
	if os.Getenv(concealed) != "" {
		if err := ffmpeg.Conceal(); err != nil {
			panic(err)
		}
	}
	tool, err := ffmpeg.New(ffmpeg.Config{FFmpeg: os.Getenv(generateWith)})
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

// A decoder that was taken over looks where its worker's secrets are.
func TestProgramDoesNotReadItsWorkersEnvironment(t *testing.T) {
	t.Parallel()
	// As nobody, who may read what is nobody's: root may read all.
	dir, err := os.MkdirTemp("", "concealed")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	binary, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	worker, spy := filepath.Join(dir, "worker"), filepath.Join(dir, "spy")
	require.NoError(t, os.WriteFile(worker, binary, 0o755))
	require.NoError(t, os.WriteFile(spy, []byte("#!/bin/sh\ncat /proc/$PPID/environ >&2\nexit 1\n"), 0o755))
	run := func(hidden string) string {
		cmd := exec.Command(worker)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), generateInto + "=none.mp4", generateWith + "=" + spy, concealed + "=" + hidden, "SECRET=4711"}
		cmd.Dir = dir
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		said, err := cmd.CombinedOutput()
		require.Error(t, err)
		return string(said)
	}
	require.Contains(t, run(""), "SECRET=4711", "else the test cannot fail")
	said := run("1")
	require.Contains(t, said, "Permission denied")
	require.NotContains(t, said, "4711")
}
