package livestream_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestLadder(t *testing.T) {
	t.Parallel()
	type size struct{ width, height int }
	for source, want := range map[size]map[string]size{
		{1920, 1080}: {"1080p": {1920, 1080}, "720p": {1280, 720}, "480p": {852, 480}, "360p": {640, 360}},
		{3840, 2160}: {"1080p": {1920, 1080}, "720p": {1280, 720}, "480p": {852, 480}, "360p": {640, 360}},
		{1280, 720}:  {"720p": {1280, 720}, "480p": {852, 480}, "360p": {640, 360}},
		{1919, 1079}: {"720p": {1280, 720}, "480p": {852, 480}, "360p": {640, 360}}, // never above the source
		{1080, 1920}: {"1080p": {1080, 1920}, "720p": {720, 1280}, "480p": {480, 852}, "360p": {360, 640}},
		{640, 640}:   {"480p": {480, 480}, "360p": {360, 360}},
		{320, 180}:   {"360p": {320, 180}},
		{321, 181}:   {"360p": {320, 180}},
		{2, 8192}:    {"360p": {2, 8192}},
	} {
		got := map[string]size{}
		last := 0
		for _, r := range livestream.Ladder(source.width, source.height) {
			got[r.Name] = size{r.Width, r.Height}
			require.True(t, last == 0 || r.Bitrate < last, "highest first")
			require.Zero(t, r.Width%2+r.Height%2, "even sides")
			last = r.Bitrate
		}
		require.Equal(t, want, got, "%v", source)
	}
}

func TestMediaErrorKeepsItsCauseForTheLog(t *testing.T) {
	t.Parallel()
	cause := errors.New("moov atom not found")
	err := &livestream.MediaError{Failure: livestream.Failure{Code: livestream.FailureCorrupt, Message: "The file is damaged."}, Err: cause}
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, "corrupt: moov atom not found")
	require.EqualError(t, &livestream.MediaError{Failure: livestream.Failure{Code: livestream.FailureTooLong}}, "too_long")
}
