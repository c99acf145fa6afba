package ffmpeg

import (
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

// What was listed can be written and listed again, and names stay in their
// folder.
func FuzzParseSegments(f *testing.F) {
	f.Add("#EXTM3U\n#EXTINF:4.004000,\nseg_00000.m4s\n#EXTINF:1.5,title\r\nseg_00001.m4s\n#EXT-X-ENDLIST\n")
	f.Add("#EXTINF:4,\n../init.mp4\n")
	f.Fuzz(func(t *testing.T, playlist string) {
		made, err := parseSegments(playlist)
		if err != nil {
			return
		}
		require.NotEmpty(t, made)
		for _, s := range made {
			require.NotContains(t, s.Name, "/")
			require.GreaterOrEqual(t, s.Duration, 0.0)
		}
		again, err := parseSegments(string(Playlists{}.MediaPlaylist(made)))
		require.NoError(t, err)
		require.Len(t, again, len(made))
	})
}

func TestOutputRate(t *testing.T) {
	t.Parallel()
	for fps, want := range map[float64]rate{
		30: {30, 1}, 29.97: {30000, 1001}, 23.976: {24000, 1001}, 59.94: {60000, 1001}, 25: {25, 1}, 12.5: {12500, 1000}, 120: {60, 1}, 0.01: {1, 1},
	} {
		require.Equal(t, want, outputRate(fps), "%v", fps)
	}
}

// Chunks share their border's frame with nobody and leave none out, at rates at
// which no frame begins there.
func TestChunksShareNoFrame(t *testing.T) {
	t.Parallel()
	for _, fps := range []float64{30, 29.97, 23.976, 59.94, 17.3} {
		info := livestream.MediaInfo{DurationSeconds: 3601.7}
		r, next := outputRate(fps), int64(0)
		for _, chunk := range (Playlists{}).PlanChunks(info, 60e9) {
			first, end := r.frames(chunk, info.DurationSeconds)
			require.Equal(t, next, first)
			next = end
		}
		require.InDelta(t, info.DurationSeconds, float64(next)/r.float(), 0.5/r.float()+1e-9)
	}
}
