package ffmpeg_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg/ffmpegtest"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	small := ffmpeg.GenerateOptions{Seconds: 3, Width: 320, Height: 180}
	silent, soundOnly, ntsc := small, small, small
	silent.NoSound, soundOnly.NoVideo, ntsc.FPS = true, true, "30000/1001"
	for _, c := range []struct {
		file    string
		options ffmpeg.GenerateOptions
		want    livestream.MediaInfo
	}{
		{"a.mp4", small, livestream.MediaInfo{Container: "mp4", VideoCodec: "h264", AudioCodec: "aac"}},
		{"a.mov", ntsc, livestream.MediaInfo{Container: "mp4", VideoCodec: "h264", AudioCodec: "aac"}},
		{"a.mkv", small, livestream.MediaInfo{Container: "matroska", VideoCodec: "h264", AudioCodec: "aac"}},
		{"a.webm", small, livestream.MediaInfo{Container: "matroska", VideoCodec: "vp8", AudioCodec: "opus"}},
		{"a.ts", small, livestream.MediaInfo{Container: "mpegts", VideoCodec: "h264", AudioCodec: "aac"}},
		{"a.flv", small, livestream.MediaInfo{Container: "flv", VideoCodec: "h264", AudioCodec: "aac"}},
		{"silent.mp4", silent, livestream.MediaInfo{Container: "mp4", VideoCodec: "h264"}},
		{"sound.m4a", soundOnly, livestream.MediaInfo{Container: "mp4", AudioCodec: "aac"}},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			// Objects in storage have no extension: the content has to do.
			src := filepath.Join(dir, "source")
			require.NoError(t, os.Rename(ffmpegtest.Recording(t, dir, c.file, c.options), src))
			info, err := tool.Probe(t.Context(), src)
			require.NoError(t, err)
			require.InDelta(t, 3, info.DurationSeconds, 0.1)
			require.Positive(t, info.SizeBytes)
			require.Equal(t, c.want.Container, info.Container)
			require.Equal(t, c.want.VideoCodec, info.VideoCodec)
			require.Equal(t, c.want.AudioCodec, info.AudioCodec)
			if c.options.NoVideo {
				return
			}
			require.Equal(t, [2]int{320, 180}, [2]int{info.Width, info.Height})
			want := 30.0
			if c.options.FPS != "" {
				want = 30000.0 / 1001
			}
			require.InDelta(t, want, info.FrameRate, 0.001)
		})
	}
}

func TestProbeRefuses(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	dir := t.TempDir()
	good := ffmpegtest.Recording(t, dir, "good.mp4", ffmpeg.GenerateOptions{Width: 320, Height: 180})
	fast := filepath.Join(dir, "fast.mp4")
	ffmpegRun(t, "-i", good, "-c", "copy", "-movflags", "+faststart", fast)
	avi, mkv := filepath.Join(dir, "a.avi"), filepath.Join(dir, "a.mkv")
	ffmpegRun(t, "-i", good, "-c", "copy", avi)
	ffmpegRun(t, "-i", good, "-c", "copy", mkv)
	content := func(file string, share float64) []byte {
		all, err := os.ReadFile(file)
		require.NoError(t, err)
		return all[:int(float64(len(all))*share)]
	}
	noise := make([]byte, 50_000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	generated := func(name string, options ffmpeg.GenerateOptions) []byte {
		return content(ffmpegtest.Recording(t, dir, name, options), 1)
	}
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, livestream.FailureNotVideo},
		{"text", bytes.Repeat([]byte("This is not a video. "), 1000), livestream.FailureNotVideo},
		{"short text", []byte("hello"), livestream.FailureNotVideo},
		{"noise", noise, livestream.FailureNotVideo},
		{"playlist of a local file", []byte("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n" + good + "\n#EXT-X-ENDLIST\n"), livestream.FailureNotVideo},
		{"concatenation of a local file", []byte("ffconcat version 1.0\nfile '" + good + "'\n"), livestream.FailureNotVideo},
		{"AVI", content(avi, 1), livestream.FailureUnsupported},
		{"MP4 without its index", content(good, 0.5), livestream.FailureCorrupt},
		{"MP4 without its end", content(fast, 0.5), livestream.FailureCorrupt},
		{"Matroska without its end", content(mkv, 0.5), livestream.FailureCorrupt},
		{"too wide", generated("wide.mp4", ffmpeg.GenerateOptions{Seconds: 0.2, Width: 8208, Height: 16, NoSound: true}), livestream.FailureUnsupported},
		{"too long", generated("long.mp4", ffmpeg.GenerateOptions{Seconds: 45_000, Width: 64, Height: 64, FPS: "1/1000", NoSound: true}), livestream.FailureTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := filepath.Join(t.TempDir(), "source")
			require.NoError(t, os.WriteFile(src, c.content, 0o600))
			_, err := tool.Probe(t.Context(), src)
			media := (*livestream.MediaError)(nil)
			require.ErrorAs(t, err, &media)
			require.Equal(t, c.want, media.Failure.Code, "%v", err)
			require.Regexp(t, `pload (it|one of them)( again)?\.$`, media.Failure.Message, "it says what to do")
			require.NotContains(t, media.Failure.Message, src)
		})
	}
	_, err := tool.Probe(t.Context(), filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
	requireNotFinal(t, err)
}

