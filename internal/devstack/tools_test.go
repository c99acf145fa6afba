package devstack

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Not parallel: they change the PATH.

func TestMissingProgramsWithoutAPackageManager(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s, out := newStack(t)
	defer s.Close()
	err := s.install(t.Context())
	if runtime.GOOS == "darwin" {
		require.ErrorContains(t, err, "there is no brew; get it from https://brew.sh, then: brew install --quiet")
	} else {
		require.ErrorContains(t, err, "there is no apt-get; install them with your package manager: ")
	}
	require.ErrorContains(t, err, "ffmpeg")
	require.Contains(t, out.String(), "fail install")
}

func TestAPackageThatCannotBeInstalled(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{"apt-get", "brew", "sudo", "env"} {
		script := "#!/bin/sh\necho 'Reading package lists...'; echo 'E: Unable to locate package redis-server' >&2; exit 100\n"
		require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte(script), 0o755))
	}
	t.Setenv("PATH", path)
	s, _ := newStack(t)
	defer s.Close()
	err := s.install(t.Context())
	require.ErrorContains(t, err, "exit status 100: E: Unable to locate package redis-server; see "+filepath.Join(s.options.Dir, "log"))
	require.ErrorContains(t, err, "try it by hand: ")
	require.NotContains(t, err.Error(), "\n")
}

func TestAProgramThatIsTooOld(t *testing.T) {
	path := t.TempDir()
	script := "#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64'\n"
	require.NoError(t, os.WriteFile(filepath.Join(path, "redis-server"), []byte(script), 0o755))
	t.Setenv("PATH", path)
	s, _ := newStack(t)
	defer s.Close()
	require.EqualError(t, s.install(t.Context()), "this machine has Redis 6; install version 7 or newer (https://redis.io/docs/install)")
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"/usr/lib/postgresql/15/bin/postgres":                  15,
		"/opt/homebrew/opt/postgresql@16/bin/postgres":         16,
		"Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc": 7,
		"4711\n": 4711,
		"none":   0,
	} {
		require.Equal(t, want, number(text), text)
	}
}
