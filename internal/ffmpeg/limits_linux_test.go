package ffmpeg

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

// A program that takes more than it may is ended, and its recording is refused: the
// next worker would fare no better with it. That of memory is among the samples.
func TestLimitsEndAProgram(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		may    limits
	}{
		"time":   {"while :; do :; done", limits{cpu: time.Second}},
		"output": {"exec dd if=/dev/zero of=out bs=1000 count=100", limits{cpu: time.Minute, file: 5000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tool, err := New(Config{})
			require.NoError(t, err)
			// The limits are set once the program runs.
			script := "until [ \"$(ulimit -t)\" != unlimited ]; do :; done; " + c.script
			err = tool.run(t.Context(), "/bin/sh", dir, []string{"-c", script}, c.may, func() {}, func(string) bool { return true })
			media := (*livestream.MediaError)(nil)
			require.ErrorAs(t, err, &media)
			require.ErrorIs(t, err, errExhausted)
			require.Equal(t, livestream.FailureUnsupported, media.Failure.Code)
			if stat, err := os.Stat(filepath.Join(dir, "out")); err == nil {
				require.LessOrEqual(t, stat.Size(), c.may.file)
			}
		})
	}
}

// Whatever a program is asked to do, it has limits.
func TestEveryProgramIsLimited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	watched := func(program string) string {
		path, err := exec.LookPath(program)
		require.NoError(t, err)
		file := filepath.Join(dir, program)
		// The limits are set once it runs, that of time last. What they are is a file's
		// name: a probe may not write into any.
		script := "#!/bin/sh\nuntil [ \"$(ulimit -t)\" != unlimited ]; do :; done\n" +
			": > \"" + seen + "/$$ $(ulimit -v) $(ulimit -c) $(ulimit -f) $(ulimit -t)\"\nexec " + path + " \"$@\"\n"
		require.NoError(t, os.WriteFile(file, []byte(script), 0o700))
		return file
	}
	free, err := New(Config{})
	require.NoError(t, err)
	src := filepath.Join(dir, "source.mp4")
	require.NoError(t, free.Generate(t.Context(), src, GenerateOptions{Seconds: 2, Width: 320, Height: 180}))
	tool, err := New(Config{FFmpeg: watched("ffmpeg"), FFprobe: watched("ffprobe"), MemoryBytes: 3 << 30})
	require.NoError(t, err)
	var (
		info   livestream.MediaInfo
		chunks []livestream.Chunk
		piece  string
	)
	for _, step := range []struct {
		name     string
		programs int
		run      func() error
	}{
		{"probe", 2, func() (err error) { info, err = tool.Probe(t.Context(), src, func() {}); return err }},
		{"split", 2, func() (err error) {
			chunks, err = tool.Split(t.Context(), src, info, time.Minute, dir, func(float64) {})
			if err == nil {
				piece = filepath.Join(dir, chunks[0].PieceFile())
			}
			return err
		}},
		{"chunk and its storyboard", 2, func() error {
			_, err := tool.TranscodeChunk(t.Context(), piece, info, chunks[0], livestream.Ladder(320, 180), dir, func(float64) {})
			return err
		}},
		{"sound", 1, func() error { _, err := tool.TranscodeAudio(t.Context(), src, info, dir, func(float64) {}); return err }},
		{"pictures", 1, func() error { return tool.Pictures(t.Context(), piece, info, chunks[0], 1, dir, func() {}) }},
	} {
		require.NoError(t, os.RemoveAll(seen))
		require.NoError(t, os.Mkdir(seen, 0o700))
		require.NoError(t, step.run(), step.name)
		ran, err := os.ReadDir(seen)
		require.NoError(t, err)
		require.Len(t, ran, step.programs, step.name)
		for _, program := range ran {
			limits := strings.Fields(program.Name())[1:]
			require.Len(t, limits, 4, step.name)
			require.Equal(t, "3145728", limits[0], "%s: KiB of address space", step.name)
			require.Equal(t, "0", limits[1], "%s: a core file would hold what the recording shows", step.name)
			require.NotContains(t, limits, "unlimited", step.name)
		}
	}
}

// A program that looks for a place in a long file says nothing meanwhile.
func TestAProgramThatReadsIsNotHung(t *testing.T) {
	t.Parallel()
	tool, err := New(Config{StallTimeout: 2 * time.Second})
	require.NoError(t, err)
	alive := 0
	script := "for i in $(seq 40); do head -c 100000 /dev/zero > /dev/null; sleep 0.1; done; echo found"
	said := ""
	err = tool.run(t.Context(), "/bin/sh", t.TempDir(), []string{"-c", script}, limits{cpu: time.Minute}, func() { alive++ }, func(line string) bool {
		said += line
		return true
	})
	require.NoError(t, err)
	require.Equal(t, "found", said)
	require.Positive(t, alive)
	err = tool.run(t.Context(), "/bin/sh", t.TempDir(), []string{"-c", "while :; do :; done"}, limits{cpu: time.Minute}, func() {}, func(string) bool { return true })
	require.ErrorIs(t, err, errStalled)
}