func TestProbeCountsWithoutDuration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := ffmpegtest.Recording(t, dir, "a.mkv", ffmpeg.GenerateOptions{Seconds: 3, Width: 320, Height: 180})
	live := filepath.Join(dir, "live.mkv")
	ffmpegRun(t, "-i", src, "-c", "copy", "-f", "matroska", "-live", "1", live)
	info, err := ffmpegtest.Tool(t).Probe(t.Context(), live)
	require.NoError(t, err)
	require.InDelta(t, 3, info.DurationSeconds, 0.1)
}

// A title of megabytes is no reason to refuse a recording, nor one to choke on.
func TestProbeOfAFileWithLongTags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := ffmpegtest.Recording(t, dir, "a.mkv", ffmpeg.GenerateOptions{Seconds: 1, Width: 320, Height: 180})
	tags, tagged := filepath.Join(dir, "tags"), filepath.Join(dir, "tagged.mkv")
	require.NoError(t, os.WriteFile(tags, []byte(";FFMETADATA1\ntitle="+strings.Repeat("a", 3<<20)+"\n"), 0o600))
	ffmpegRun(t, "-i", src, "-f", "ffmetadata", "-i", tags, "-map_metadata", "1", "-c", "copy", tagged)
	info, err := ffmpegtest.Tool(t).Probe(t.Context(), tagged)
	require.NoError(t, err)
	require.InDelta(t, 1, info.DurationSeconds, 0.1)
	require.Greater(t, info.SizeBytes, int64(3<<20), "the title is in it")
}

// rotate turns an MP4's picture by 90° in its headers, as phones do.
func rotate(tb testing.TB, file string) {
	tb.Helper()
	all, err := os.ReadFile(file)
	require.NoError(tb, err)
	upright := []byte("\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00")
	turned := []byte("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00")
	track := bytes.Index(all, []byte("tkhd"))
	require.Positive(tb, track)
	matrix := bytes.Index(all[track:], upright)
	require.Positive(tb, matrix)
	copy(all[track+matrix:], turned)
	require.NoError(tb, os.WriteFile(file, all, 0o600))
}

func TestRotated(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	src := ffmpegtest.Recording(t, t.TempDir(), "phone.mp4", ffmpeg.GenerateOptions{Seconds: 3, Width: 640, Height: 360, NoSound: true})
	rotate(t, src)
	a := transcode(t, tool, src)
	require.Equal(t, [2]int{360, 640}, [2]int{a.info.Width, a.info.Height})
	require.Len(t, a.ladder, 1)
	// The archive's picture is upright by itself: no player has to turn it.
	info, err := tool.Probe(t.Context(), joined(t, filepath.Join(a.dir, "360p"), a.segments["360p"]...))
	require.NoError(t, err)
	require.Equal(t, [2]int{360, 640}, [2]int{info.Width, info.Height})
}
