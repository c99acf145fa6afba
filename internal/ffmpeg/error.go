package ffmpeg

import (
	"errors"
	"strings"

	livestream "github.com/livestream-pro/livestream-pro"
)

// What a creator reads, and can do something about.
const (
	sayNotVideo     = "The file is not a video that we can read. Export it as MP4 and upload it again."
	sayEmpty        = "The file is empty. Upload it again."
	sayNothing      = "The file has neither video nor sound. Export it as MP4 and upload it again."
	sayContainer    = "This type of file is not supported. Export it as MP4 and upload it again."
	sayCodec        = "The way this file is encoded is not supported. Export it as MP4 with H.264 video and AAC sound and upload it again."
	sayTooMuch      = "Reading this file takes more memory or time than we have for one. Export it as MP4 with H.264 video and AAC sound and upload it again."
	sayTooBig       = "The picture is larger than 8K (8192 × 4320 pixels). Export it in a smaller size and upload it again."
	sayTooLong      = "The recording is longer than 12 hours. Cut it into shorter parts and upload one of them."
	sayDamaged      = "The file is damaged or incomplete. Check that it plays on your computer and upload it again."
	sayEndsTooEarly = "The end of the file is missing. Check that it plays to the end on your computer and upload it again."
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
