package ffmpeg_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg/ffmpegtest"
)

// packet is what ffprobe says of a packet.
type packet struct {
	PTS   string `json:"pts_time"`
	DTS   string `json:"dts_time"`
	Flags string `json:"flags"`
}

func (p packet) pts(tb testing.TB) float64 { return number(tb, p.PTS) }

func number(tb testing.TB, s string) float64 {
	tb.Helper()
	v, err := strconv.ParseFloat(s, 64)
	require.NoError(tb, err)
	return v
}

// ffprobe asks the program itself, so that our own reading is not its judge.
func ffprobe(tb testing.TB, into any, args ...string) {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "ffprobe", append([]string{"-v", "error", "-of", "json"}, args...)...).Output()
	require.NoError(tb, err)
	require.NoError(tb, json.Unmarshal(out, into))
}

func packets(tb testing.TB, file string) []packet {
	tb.Helper()
	var out struct {
		Packets []packet `json:"packets"`
	}
	ffprobe(tb, &out, "-show_entries", "packet=pts_time,dts_time,flags", file)
	require.NotEmpty(tb, out.Packets)
	return out.Packets
}

func ffmpegRun(tb testing.TB, args ...string) {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "ffmpeg", append([]string{"-nostdin", "-v", "error", "-y"}, args...)...).CombinedOutput()
	require.NoError(tb, err, "%s", out)
}

// joined is an init segment and its segments as one file.
func joined(tb testing.TB, dir string, segments ...livestream.Segment) string {
	tb.Helper()
	all, err := os.ReadFile(filepath.Join(dir, "init.mp4"))
	require.NoError(tb, err)
	for _, s := range segments {
		content, err := os.ReadFile(filepath.Join(dir, s.Name))
		require.NoError(tb, err)
		require.Equal(tb, s.Bytes, int64(len(content)))
		all = append(all, content...)
	}
	file := filepath.Join(tb.TempDir(), "joined.mp4")
	require.NoError(tb, os.WriteFile(file, all, 0o600))
	return file
}

// archive is a recording that was transcoded in chunks.
type archive struct {
	info     livestream.MediaInfo
	ladder   []livestream.Rendition
	chunks   []livestream.Chunk
	segments map[string][]livestream.Segment
	inits    map[string][]byte
	pieces   string // their folder
	dir      string
}

// transcode makes all of an archive, each chunk in a folder of its own as
// different workers do, and brings them together.
func transcode(tb testing.TB, tool *ffmpeg.Tool, src string) archive {
	tb.Helper()
	info, err := tool.Probe(tb.Context(), src, func() {})
	require.NoError(tb, err)
	a := archive{info: info, dir: tb.TempDir(), segments: map[string][]livestream.Segment{}, inits: map[string][]byte{}}
	keep := func(dir string, made map[string][]livestream.Segment) {
		for name, list := range made {
			require.NoError(tb, os.MkdirAll(filepath.Join(a.dir, name), 0o700))
			files, err := os.ReadDir(filepath.Join(dir, name))
			require.NoError(tb, err)
			inits := 1
			if name == livestream.StoryboardFolder {
				inits = 0
			}
			require.Len(tb, files, len(list)+inits, "the segments and the init segment are all there is")
			for _, file := range files {
				require.NoError(tb, os.Rename(filepath.Join(dir, name, file.Name()), filepath.Join(a.dir, name, file.Name())))
			}
			a.segments[name] = append(a.segments[name], list...)
			if inits == 0 {
				continue
			}
			init, err := os.ReadFile(filepath.Join(a.dir, name, "init.mp4"))
			require.NoError(tb, err)
			if before, ok := a.inits[name]; ok {
				require.True(tb, bytes.Equal(before, init), "the init segment of %s differs between chunks", name)
			}
			a.inits[name] = init
		}
	}
	if info.VideoCodec != "" {
		a.ladder = livestream.Ladder(info.Width, info.Height)
		a.pieces = tb.TempDir()
		a.chunks, err = tool.Split(tb.Context(), src, info, ffmpeg.SegmentSeconds*time.Second, a.pieces, func(float64) {})
		require.NoError(tb, err)
		files, err := os.ReadDir(a.pieces)
		require.NoError(tb, err)
		require.Len(tb, files, len(a.chunks), "the pieces are all there is")
	}
	for _, chunk := range a.chunks {
		dir, last := tb.TempDir(), -1.0
		made, err := tool.TranscodeChunk(tb.Context(), a.piece(chunk), info, chunk, a.ladder, dir, func(seconds float64) {
			require.GreaterOrEqual(tb, seconds, last)
			last = seconds
		})
		require.NoError(tb, err)
		require.InDelta(tb, chunk.Duration, last, 0.1, "progress ends at the end")
		keep(dir, made)
	}
	if info.AudioCodec != "" {
		dir, last := tb.TempDir(), 0.0
		made, err := tool.TranscodeAudio(tb.Context(), src, info, dir, func(seconds float64) { last = seconds })
		require.NoError(tb, err)
		require.InDelta(tb, info.DurationSeconds, last, 0.1, "progress ends at the end")
		keep(dir, map[string][]livestream.Segment{livestream.AudioRendition: made})
	}
	return a
}

func (a archive) piece(chunk livestream.Chunk) string {
	return filepath.Join(a.pieces, chunk.PieceFile())
}

