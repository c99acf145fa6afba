package ffmpeg

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// clockOffset is added to all times that are read of a recording, in seconds. Some decode
// their first pictures before zero, and Matroska, which pieces are, knows no such time;
// and without it ffmpeg would move a single track of an MPEG-TS to the start.
const clockOffset = 100

// Split plans a recording's chunks, about target long, and cuts out into dir what each
// is made of, without decoding anything: its PieceFile. It reads src twice, from beginning
// to end. Progress is called with the seconds that are cut.
//
// The pieces together are a little larger than src.
func (t *Tool) Split(ctx context.Context, src string, info livestream.MediaInfo, target time.Duration, dir string, progress func(seconds float64)) ([]livestream.Chunk, error) {
	if info.VideoCodec == "" {
		return nil, errors.New("split: there is no video")
	}
	src, err := filepath.Abs(src)
	if err != nil {
		return nil, fmt.Errorf("split: %w", err)
	}
	groups, err := t.groups(ctx, src, progress)
	if err != nil {
		return nil, fmt.Errorf("split: %w", damaged(err))
	}
	chunks := planChunks(info.DurationSeconds, target, groups)
	args := append([]string{"-copyts", "-start_at_zero"}, input(src, "-itsoffset", strconv.Itoa(clockOffset))...)
	var outputs []cutting
	for side := range min(2, len(chunks)) {
		o := cut(chunks, side)
		outputs = append(outputs, o)
		args = append(args, o.args()...)
	}
	may := working(info.DurationSeconds)
	may.file = 2*info.SizeBytes + 1<<20
	err = t.encode(ctx, dir, args, may, "out_time_us", func(us int64) {
		for _, o := range outputs {
			o.tidy(dir, true)
		}
		progress(min(max(float64(us)/1e6, 0), info.DurationSeconds))
	})
	if err != nil {
		return nil, fmt.Errorf("split: %w", damaged(err))
	}
	for _, o := range outputs {
		if err := o.collect(dir); err != nil {
			return nil, err
		}
	}
	return chunks, nil
}

// maxGroups is what a recording of the greatest length has that is made of key frames
// alone, at 60 a second. They are kept in memory.
const maxGroups = 60 * maxSeconds

// groups lists a recording's key frames, in order.
func (t *Tool) groups(ctx context.Context, src string, progress func(float64)) ([]group, error) {
	args := []string{"-hide_banner", "-loglevel", "error", "-select_streams", "V:0", "-show_entries", "format=start_time:packet=pts_time,flags", "-of", "csv"}
	var (
		all   []group
		start float64
		seen  int
	)
	alive := func() { progress(0) }
	err := t.run(ctx, t.ffprobe, "", append(args, examined(src)...), probing, alive, func(line string) bool {
		if seen++; seen%packetsPerBeat == 0 {
			alive()
		}
		fields := strings.Split(line, ",")
		if len(fields) < 2 {
			return true
		}
		at, err := strconv.ParseFloat(fields[1], 64)
		switch {
		case err != nil:
		case fields[0] == "format":
			start = at
		case len(all) > maxGroups: // it is refused, and what it says is not kept
		case len(fields) > 2 && strings.HasPrefix(fields[2], "K"):
			all = append(all, group{key: at, least: at})
		case len(all) > 0:
			last := &all[len(all)-1]
			last.least = min(last.least, at)
		}
		return true
	})
	if len(all) > maxGroups {
		return nil, refuse(livestream.FailureUnsupported, sayTooMuch, errors.New("it has too many key frames"))
	}
	for i := range all {
		all[i].key, all[i].least = all[i].key-start, all[i].least-start
	}
	return all, err
}

// cutting is one of the two outputs of a split: neighbours overlap, every other piece
// does not. What lies between two pieces is written too, and thrown away.
type cutting struct {
	side   string
	times  []float64                // key frames at which a new file begins
	pieces map[int]livestream.Chunk // by the number of their file
}

func cut(chunks []livestream.Chunk, side int) cutting {
	c := cutting{side: []string{"even", "odd"}[side], pieces: map[int]livestream.Chunk{}}
	at := chunks[0].From
	for i := side; i < len(chunks); i += 2 {
		if chunks[i].From > at {
			c.times = append(c.times, chunks[i].From)
		}
		c.pieces[len(c.times)] = chunks[i]
		if at = chunks[i].To; at > 0 {
			c.times = append(c.times, at)
		}
	}
	return c
}

func (c cutting) args() []string {
	// A file begins at the first key frame at its time or after: pieces count in
	// milliseconds, and the one before is farther away than two of them. The last time
	// never comes; without any, files would be two seconds long.
	var times []string
	for _, at := range append(c.times, 2*maxSeconds) {
		times = append(times, decimal(at+clockOffset-0.002))
	}
	return []string{
		"-map", "0:V:0", "-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1",
		"-f", "segment", "-segment_format", "matroska", "-segment_times", strings.Join(times, ","),
		"-segment_list", c.list(), "-segment_list_type", "csv", c.file("%05d"),
	}
}

func (c cutting) file(number string) string { return c.side + "_" + number + ".mkv" }

func (c cutting) numbered(dir string, n int) string {
	return filepath.Join(dir, c.file(fmt.Sprintf("%05d", n)))
}

// tidy removes what is no piece, once it is written: while ffmpeg runs, when there is
// a file after it.
func (c cutting) tidy(dir string, running bool) {
	for n := range len(c.times) + 1 {
		if _, wanted := c.pieces[n]; wanted || running && !exists(c.numbered(dir, n+1)) {
			continue
		}
		_ = os.Remove(c.numbered(dir, n)) // it goes with the folder otherwise
	}
}

// collect checks that the pieces begin where they should, and gives them their names.
func (c cutting) collect(dir string) error {
	c.tidy(dir, false)
	content, err := os.ReadFile(filepath.Join(dir, c.list()))
	if err != nil {
		return fmt.Errorf("split: %w", err)
	}
	begins := map[string]float64{}
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSpace(line), ",") // a file, its first time and its last
		if len(fields) == 3 {
			begins[fields[0]] = seconds(fields[1]) - clockOffset
		}
	}
	for n, chunk := range c.pieces {
		at, ok := begins[c.file(fmt.Sprintf("%05d", n))]
		// The first file begins with the recording, and is listed at zero.
		if !ok || n > 0 && math.Abs(at-chunk.From) > 0.01 {
			return refuse(livestream.FailureCorrupt, sayDamaged, fmt.Errorf("the piece of chunk %d begins at %.3f s, not at %.3f s", chunk.Index, at, chunk.From))
		}
		if err := os.Rename(c.numbered(dir, n), filepath.Join(dir, chunk.PieceFile())); err != nil {
			return fmt.Errorf("split: %w", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, c.list())); err != nil {
		return fmt.Errorf("split: %w", err)
	}
	return nil
}

func (c cutting) list() string { return c.side + ".csv" }

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
