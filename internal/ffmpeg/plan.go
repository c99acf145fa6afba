package ffmpeg

import (
	"math"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// SegmentSeconds is the length of a segment, to a frame.
const SegmentSeconds = 4

// Playlists plans chunks and writes playlists: what needs no programs.
type Playlists struct{}

// PlanChunks cuts a recording into parts of about target, on borders of
// segments. The last may be longer, rather than shorter than a segment.
func (Playlists) PlanChunks(info livestream.MediaInfo, target time.Duration) []livestream.Chunk {
	length := max(1, math.Round(target.Seconds()/SegmentSeconds)) * SegmentSeconds
	var chunks []livestream.Chunk
	for start := 0.0; ; start += length {
		chunk := livestream.Chunk{Index: len(chunks), Start: start, Duration: length}
		if rest := info.DurationSeconds - start; rest < length+SegmentSeconds {
			chunk.Duration = rest
			return append(chunks, chunk)
		}
		chunks = append(chunks, chunk)
	}
}

// rate is a constant frame rate.
type rate struct{ num, den int64 }

const maxRate = 60

// outputRate is the rate of an archive of a recording at fps. All chunks have to
// come to the same one, so it is exact: 29.97 is 30000/1001.
func outputRate(fps float64) rate {
	fps = min(max(fps, 1), maxRate)
	near := func(v float64) bool { return math.Abs(fps-v) < v*3e-4 }
	whole := math.Round(fps)
	ntsc := math.Round(fps * 1001 / 1000)
	switch {
	case near(whole):
		return rate{int64(whole), 1}
	case near(ntsc * 1000 / 1001):
		return rate{int64(ntsc) * 1000, 1001}
	}
	return rate{int64(math.Round(fps * 1000)), 1000}
}

func (r rate) float() float64 { return float64(r.num) / float64(r.den) }

// frames is the range [first, end) of a chunk's frames, counted from the
// recording's start. A frame belongs to the chunk in which it begins; the
// recording's end is rounded to a frame.
func (r rate) frames(chunk livestream.Chunk, total float64) (first, end int64) {
	first = r.firstOf(chunk.Start)
	if stop := chunk.Start + chunk.Duration; stop < total-1e-3 {
		end = r.firstOf(stop)
	} else {
		end = int64(math.Round(total * r.float()))
	}
	return first, max(end, first+1)
}

// firstOf is the first frame of the segment that begins at a multiple of
// SegmentSeconds.
func (r rate) firstOf(start float64) int64 {
	over := segmentOf(start) * SegmentSeconds * r.num
	return (over + r.den - 1) / r.den
}

func segmentOf(start float64) int64 { return int64(math.Round(start / SegmentSeconds)) }
