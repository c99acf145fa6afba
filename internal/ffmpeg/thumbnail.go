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

const (
	posterWidth      = 1280
	thumbnailWidth   = 480
	thumbnailFrames  = 30 // of which the most typical is taken
	thumbnailReach   = 60 // seconds of media that are decoded for it, at most
	thumbnailQuality = 3  // 2 is best, 31 worst
)

// Pictures writes a picture of a recording at about that time, from the piece that it
// is in, into dir: a poster and a thumbnail, both JPEG. Alive is called while it is read,
// which takes long where pictures are large.
func (t *Tool) Pictures(ctx context.Context, piece string, info livestream.MediaInfo, chunk livestream.Chunk, at float64, dir string, alive func()) error {
	if info.VideoCodec == "" {
		return errors.New("pictures: there is no video")
	}
	piece, err := filepath.Abs(piece)
	if err != nil {
		return fmt.Errorf("pictures: %w", err)
	}
	for _, skip := range []float64{max(0, at-chunk.From), 0} {
		if err := t.pictures(ctx, piece, skip, info, dir, alive); err != nil {
			return fmt.Errorf("pictures: %w", damaged(err))
		}
		// Where the picture ends long before the sound there is none to take.
		if stat, err := os.Stat(filepath.Join(dir, livestream.Thumbnail)); err == nil && stat.Size() > 0 {
			return nil
		}
	}
	return refuse(livestream.FailureCorrupt, sayDamaged, errors.New("no picture can be decoded"))
}

func (t *Tool) pictures(ctx context.Context, piece string, skip float64, info livestream.MediaInfo, dir string, alive func()) error {
	// Scaled first, because the thumbnail filter keeps the frames it chooses from.
	filter := fmt.Sprintf("[0:V:0]%sscale=%s,setsar=1,thumbnail=%d,format=yuvj420p,split[poster][large];[large]scale=%s[thumbnail]",
		upright(info), within(info, posterWidth), thumbnailFrames, within(info, thumbnailWidth))
	options := []string{"-noautorotate"}
	if skip > 0 {
		options = append(options, "-noaccurate_seek", "-ss", decimal(skip)) // a key frame does
	}
	args := append([]string{"-threads", t.threads}, input(piece, options...)...)
	args = append(args, "-filter_complex", filter)
	for _, to := range [][2]string{{"[poster]", livestream.Poster}, {"[thumbnail]", livestream.Thumbnail}} {
		args = append(args, "-map", to[0], "-frames:v", "1", "-c:v", "mjpeg", "-q:v", strconv.Itoa(thumbnailQuality),
			"-map_metadata", "-1", "-flags:v", "+bitexact", "-f", "image2", "-update", "1", to[1])
	}
	return t.encode(ctx, dir, args, working(thumbnailReach), "frame", func(int64) { alive() })
}

// within is the picture's size, no wider than that.
func within(info livestream.MediaInfo, width int) string {
	width = min(width, info.Width)
	return fmt.Sprintf("%d:%d", width, max(2, info.Height*width/info.Width))
}
