package livestream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestRecordingPartSize(t *testing.T) {
	t.Parallel()
	const most = livestream.MinRecordingPart * livestream.MaxRecordingParts
	for size, want := range map[int64]int64{
		1:                            livestream.MinRecordingPart,
		livestream.MinRecordingPart:  livestream.MinRecordingPart,
		livestream.MaxRecordingBytes: 8 * livestream.MinRecordingPart,
		most:                         livestream.MinRecordingPart,
		most + 1:                     2 * livestream.MinRecordingPart,
	} {
		part := livestream.RecordingPartSize(size)
		require.Equal(t, want, part, "%d bytes", size)
		require.LessOrEqual(t, (size+part-1)/part, int64(livestream.MaxRecordingParts))
	}
}
