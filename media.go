package livestream

import (
	"fmt"
	"io"
	"time"
)

// MediaInfo is what a probe says of a file.
type MediaInfo struct {
	DurationSeconds float64 `json:"duration_seconds"`
	SizeBytes       int64   `json:"size_bytes"`
	Container       string  `json:"container"`
	VideoCodec      string  `json:"video_codec"` // empty: no video
	Width           int     `json:"width"`       // as displayed, after rotation
	Height          int     `json:"height"`
	Rotation        int     `json:"rotation,omitempty"` // degrees clockwise, a multiple of 90, from how it is stored to how it is displayed
	FrameRate       float64 `json:"frame_rate"`
	AudioCodec      string  `json:"audio_codec"` // empty: no sound
}

// Rendition is one quality of an archive.
type Rendition struct {
	Name    string `json:"name"` // "720p": the rung of the ladder
	Width   int    `json:"width"`
	Height  int    `json:"height"`
	Bitrate int    `json:"bitrate"` // bits per second, video and audio
}

// rungs is the ladder, highest first, at 16:9 and 30 frames a second. Heights
// are those of the shorter side, so that portrait video gets the same rungs.
var rungs = []Rendition{
	{Name: "1080p", Height: 1080, Bitrate: 5_000_000},
	{Name: "720p", Height: 720, Bitrate: 2_800_000},
	{Name: "480p", Height: 480, Bitrate: 1_400_000},
	{Name: "360p", Height: 360, Bitrate: 800_000},
}

// Ladder is the renditions for a source of that size: never above it, and
// always at least one. Sides are even, as H.264 needs.
func Ladder(width, height int) []Rendition {
	short := min(width, height)
	var ladder []Rendition
	for _, r := range rungs {
		if r.Height <= short {
			ladder = append(ladder, scaled(r, r.Height, width, height))
		}
	}
	if len(ladder) == 0 {
		smallest := rungs[len(rungs)-1]
		ladder = append(ladder, scaled(smallest, short, width, height))
	}
	return ladder
}

func scaled(r Rendition, short, width, height int) Rendition {
	source := min(width, height)
	r.Width = even(width * short / source)
	r.Height = even(height * short / source)
	return r
}

func even(n int) int { return max(2, n&^1) }

// Chunk is a part of a recording that one activity transcodes. Its borders lie
// on segment borders, so that the chunks' segments follow one another. It is made of a
// piece of the recording that is cut out at key frames, which lie where they lie: the
// piece begins before the chunk and ends after it.
type Chunk struct {
	Index    int     `json:"index"`
	Start    float64 `json:"start"`    // seconds
	Duration float64 `json:"duration"` // seconds
	From     float64 `json:"from"`     // the key frame that its piece begins with
	To       float64 `json:"to"`       // the key frame before which it ends; 0: the recording's end
}

// PieceFile is the name of its piece of the recording.
func (c Chunk) PieceFile() string { return fmt.Sprintf("piece_%05d.mkv", c.Index) }

// Segment is one media file of a rendition.
type Segment struct {
	Name     string  `json:"name"`     // relative to the rendition's folder
	Duration float64 `json:"duration"` // seconds
	Bytes    int64   `json:"bytes"`
	KeyBytes int64   `json:"key_bytes,omitempty"` // of them, up to the end of its key frame; 0 for sound
}

// AudioRendition is the name of the folder that holds an archive's sound, which
// is encoded once and shared by all renditions. StoryboardFolder holds sheets of small
// pictures, one a chunk.
const (
	AudioRendition   = "audio"
	StoryboardFolder = "storyboard"
)

// Files of a rendition, beside its segments.
const (
	InitSegment      = "init.mp4"
	MediaPlaylist    = "index.m3u8"
	KeyFramePlaylist = "iframes.m3u8" // for players that wind
)

// MediaError says that a file cannot become an archive, and why in its
// creator's words. Trying again gives the same.
type MediaError struct {
	Failure Failure
	Err     error // for the log alone
}

func (e *MediaError) Error() string {
	if e.Err != nil {
		return e.Failure.Code + ": " + e.Err.Error()
	}
	return e.Failure.Code
}

func (e *MediaError) Unwrap() error { return e.Err }

// ObjectRequest is what a client asks of an object, in the words of its headers. An
// empty one asks nothing.
type ObjectRequest struct {
	Range           string
	IfRange         string
	IfNoneMatch     string
	IfModifiedSince string
}

// Object is one answer of the store: whole, a range, or "not modified" (Status
// 304, no body). The caller closes Body.
type Object struct {
	Status       int // 200, 206, 304 or 416
	Body         io.ReadCloser
	Length       int64
	ContentType  string
	ContentRange string
	CacheControl string
	ETag         string
	LastModified time.Time
}
