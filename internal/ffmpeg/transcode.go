package ffmpeg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	livestream "github.com/livestream-pro/livestream-pro"
)

// How the archives are encoded.
const (
	audioBitrate = 128_000
	audioRate    = 48_000
	// fastRate is the frame rate from which a picture needs more bits.
	fastRate = 40
	quality  = "23" // x264's CRF: simple pictures stay below their bit rate
)

// videoBitrate is the most that a rendition's picture takes.
func videoBitrate(r livestream.Rendition, fps float64) int {
	bits := max(r.Bitrate-audioBitrate, audioBitrate)
	if fps > fastRate {
		bits = bits * 3 / 2
	}
	return bits
}

// TranscodeChunk decodes a chunk of src once and writes it in all qualities of
// the ladder, each into dir/<its name>: the segments, numbered from the start of
// the recording, and an init segment that is the same for all chunks. Progress
// is called with the seconds that are done.
//
// The files are a function of the input alone, so that a chunk that is made
// twice overwrites itself.
func (t *Tool) TranscodeChunk(ctx context.Context, src string, info livestream.MediaInfo, chunk livestream.Chunk, ladder []livestream.Rendition, dir string, progress func(seconds float64)) (map[string][]livestream.Segment, error) {
	if info.VideoCodec == "" || len(ladder) == 0 {
		return nil, errors.New("transcode: there is no video")
	}
	src, err := filepath.Abs(src)
	if err != nil {
		return nil, fmt.Errorf("transcode: %w", err)
	}
	for _, r := range ladder {
		if err := os.MkdirAll(filepath.Join(dir, r.Name), 0o755); err != nil {
			return nil, fmt.Errorf("transcode: %w", err)
		}
	}
	c := chunkJob{src: src, rate: outputRate(info.FrameRate), chunk: chunk, ladder: ladder}
	c.first, c.end = c.rate.frames(chunk, info.DurationSeconds)
	want := c.end - c.first
	for _, c.seek = range seeks(info, chunk) {
		var made int64
		err := t.encode(ctx, dir, c.args(t.threads), working(chunk.Duration), "frame", func(value string) {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				made = n
				progress(min(float64(n)/c.rate.float(), chunk.Duration))
			}
		})
		if err != nil {
			return nil, fmt.Errorf("transcode chunk %d: %w", chunk.Index, damaged(err))
		}
		if made == want {
			return c.collect(dir)
		}
	}
	return nil, refuse(livestream.FailureCorrupt, sayDamaged, fmt.Errorf("chunk %d has no pictures", chunk.Index))
}

// seek is where decoding starts, and what to do when the chunk's first frames
// cannot be decoded from there.
type seek struct {
	at  float64
	pad bool // show the first frame that there is
}

// seeks are the attempts to find a chunk's first frame. Decoding starts at the
// key frame before it, so that the frame that is on screen when the chunk begins
// is known, however long it has been there. In files without an index a seek can
// end behind that key frame: then start farther before it, and at last at the
// beginning, which is slow and always right.
func seeks(info livestream.MediaInfo, chunk livestream.Chunk) []seek {
	before := 0.5
	if info.Container == "mpegts" {
		before = 10
	}
	var all []seek
	for _, s := range []float64{before, 120} {
		if chunk.Start > s {
			all = append(all, seek{at: chunk.Start - s})
		}
	}
	return append(all, seek{pad: true})
}

type chunkJob struct {
	src        string
	rate       rate
	chunk      livestream.Chunk
	ladder     []livestream.Rendition
	first, end int64 // frames
	seek       seek
}

func (c chunkJob) args(threads string) []string {
	// The recording's own clock goes through from the input to the segments, so
	// that the chunks follow one another to the frame.
	args := []string{"-copyts", "-start_at_zero", "-threads", threads}
	args = append(args, input(c.src, from(c.seek.at, "-noaccurate_seek")...)...)
	args = append(args, "-filter_complex", c.filters())
	for i, r := range c.ladder {
		args = append(args, "-map", fmt.Sprintf("[v%d]", i))
		args = append(args, c.encoder(r, threads)...)
		args = append(args, segments(r.Name, segmentOf(c.chunk.Start))...)
	}
	return args
}

