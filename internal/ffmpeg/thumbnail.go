package ffmpeg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	livestream "github.com/livestream-pro/livestream-pro"
)

const thumbnailWidth = 1280

// Thumbnail writes a picture of src, a JPEG, to dst. It is the most typical of
// those about a tenth into the recording, where the titles are mostly over.
func (t *Tool) Thumbnail(ctx context.Context, src string, info livestream.MediaInfo, dst string) error {
	if info.VideoCodec == "" {
		return errors.New("thumbnail: there is no video")
	}
	src, err := filepath.Abs(src)
	if err != nil {
		return fmt.Errorf("thumbnail: %w", err)
	}
	for _, at := range []float64{info.DurationSeconds / 10, 0} {
		if err := t.picture(ctx, src, at, info, dst); err != nil {
			return fmt.Errorf("thumbnail: %w", damaged(err))
		}
		// Where the picture ends long before the sound there is none to take.
		if stat, err := os.Stat(dst); err == nil && stat.Size() > 0 {
			return nil
		}
	}
	return refuse(livestream.FailureCorrupt, sayDamaged, errors.New("no picture can be decoded"))
}

func (t *Tool) picture(ctx context.Context, src string, at float64, info livestream.MediaInfo, dst string) error {
	width := min(thumbnailWidth, info.Width)
	height := max(2, info.Height*width/info.Width)
	// Scaled first, because the thumbnail filter keeps the frames it chooses from.
	filter := fmt.Sprintf("[0:V:0]scale=%d:%d,setsar=1,thumbnail=%d,format=yuvj420p[v]", width, height, thumbnailFrames)
	args := append([]string{"-threads", t.threads}, input(src, from(at)...)...)
	args = append(args, "-filter_complex", filter, "-map", "[v]", "-frames:v", "1", "-c:v", "mjpeg", "-q:v", strconv.Itoa(thumbnailQuality),
		"-map_metadata", "-1", "-flags:v", "+bitexact", "-f", "image2", "-update", "1", filepath.Base(dst))
	return t.encode(ctx, filepath.Dir(dst), args, working(thumbnailReach), "frame", func(string) {})
}

const (
	thumbnailFrames  = 30
	thumbnailReach   = 60 // seconds of media to decode, at most, to find them
	thumbnailQuality = 3  // 2 is best, 31 worst
)