// publish writes the playlists and gives the master's path.
func (a archive) publish(tb testing.TB) string {
	tb.Helper()
	var p ffmpeg.Playlists
	for name, list := range a.segments {
		if name == livestream.StoryboardFolder {
			require.NoError(tb, os.WriteFile(filepath.Join(a.dir, livestream.Storyboard), p.Storyboard(a.info, list), 0o600))
			continue
		}
		require.NoError(tb, os.WriteFile(filepath.Join(a.dir, name, "index.m3u8"), p.MediaPlaylist(list), 0o600))
		if name != livestream.AudioRendition {
			require.NoError(tb, os.WriteFile(filepath.Join(a.dir, name, livestream.KeyFramePlaylist), p.KeyFramePlaylist(list), 0o600))
		}
	}
	master, err := p.MasterPlaylist(a.info, a.ladder, a.inits, a.segments)
	require.NoError(tb, err)
	file := filepath.Join(a.dir, livestream.MasterPlaylist)
	require.NoError(tb, os.WriteFile(file, master, 0o600))
	return file
}

// requireContinuous holds a rendition against the clock: the same distance
// between all frames, across all borders, from zero to the recording's end.
func requireContinuous(tb testing.TB, a archive, name string, fps float64) {
	tb.Helper()
	list := a.segments[name]
	all := packets(tb, joined(tb, filepath.Join(a.dir, name), list...))
	require.InDelta(tb, a.info.DurationSeconds, float64(len(all))/fps, 1/fps+0.001, "the length is the recording's, to a frame")
	shown := map[int]bool{}
	for i, p := range all {
		frame := p.pts(tb) * fps
		require.InDelta(tb, float64(int(frame+0.5)), frame, 0.01, "frame %d is off the grid", i)
		shown[int(frame+0.5)] = true
	}
	require.Len(tb, shown, len(all), "no two frames at the same time")
	for i := range all {
		require.True(tb, shown[i], "frame %d is missing", i)
	}
	start := 0.0
	for i, s := range list {
		require.Equal(tb, fmt.Sprintf("seg_%05d.m4s", i), s.Name)
		first := packets(tb, joined(tb, filepath.Join(a.dir, name), s))
		require.True(tb, strings.HasPrefix(first[0].Flags, "K"), "segment %d begins with a key frame", i)
		require.InDelta(tb, start, first[0].pts(tb), 0.002, "segment %d begins where the one before ends", i)
		require.InDelta(tb, float64(i*ffmpeg.SegmentSeconds), first[0].pts(tb), 1/fps+0.001)
		require.InDelta(tb, float64(len(first))/fps, s.Duration, 0.002)
		for _, p := range first[1:] {
			require.False(tb, strings.HasPrefix(p.Flags, "K"), "segment %d has one key frame", i)
		}
		start += s.Duration
	}
}

func TestNewSaysHowToInstall(t *testing.T) {
	t.Parallel()
	_, err := ffmpeg.New(ffmpeg.Config{FFmpeg: filepath.Join(t.TempDir(), "ffmpeg")})
	require.ErrorContains(t, err, "apt-get install ffmpeg")
	_, err = ffmpeg.New(ffmpeg.Config{Threads: -1})
	require.Error(t, err)
}

// running lists the processes that have text in their command line.
func running(tb testing.TB, text string) []string {
	tb.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(tb, err)
	var found []string
	for _, line := range lines {
		content, err := os.ReadFile(line)
		if err == nil && bytes.Contains(content, []byte(text)) {
			found = append(found, fmt.Sprintf("%s: %q", line, content))
		}
	}
	return found
}

// requireGone waits for the end of all processes that have text in their command
// line.
func requireGone(tb testing.TB, text string) {
	tb.Helper()
	require.Eventually(tb, func() bool { return len(running(tb, text)) == 0 }, 10*time.Second, 10*time.Millisecond)
}

func TestCancelKills(t *testing.T) {
	t.Parallel()
	src := ffmpegtest.Recording(t, t.TempDir(), "source.mp4", ffmpeg.GenerateOptions{Width: 640, Height: 480})
	tool := ffmpegtest.Tool(t)
	info, err := tool.Probe(t.Context(), src, func() {})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	chunks, err := tool.Split(t.Context(), src, info, time.Minute, dir, func(float64) {})
	require.NoError(t, err)
	piece := filepath.Join(dir, chunks[0].PieceFile())
	_, err = tool.TranscodeChunk(ctx, piece, info, chunks[0], livestream.Ladder(info.Width, info.Height), t.TempDir(), func(float64) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	requireNotFinal(t, err)
	requireGone(t, piece)
}

// A program that hangs is killed with the programs that it started.
func TestStallKillsTheGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fake := filepath.Join(dir, "ffmpeg")
	child := filepath.Join(dir, "child")
	require.NoError(t, os.WriteFile(fake, []byte("#!/bin/sh\necho frame=1\ntail -f "+child+" 1>&2\n"), 0o700))
	require.NoError(t, os.WriteFile(child, nil, 0o600))
	tool, err := ffmpeg.New(ffmpeg.Config{FFmpeg: fake, StallTimeout: 300e6})
	require.NoError(t, err)
	info := livestream.MediaInfo{VideoCodec: "h264", Width: 320, Height: 180, FrameRate: 30, DurationSeconds: 10}
	_, err = tool.TranscodeChunk(t.Context(), "source.mp4", info, livestream.Chunk{Duration: 10}, livestream.Ladder(320, 180), dir, func(float64) {})
	require.ErrorContains(t, err, "no progress")
	requireNotFinal(t, err)
	requireGone(t, child)
}

func requireNotFinal(tb testing.TB, err error) {
	tb.Helper()
	media := (*livestream.MediaError)(nil)
	require.NotErrorAs(tb, err, &media, "it may pass when it is tried again")
}
