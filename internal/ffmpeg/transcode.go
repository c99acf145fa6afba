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

// TranscodeChunk decodes a chunk once, from its piece of the recording, and writes it
// in all qualities of the ladder, each into dir/<its name>: the segments, numbered from
// the start of the recording, and an init segment that is the same for all chunks.
// Small pictures of it go into dir/storyboard. Progress is called with the seconds
// that are done.
//
// The files are a function of the input alone, so that a chunk that is made
// twice overwrites itself.
func (t *Tool) TranscodeChunk(ctx context.Context, piece string, info livestream.MediaInfo, chunk livestream.Chunk, ladder []livestream.Rendition, dir string, progress func(seconds float64)) (map[string][]livestream.Segment, error) {
	if info.VideoCodec == "" || len(ladder) == 0 {
		return nil, errors.New("transcode: there is no video")
	}
	piece, err := filepath.Abs(piece)
	if err != nil {
		return nil, fmt.Errorf("transcode: %w", err)
	}
	c := chunkJob{piece: piece, info: info, rate: outputRate(info.FrameRate), chunk: chunk, ladder: ladder}
	c.first, c.end = c.rate.frames(chunk, info.DurationSeconds)
	c.sheet = sheetOf(info, chunk)
	for _, folder := range append([]string{livestream.StoryboardFolder}, names(ladder)...) {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return nil, fmt.Errorf("transcode: %w", err)
		}
	}
	var made int64
	err = t.encode(ctx, dir, c.args(t.threads), working(max(chunk.Duration, chunk.Start+chunk.Duration-chunk.From)), "frame", func(frames int64) {
		made = frames
		progress(min(float64(frames)/c.rate.float(), chunk.Duration))
	})
	if err != nil {
		return nil, fmt.Errorf("transcode chunk %d: %w", chunk.Index, damaged(err))
	}
	if made != c.end-c.first {
		return nil, refuse(livestream.FailureCorrupt, sayDamaged, fmt.Errorf("chunk %d has no pictures", chunk.Index))
	}
	all, err := c.collect(dir)
	if err != nil {
		return nil, err
	}
	sheet, err := t.tile(ctx, c.sheet, chunk, dir)
	all[livestream.StoryboardFolder] = []livestream.Segment{sheet}
	return all, err
}

type chunkJob struct {
	piece      string
	info       livestream.MediaInfo
	rate       rate
	chunk      livestream.Chunk
	ladder     []livestream.Rendition
	first, end int64 // frames
	sheet      sheet
}

func (c chunkJob) args(threads string) []string {
	// The recording's own clock goes through from the input to the segments, so
	// that the chunks follow one another to the frame.
	args := []string{"-copyts", "-threads", threads}
	args = append(args, input(c.piece, "-itsoffset", strconv.Itoa(-clockOffset), "-noautorotate")...)
	args = append(args, "-filter_complex", c.filters())
	for i, r := range c.ladder {
		args = append(args, "-map", fmt.Sprintf("[v%d]", i))
		args = append(args, c.encoder(r, threads)...)
		args = append(args, segments(r.Name, segmentOf(c.chunk.Start))...)
	}
	return append(args, c.sheet.args()...)
}

// filters bring the pictures to a constant rate, cut the chunk out and scale it.
// Where the picture begins after the recording, or ends before it does, the first or
// last one stays.
func (c chunkJob) filters() string {
	var b strings.Builder
	// A piece counts in milliseconds. A little later is the same frame, except where a
	// frame lies half way between two of the archive's: at 120 a second each other one.
	fmt.Fprintf(&b, "[0:V:0]settb=AVTB,setpts=PTS+600,fps=%d/%d:start_time=%s,tpad=stop=-1:stop_mode=clone,trim=start_pts=%d:end_pts=%d,%ssplit=%d",
		c.rate.num, c.rate.den, decimal(float64(c.first)/c.rate.float()), c.first, c.end, upright(c.info), len(c.ladder)+1)
	for i := range c.ladder {
		fmt.Fprintf(&b, "[s%d]", i)
	}
	b.WriteString("[s]")
	for i, r := range c.ladder {
		fmt.Fprintf(&b, ";[s%d]scale=%d:%d:flags=bicubic,setsar=1,format=yuv420p[v%d]", i, r.Width, r.Height, i)
	}
	fmt.Fprintf(&b, ";[s]%s", c.sheet.filters(c.rate))
	return b.String()
}

// upright turns the picture as its headers ask for; a piece has none that does.
func upright(info livestream.MediaInfo) string {
	switch info.Rotation {
	case 90:
		return "transpose=clock,"
	case 180:
		return "hflip,vflip,"
	case 270:
		return "transpose=cclock,"
	}
	return ""
}

func names(ladder []livestream.Rendition) []string {
	var all []string
	for _, r := range ladder {
		all = append(all, r.Name)
	}
	return all
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
		for i := range made {
			if made[i].KeyBytes, err = keyBytes(filepath.Join(dir, r.Name, made[i].Name)); err != nil {
				return nil, fmt.Errorf("transcode: %s: %w", r.Name, err)
			}
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
	filter := fmt.Sprintf("[0:a:0]asetpts=PTS-%d/TB,aresample=%d:async=1:first_pts=0,aformat=channel_layouts=stereo,apad=whole_dur=%s,atrim=end=%s[a]", clockOffset, audioRate, whole, whole)
	// Without an offset ffmpeg would move the sound of an MPEG-TS to the start where the
	// picture begins before it.
	args := append([]string{"-copyts", "-start_at_zero", "-threads", t.threads}, input(src, "-itsoffset", strconv.Itoa(clockOffset))...)
	args = append(args, "-filter_complex", filter, "-map", "[a]", "-c:a", "aac", "-b:a", strconv.Itoa(audioBitrate), "-flags:a", "+bitexact")
	args = append(args, segments(livestream.AudioRendition, 0)...)
	err = t.encode(ctx, dir, args, working(info.DurationSeconds), "out_time_us", func(us int64) {
		progress(min(max(float64(us)/1e6, 0), info.DurationSeconds))
	})
	if err != nil {
		return nil, fmt.Errorf("transcode the sound: %w", damaged(err))
	}
	progress(info.DurationSeconds) // ffmpeg counts from where its first report was
	return collect(filepath.Join(dir, livestream.AudioRendition))
}

func decimal(seconds float64) string { return strconv.FormatFloat(seconds, 'f', 6, 64) }
