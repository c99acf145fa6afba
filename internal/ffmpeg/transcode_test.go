package ffmpeg_test

import (
	"encoding/binary"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg/ffmpegtest"
)

func TestChunksFollowOneAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options ffmpeg.GenerateOptions
		fps     string // of the archive
		rate    float64
	}{
		"30.mp4":   {ffmpeg.GenerateOptions{}, "30", 30},
		"ntsc.mp4": {ffmpeg.GenerateOptions{FPS: "30000/1001"}, "30000/1001", 30000.0 / 1001},
		"120.mp4":  {ffmpeg.GenerateOptions{FPS: "120", Seconds: 9}, "60", 60},
		// Key frames farther apart than chunks are long: some have none of their own.
		"sparse.mkv": {ffmpeg.GenerateOptions{FPS: "25", KeyInterval: 9, Seconds: 20}, "25", 25},
		"12.5.mkv":   {ffmpeg.GenerateOptions{FPS: "25/2"}, "25/2", 12.5},
		"24.webm":    {ffmpeg.GenerateOptions{FPS: "24"}, "24", 24},
		"30.ts":      {ffmpeg.GenerateOptions{Seconds: 13, KeyInterval: 5}, "30", 30},
		"30.flv":     {ffmpeg.GenerateOptions{Seconds: 13, KeyInterval: 5}, "30", 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.options.Width, c.options.Height = 320, 180
			src := ffmpegtest.Recording(t, t.TempDir(), name, c.options)
			a := transcode(t, ffmpegtest.Tool(t), src)
			require.GreaterOrEqual(t, len(a.chunks), 2)
			require.Len(t, a.ladder, 1)
			requireContinuous(t, a, "360p", c.rate)
			requireSameTime(t, a, src, c.fps)
		})
	}
}

// requireSameTime holds the archive's frames against the source's: each is the
// one that the source shows at that time, also around the chunks' borders.
func requireSameTime(tb testing.TB, a archive, src, fps string) {
	tb.Helper()
	want := pictures(tb, src, fps)
	got := pictures(tb, joined(tb, filepath.Join(a.dir, "360p"), a.segments["360p"]...), fps)
	require.InDelta(tb, len(want), len(got), 1)
	for at := 1; at < min(len(got), len(want))-2; at++ {
		same := difference(got[at], want[at])
		require.LessOrEqual(tb, same, difference(got[at], want[at-1]), "frame %d is the one before", at)
		require.LessOrEqual(tb, same, difference(got[at], want[at+1]), "frame %d is the one after", at)
	}
}

// pictures are a file's frames in grey, small.
func pictures(tb testing.TB, file, fps string) [][]byte {
	tb.Helper()
	const size = 160 * 90
	out, err := exec.CommandContext(tb.Context(), "ffmpeg", "-v", "error", "-copyts", "-start_at_zero", "-itsoffset", "100", "-i", file, "-map", "0:v",
		"-vf", "setpts=PTS-100/TB,fps="+fps+":start_time=0,scale=160:90,format=gray", "-f", "rawvideo", "-").Output()
	require.NoError(tb, err)
	return slices.Collect(slices.Chunk(out, size))
}

func difference(a, b []byte) float64 {
	sum := 0
	for i := range a {
		sum += max(int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return float64(sum) / float64(len(a))
}

// A step that says nothing for a while is taken for dead: progress is told from the
// start, not only at the end.
func TestProgressIsToldOnTheWay(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	src := ffmpegtest.Recording(t, t.TempDir(), "a.mp4", ffmpeg.GenerateOptions{Seconds: 20, Width: 854, Height: 480, NoSound: true})
	info, err := tool.Probe(t.Context(), src, func() {})
	require.NoError(t, err)
	pieces := t.TempDir()
	chunks, err := tool.Split(t.Context(), src, info, time.Minute, pieces, func(float64) {})
	require.NoError(t, err)
	half := 0
	_, err = tool.TranscodeChunk(t.Context(), filepath.Join(pieces, chunks[0].PieceFile()), info, chunks[0], livestream.Ladder(info.Width, info.Height), t.TempDir(), func(seconds float64) {
		if seconds > 0 && seconds < info.DurationSeconds/2 {
			half++
		}
	})
	require.NoError(t, err)
	require.NotZero(t, half, "nothing was told of the first half")
}

func TestChunkTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	src := ffmpegtest.Recording(t, t.TempDir(), "a.mp4", ffmpeg.GenerateOptions{Width: 320, Height: 180, NoSound: true})
	info, err := tool.Probe(t.Context(), src, func() {})
	require.NoError(t, err)
	pieces := t.TempDir()
	chunks, err := tool.Split(t.Context(), src, info, ffmpeg.SegmentSeconds*time.Second, pieces, func(float64) {})
	require.NoError(t, err)
	chunk := chunks[1]
	var dirs [2]string
	var made [2]map[string][]livestream.Segment
	for i := range dirs {
		dirs[i] = t.TempDir()
		made[i], err = tool.TranscodeChunk(t.Context(), filepath.Join(pieces, chunk.PieceFile()), info, chunk, livestream.Ladder(320, 180), dirs[i], func(float64) {})
		require.NoError(t, err)
	}
	require.Equal(t, made[0], made[1])
	for _, file := range []string{"init.mp4", "seg_00001.m4s", "seg_00002.m4s"} {
		first, err := os.ReadFile(filepath.Join(dirs[0], "360p", file))
		require.NoError(t, err)
		second, err := os.ReadFile(filepath.Join(dirs[1], "360p", file))
		require.NoError(t, err)
		require.Equal(t, first, second, file)
	}
}

// Sound that begins late and ends early stays where it was.
func TestSoundKeepsItsPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"late.mkv", "late.ts"} {
		src := filepath.Join(dir, name)
		ffmpegRun(t, "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=10",
			"-itsoffset", "1.5", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=7",
			"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-pix_fmt", "yuv420p", src)
		a := transcode(t, ffmpegtest.Tool(t), src)
		master := a.publish(t)
		out, err := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-i", master, "-map", "0:a:0", "-af", "aresample=48000:first_pts=0", "-ac", "1", "-f", "s16le", "-").Output()
		require.NoError(t, err)
		first, last := -1, -1
		for i := 0; i+1 < len(out); i += 2 {
			if v := int16(binary.LittleEndian.Uint16(out[i:])); v > 1000 || v < -1000 {
				if first < 0 {
					first = i / 2
				}
				last = i / 2
			}
		}
		require.InDelta(t, 1.5, float64(first)/48_000, 0.04)
		require.InDelta(t, 8.5, float64(last)/48_000, 0.04)
		require.InDelta(t, 10, float64(len(out)/2)/48_000, 0.04, "silence goes on to the end")
		t.Logf("sound from %.3f s to %.3f s of %.3f s", float64(first)/48_000, float64(last)/48_000, float64(len(out)/2)/48_000)
	}
}