// filters bring the pictures to a constant rate, cut the chunk out and scale it.
// Where the picture ends before the recording does, the last one stays.
func (c chunkJob) filters() string {
	fps := fmt.Sprintf("fps=%d/%d", c.rate.num, c.rate.den)
	if c.seek.pad {
		fps += ":start_time=" + decimal(float64(c.first)/c.rate.float())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[0:V:0]%s,tpad=stop=-1:stop_mode=clone,trim=start_pts=%d:end_pts=%d,split=%d", fps, c.first, c.end, len(c.ladder))
	for i := range c.ladder {
		fmt.Fprintf(&b, "[s%d]", i)
	}
	for i, r := range c.ladder {
		fmt.Fprintf(&b, ";[s%d]scale=%d:%d:flags=bicubic,setsar=1,format=yuv420p[v%d]", i, r.Width, r.Height, i)
	}
	return b.String()
}

func (c chunkJob) encoder(r livestream.Rendition, threads string) []string {
	bits := strconv.Itoa(videoBitrate(r, c.rate.float()))
	// The key frames are the first frames of segments, in whole numbers, because
	// at 29.97 frames a second no frame begins at 4.0 s.
	key := fmt.Sprintf("expr:lt(mod((n+%d)*%d,%d),%d)", c.first, c.rate.den, SegmentSeconds*c.rate.num, c.rate.den)
	return []string{
		"-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-threads", threads,
		"-crf", quality, "-maxrate", bits, "-bufsize", bits,
		"-g", strconv.FormatInt(2*SegmentSeconds*(c.rate.num/c.rate.den+1), 10), "-sc_threshold", "0",
		"-force_key_frames", key, "-forced-idr", "1", "-fps_mode", "passthrough", "-flags:v", "+bitexact",
	}
}

// collect reads what ffmpeg made and checks that it is what was asked for.
func (c chunkJob) collect(dir string) (map[string][]livestream.Segment, error) {
	all := map[string][]livestream.Segment{}
	for _, r := range c.ladder {
		made, err := collect(filepath.Join(dir, r.Name))
		if err != nil {
			return nil, err
		}
		if first := fmt.Sprintf(segmentFiles, segmentOf(c.chunk.Start)); made[0].Name != first {
			return nil, fmt.Errorf("transcode: %s begins with %s instead of %s", r.Name, made[0].Name, first)
		}
		all[r.Name] = made
	}
	return all, nil
}

// TranscodeAudio writes the sound of src into dir/audio. It is one piece, as an
// encoder that starts anew at each chunk would click there. What is missing of
// it, at its start, within or at its end, becomes silence.
func (t *Tool) TranscodeAudio(ctx context.Context, src string, info livestream.MediaInfo, dir string, progress func(seconds float64)) ([]livestream.Segment, error) {
	if info.AudioCodec == "" {
		return nil, errors.New("transcode: there is no sound")
	}
	src, err := filepath.Abs(src)
	if err != nil {
		return nil, fmt.Errorf("transcode: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, livestream.AudioRendition), 0o755); err != nil {
		return nil, fmt.Errorf("transcode: %w", err)
	}
	whole := decimal(info.DurationSeconds)
	filter := fmt.Sprintf("[0:a:0]aresample=%d:async=1:first_pts=0,aformat=channel_layouts=stereo,apad=whole_dur=%s,atrim=end=%s[a]", audioRate, whole, whole)
	args := append([]string{"-threads", t.threads}, input(src)...)
	args = append(args, "-filter_complex", filter, "-map", "[a]", "-c:a", "aac", "-b:a", strconv.Itoa(audioBitrate), "-flags:a", "+bitexact")
	args = append(args, segments(livestream.AudioRendition, 0)...)
	err = t.encode(ctx, dir, args, working(info.DurationSeconds), "out_time_us", func(value string) {
		if us, err := strconv.ParseInt(value, 10, 64); err == nil {
			progress(min(max(float64(us)/1e6, 0), info.DurationSeconds))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("transcode the sound: %w", damaged(err))
	}
	return collect(filepath.Join(dir, livestream.AudioRendition))
}

// from are the options to begin at a time. At zero there are none: some
// demuxers cannot seek before their first key frame, and end anywhere.
func from(at float64, options ...string) []string {
	if at <= 0 {
		return nil
	}
	return append(options, "-ss", decimal(at))
}

func decimal(seconds float64) string { return strconv.FormatFloat(seconds, 'f', 6, 64) }
