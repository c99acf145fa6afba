package ffmpeg

import (
	"math"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// SegmentSeconds is the length of a segment, to a frame.
const SegmentSeconds = 4

// group is a key frame and the pictures that are decoded from it.
type group struct {
	key   float64 // seconds; when it is shown
	least float64 // when the first of the group is shown, which may be before its key frame
}

// planChunks cuts a recording into parts of about target, on borders of segments. The
// last may be longer, rather than shorter than a segment. A chunk has a key frame of
// its own to be decoded from: without one it would be decoded twice, and more often
// the longer the recording goes on without.
func planChunks(total float64, target time.Duration, groups []group) []livestream.Chunk {
	length := max(1, math.Round(target.Seconds()/SegmentSeconds)) * SegmentSeconds
	chunks := []livestream.Chunk{{}}
	if len(groups) > 0 {
		chunks[0].From = groups[0].key
	}
	for border := length; total-border >= SegmentSeconds; border += length {
		last := &chunks[len(chunks)-1]
		from := keyBefore(groups, border)
		if from <= last.From {
			continue
		}
		// Every other piece is cut out in one go, so they must not overlap.
		if n := len(chunks); n > 1 && (chunks[n-2].To == 0 || from < chunks[n-2].To) {
			continue
		}
		last.Duration = border - last.Start
		last.To = keyBehind(groups, last.From, border)
		chunks = append(chunks, livestream.Chunk{Index: len(chunks), Start: border, From: from})
	}
	last := &chunks[len(chunks)-1]
	last.Duration = total - last.Start
	return chunks
}

// keyBefore is the key frame from which the picture that is on screen at a time can be
// decoded; 0 when there is none before it.
func keyBefore(groups []group, at float64) float64 {
	before := 0.0
	for _, g := range groups {
		if g.key > at {
			break
		}
		before = g.key
	}
	return before
}

// keyBehind is the first key frame with which nothing comes that is shown before a
// time; 0 when that is the recording's end.
func keyBehind(groups []group, from, at float64) float64 {
	for _, g := range groups {
		if g.key > from && g.least >= at {
			return g.key
		}
	}
	return 0
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
