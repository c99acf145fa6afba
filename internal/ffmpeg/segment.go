package ffmpeg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	segmentFiles = "seg_%05d.m4s"
	madePlaylist = "made.m3u8" // ffmpeg's own, which only tells us what it made
)

// segments is the output of one rendition, into a folder of its name.
func segments(name string, first int64) []string {
	return []string{
		// Nothing of the source's metadata is published: phones write where they are.
		"-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact",
		// Shifting would move chunks with reordered frames against the others.
		"-avoid_negative_ts", "disabled",
		"-f", "hls", "-hls_time", hlsTime(name), "-hls_list_size", "0", "-hls_playlist_type", "vod",
		"-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", livestream.InitSegment,
		// The first fragment keeps its place in time, and the init segment says
		// nothing of it.
		"-hls_segment_options", "movflags=+frag_discont",
		"-start_number", strconv.FormatInt(first, 10),
		"-hls_segment_filename", name + "/" + segmentFiles, name + "/" + madePlaylist,
	}
}

// hlsTime is how long a segment is at least. Video is cut at every key frame:
// where those are is for the encoder to say, and at 29.97 frames a second some
// are a little less than four seconds apart.
func hlsTime(name string) string {
	if name == livestream.AudioRendition {
		return strconv.Itoa(SegmentSeconds)
	}
	return "0.5"
}

// collect lists the segments that ffmpeg left in a folder.
func collect(dir string) ([]livestream.Segment, error) {
	list := filepath.Join(dir, madePlaylist)
	content, err := os.ReadFile(list)
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	made, err := parseSegments(string(content))
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	for i := range made {
		stat, err := os.Stat(filepath.Join(dir, made[i].Name))
		if err != nil {
			return nil, fmt.Errorf("list segments: %w", err)
		}
		made[i].Bytes = stat.Size()
	}
	if err := os.Remove(list); err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	return made, nil
}

func parseSegments(playlist string) ([]livestream.Segment, error) {
	var (
		made     []livestream.Segment
		duration = -1.0
	)
	for line := range strings.Lines(playlist) {
		line = strings.TrimSpace(line)
		if value, ok := strings.CutPrefix(line, "#EXTINF:"); ok {
			value, _, _ = strings.Cut(value, ",")
			d, err := strconv.ParseFloat(value, 64)
			if err != nil || !(d >= 0 && d <= maxSeconds) {
				return nil, fmt.Errorf("a segment lasts %q", value)
			}
			duration = d
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if duration < 0 {
			return nil, fmt.Errorf("segment %q has no duration", line)
		}
		if !filepath.IsLocal(line) || filepath.Base(line) != line {
			return nil, fmt.Errorf("segment %q is not in the rendition's folder", line)
		}
		made = append(made, livestream.Segment{Name: line, Duration: duration})
		duration = -1
	}
	if len(made) == 0 {
		return nil, errors.New("there are no segments")
	}
	return made, nil
}
