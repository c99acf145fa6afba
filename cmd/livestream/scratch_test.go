package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScratchSweepsWhatTheDeadLeftAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	others := filepath.Join(dir, "somebody-elses")
	require.NoError(t, os.Mkdir(others, 0o700))
	dead := filepath.Join(dir, scratchPrefix+"dead")
	require.NoError(t, os.MkdirAll(filepath.Join(dead, "chunk"), 0o700))
	require.NoError(t, os.WriteFile(dead+".lock", nil, 0o600))

	first, closeFirst, err := openScratch(dir)
	require.NoError(t, err)
	require.NoDirExists(t, dead)
	require.NoFileExists(t, dead+".lock")
	second, closeSecond, err := openScratch(dir)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	require.DirExists(t, first, "its process lives")
	closeFirst()
	closeSecond()
	require.NoDirExists(t, first)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.DirExists(t, others)
}
