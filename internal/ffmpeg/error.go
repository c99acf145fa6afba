package ffmpeg

import (
	"errors"
	"strings"

	livestream "github.com/livestream-pro/livestream-pro"
)

// What a creator reads.
const (
	sayNotVideo     = "The file is not a video that we can read. MP4 with H.264 video and AAC sound always is."
	sayEmpty        = "The file is empty."
	sayNothing      = "The file has neither video nor sound."
	sayContainer    = "This type of file is not supported. MP4, MKV, FLV, MPEG-TS and WebM are."
	sayCodec        = "The way this file is encoded is not supported. MP4 with H.264 video and AAC sound always is."
	sayTooMuch      = "Reading this file takes more memory or time than we have for one. MP4 with H.264 video and AAC sound takes little."
	sayTooBig       = "The picture is larger than 8K (8192 × 4320 pixels)."
	sayTooLong      = "The recording is longer than 12 hours."
	sayDamaged      = "The file is damaged or incomplete. See whether it plays to its end on your computer."
	sayEndsTooEarly = "The end of the file is missing. See whether it plays to its end on your computer."
)

func refuse(code, message string, cause error) error {
	return &livestream.MediaError{Failure: livestream.Failure{Code: code, Message: message}, Err: cause}
}

// damaged recognises the failure of a program that lies in its input: the same
// file fails again. All others, such as a full disk, may pass.
func damaged(err error) error {
	failed := (*programError)(nil)
	if !errors.As(err, &failed) {
		return err
	}
	switch {
	case strings.Contains(failed.stderr, "Format not on whitelist"):
		return refuse(livestream.FailureNotVideo, sayNotVideo, err)
	case strings.Contains(failed.stderr, "Decoder (codec"), refusedCodec.MatchString(failed.stderr):
		return refuse(livestream.FailureUnsupported, sayCodec, err)
	case strings.Contains(failed.stderr, "Invalid data found when processing input"),
		strings.Contains(failed.stderr, "End of file"),
		strings.Contains(failed.stderr, "could not find codec parameters"),
		strings.Contains(failed.stderr, "matches no streams"),
		strings.Contains(failed.stderr, "Cannot determine format of input stream"):
		return refuse(livestream.FailureCorrupt, sayDamaged, err)
	}
	return err
}
