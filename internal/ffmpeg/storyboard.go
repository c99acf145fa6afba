package ffmpeg

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	storyboardSide    = 160 // pixels of the longer side
	storyboardColumns = 5
	storyboardMost    = 900 // pictures of a recording, about
	storyboardQuality = 5   // 2 is best, 31 worst
)

// sheet is a chunk's small pictures, side by side in rows: one at the chunk's start and
// then every interval.
type sheet struct {
	width, height int
	interval      int64 // seconds
	pictures      int
}

func sheetOf(info livestream.MediaInfo, chunk livestream.Chunk) sheet {
	longer := max(info.Width, info.Height, 1)
	s := sheet{width: max(2, info.Width*storyboardSide/longer&^1), height: max(2, info.Height*storyboardSide/longer&^1)}
	s.interval = SegmentSeconds * max(1, int64(math.Ceil(info.DurationSeconds/(storyboardMost*SegmentSeconds))))
	s.pictures = max(1, int(math.Ceil(chunk.Duration/float64(s.interval))))
	return s
}

func (s sheet) rows() int { return (s.pictures + storyboardColumns - 1) / storyboardColumns }

func (s sheet) filters(r rate) string {
	return fmt.Sprintf("select='lt(mod(n*%d,%d),%d)',scale=%d:%d:flags=area,setsar=1,format=yuvj420p[small]",
		r.den, s.interval*r.num, r.den, s.width, s.height)
}

// smallPictures is where the pictures are until they are put together.
const smallPictures = livestream.StoryboardFolder + "/small.raw"

// args are an output that begins with the chunk: ffmpeg tells nothing of its progress
// before each output has begun, and a sheet would be the last.
func (s sheet) args() []string {
	return []string{"-map", "[small]", "-c:v", "rawvideo", "-fps_mode", "passthrough", "-f", "rawvideo", smallPictures}
}

// tile puts the small pictures in dir together.
func (t *Tool) tile(ctx context.Context, s sheet, chunk livestream.Chunk, dir string) (livestream.Segment, error) {
	name := fmt.Sprintf("sheet_%05d.jpg", chunk.Index)
	file := filepath.Join(dir, livestream.StoryboardFolder, name)
	args := []string{
		"-f", "rawvideo", "-pixel_format", "yuvj420p", "-video_size", fmt.Sprintf("%dx%d", s.width, s.height), "-framerate", "1", "-i", "file:" + smallPictures,
		"-vf", fmt.Sprintf("tile=%dx%d", storyboardColumns, s.rows()), "-frames:v", "1", "-c:v", "mjpeg", "-q:v", strconv.Itoa(storyboardQuality),
		"-threads", t.threads, "-flags:v", "+bitexact", "-f", "image2", "-update", "1", file,
	}
	if err := t.encode(ctx, dir, args, working(0), "frame", func(int64) {}); err != nil {
		return livestream.Segment{}, fmt.Errorf("storyboard: %w", err)
	}
	stat, err := os.Stat(file)
	if err == nil {
		err = os.Remove(filepath.Join(dir, smallPictures))
	}
	if err != nil {
		return livestream.Segment{}, fmt.Errorf("storyboard: %w", err)
	}
	return livestream.Segment{Name: name, Duration: chunk.Duration, Bytes: stat.Size()}, nil
}

// Storyboard is the track that says which part of which sheet shows what time, for a
// player's seek bar. Sheets are the chunks' own, in order.
func (Playlists) Storyboard(info livestream.MediaInfo, sheets []livestream.Segment) []byte {
	var b bytes.Buffer
	b.WriteString("WEBVTT\n")
	start := 0.0
	for i, made := range sheets {
		s := sheetOf(info, livestream.Chunk{Index: i, Duration: made.Duration})
		end := start + made.Duration
		for n := range s.pictures {
			from := start + float64(int64(n)*s.interval)
			fmt.Fprintf(&b, "\n%s --> %s\n%s/%s#xywh=%d,%d,%d,%d\n", clock(from), clock(min(from+float64(s.interval), end)), livestream.StoryboardFolder, made.Name,
				n%storyboardColumns*s.width, n/storyboardColumns*s.height, s.width, s.height)
		}
		start = end
	}
	return b.Bytes()
}

// clock is a time as WebVTT has it.
func clock(seconds float64) string {
	d := time.Duration(math.Round(seconds*1000)) * time.Millisecond
	return fmt.Sprintf("%02d:%02d:%02d.%03d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60, d.Milliseconds()%1000)
}
