package ffmpeg

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
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
	return fmt.Sprintf("select='lt(mod(n*%d,%d),%d)',scale=%d:%d:flags=area,setsar=1,tile=%dx%d,format=yuvj420p[sheet]",
		r.den, s.interval*r.num, r.den, s.width, s.height, storyboardColumns, s.rows())
}

func sheetName(chunk livestream.Chunk) string { return fmt.Sprintf("sheet_%05d.jpg", chunk.Index) }

func (s sheet) args(chunk livestream.Chunk) []string {
	return []string{
		"-map", "[sheet]", "-c:v", "mjpeg", "-q:v", fmt.Sprint(storyboardQuality), "-map_metadata", "-1", "-fps_mode", "passthrough",
		"-flags:v", "+bitexact", "-f", "image2", "-update", "1", livestream.StoryboardFolder + "/" + sheetName(chunk),
	}
}

func (s sheet) collect(dir string, chunk livestream.Chunk) (livestream.Segment, error) {
	stat, err := os.Stat(filepath.Join(dir, livestream.StoryboardFolder, sheetName(chunk)))
	if err != nil {
		return livestream.Segment{}, fmt.Errorf("storyboard: %w", err)
	}
	return livestream.Segment{Name: sheetName(chunk), Duration: chunk.Duration, Bytes: stat.Size()}, nil
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
