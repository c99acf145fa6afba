// Package ffmpegtest makes recordings for tests. It is imported by tests alone.
package ffmpegtest

import (
	"path/filepath"
	"testing"

	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
)

// Tool is the programs, with one thread each because tests run side by side. A
// test without them fails with how to install them.
func Tool(tb testing.TB) *ffmpeg.Tool {
	tb.Helper()
	tool, err := ffmpeg.New(ffmpeg.Config{Threads: 1})
	if err != nil {
		tb.Fatal(err)
	}
	return tool
}

// Recording makes a recording in dir, and gives its path. The name's extension
// says which container.
func Recording(tb testing.TB, dir, name string, options ffmpeg.GenerateOptions) string {
	tb.Helper()
	file := filepath.Join(dir, name)
	if err := Tool(tb).Generate(tb.Context(), file, options); err != nil {
		tb.Fatal(err)
	}
	return file
}
