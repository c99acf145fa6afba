package ffmpeg

import (
	"os"
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
			err = tool.run(t.Context(), "/bin/sh", dir, []string{"-c", script}, c.may, func(string) bool { return true })
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
	fake := filepath.Join(dir, "fake")
	require.NoError(t, os.WriteFile(fake, []byte("#!/bin/sh\nuntil [ \"$(ulimit -t)\" != unlimited ]; do :; done\necho $(ulimit -v) $(ulimit -c) $(ulimit -t) >> "+seen+"\n"), 0o700))
	src := filepath.Join(dir, "source")
	require.NoError(t, os.WriteFile(src, []byte("x"), 0o600))
	tool, err := New(Config{FFmpeg: fake, FFprobe: fake, MemoryBytes: 3 << 30})
	require.NoError(t, err)
	info := livestream.MediaInfo{VideoCodec: "h264", AudioCodec: "aac", Width: 320, Height: 180, FrameRate: 30, DurationSeconds: 2}
	steps := map[string]func() error{
		"probe": func() error { _, err := tool.Probe(t.Context(), src, func() {}); return err },
		"chunk": func() error {
			_, err := tool.TranscodeChunk(t.Context(), src, info, livestream.Chunk{Duration: 2}, livestream.Ladder(320, 180), dir, func(float64) {})
			return err
		},
		"sound":    func() error { _, err := tool.TranscodeAudio(t.Context(), src, info, dir, func(float64) {}); return err },
		"pictures": func() error { return tool.Pictures(t.Context(), src, info, livestream.Chunk{}, 1, dir) },
		"split": func() error {
			_, err := tool.Split(t.Context(), src, info, time.Minute, dir, func(float64) {})
			return err
		},
	}
	for name, step := range steps {
		require.Error(t, step(), "%s: it made nothing", name)
	}
	content, err := os.ReadFile(seen)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	require.GreaterOrEqual(t, len(lines), len(steps)-1, "a probe may not write at all")
	for _, line := range lines {
		var memory, core, cpu string
		fields := strings.Fields(line)
		require.Len(t, fields, 3)
		memory, core, cpu = fields[0], fields[1], fields[2]
		require.Equal(t, "3145728", memory, "KiB of address space")
		require.Equal(t, "0", core, "a core file would hold what the recording shows")
		require.NotEqual(t, "unlimited", cpu)
	}
}