// The picture ends before the second chunk begins: the last one stays.
func TestPictureShorterThanSound(t *testing.T) {
	t.Parallel()
	src := filepath.Join(t.TempDir(), "short.mp4")
	ffmpegRun(t, "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=3", "-f", "lavfi", "-i", "sine=duration=10",
		"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-pix_fmt", "yuv420p", src)
	a := transcode(t, ffmpegtest.Tool(t), src)
	requireContinuous(t, a, "360p", 30)
}

func TestSecondChunkOfDamagedFile(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	src := filepath.Join(t.TempDir(), "source")
	require.NoError(t, os.WriteFile(src, []byte("what was a video when it was probed"), 0o600))
	info := livestream.MediaInfo{VideoCodec: "h264", AudioCodec: "aac", Width: 320, Height: 180, FrameRate: 30, DurationSeconds: 10}
	_, err := tool.TranscodeChunk(t.Context(), src, info, livestream.Chunk{Index: 1, Start: 4, Duration: 6}, livestream.Ladder(320, 180), t.TempDir(), func(float64) {})
	media := (*livestream.MediaError)(nil)
	require.ErrorAs(t, err, &media)
	require.Equal(t, livestream.FailureCorrupt, media.Failure.Code)
	_, err = tool.TranscodeAudio(t.Context(), src, info, t.TempDir(), func(float64) {})
	require.ErrorAs(t, err, &media)
	_, err = tool.Split(t.Context(), src, info, time.Minute, t.TempDir(), func(float64) {})
	require.ErrorAs(t, err, &media)
	require.ErrorAs(t, tool.Pictures(t.Context(), src, info, livestream.Chunk{Duration: 10}, 1, t.TempDir(), func() {}), &media)
}

// The poster and the thumbnail are the same picture, as it is displayed.
func TestPictures(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	for name, c := range map[string]struct {
		options           ffmpeg.GenerateOptions
		turned            bool
		poster, thumbnail [2]int
	}{
		"one second": {ffmpeg.GenerateOptions{Seconds: 1, Width: 320, Height: 180}, false, [2]int{320, 180}, [2]int{320, 180}},
		"one frame":  {ffmpeg.GenerateOptions{Seconds: 0.04, Width: 320, Height: 180, NoSound: true}, false, [2]int{320, 180}, [2]int{320, 180}},
		"large":      {ffmpeg.GenerateOptions{Seconds: 1, Width: 1920, Height: 1080}, false, [2]int{1280, 720}, [2]int{480, 270}},
		"upright":    {ffmpeg.GenerateOptions{Seconds: 1, Width: 640, Height: 360}, true, [2]int{360, 640}, [2]int{360, 640}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			src := ffmpegtest.Recording(t, dir, "a.mp4", c.options)
			if c.turned {
				content, err := os.ReadFile(src)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(src, turned(t, content), 0o600))
			}
			info, err := tool.Probe(t.Context(), src, func() {})
			require.NoError(t, err)
			chunks, err := tool.Split(t.Context(), src, info, time.Minute, dir, func(float64) {})
			require.NoError(t, err)
			require.NoError(t, tool.Pictures(t.Context(), filepath.Join(dir, chunks[0].PieceFile()), info, chunks[0], info.DurationSeconds/10, dir, func() {}))
			require.Equal(t, c.poster, pictureSize(t, filepath.Join(dir, livestream.Poster)))
			require.Equal(t, c.thumbnail, pictureSize(t, filepath.Join(dir, livestream.Thumbnail)))
		})
	}
}

func pictureSize(tb testing.TB, file string) [2]int {
	tb.Helper()
	f, err := os.Open(file)
	require.NoError(tb, err)
	defer f.Close()
	picture, err := jpeg.DecodeConfig(f)
	require.NoError(tb, err)
	return [2]int{picture.Width, picture.Height}
}
