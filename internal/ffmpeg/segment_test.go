package ffmpeg

import (
	"testing"
	"time"

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
		for _, chunk := range planChunks(info.DurationSeconds, time.Minute, every(2, info.DurationSeconds)) {
			first, end := r.frames(chunk, info.DurationSeconds)
			require.Equal(t, next, first)
			next = end
		}
		require.InDelta(t, info.DurationSeconds, float64(next)/r.float(), 0.5/r.float()+1e-9)
	}
}

// every is a recording with a key frame each so many seconds.
func every(interval, total float64) []group {
	var groups []group
	for at := 0.0; at < total; at += interval {
		groups = append(groups, group{key: at, least: at})
	}
	return groups
}

func TestPlanChunks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		seconds, keys float64
		target        time.Duration
		want          []float64 // durations
	}{
		{0.5, 2, time.Minute, []float64{0.5}},
		{60, 2, time.Minute, []float64{60}},
		{63.9, 2, time.Minute, []float64{63.9}},
		{64, 2, time.Minute, []float64{60, 4}},
		{150, 2, time.Minute, []float64{60, 60, 30}},
		{20, 2, 9 * time.Second, []float64{8, 8, 4}},
		{9, 2, 0, []float64{4, 5}},
		{300, 90, time.Minute, []float64{120, 60, 120}}, // key frames at 90, 180 and 270
		{300, 400, time.Minute, []float64{300}},
	} {
		chunks := planChunks(c.seconds, c.target, every(c.keys, c.seconds))
		var got []float64
		at := 0.0
		for i, chunk := range chunks {
			require.Equal(t, i, chunk.Index)
			require.InDelta(t, at, chunk.Start, 0)
			at += chunk.Duration
			got = append(got, chunk.Duration)
			require.LessOrEqual(t, chunk.From, chunk.Start, "its first picture can be decoded")
			require.True(t, chunk.To == 0 || chunk.To >= at, "so can its last")
			if i > 1 {
				require.True(t, chunks[i-2].To > 0 && chunks[i-2].To <= chunk.From, "every other piece can be cut out in one go")
			}
		}
		require.InDeltaSlice(t, c.want, got, 1e-9, "%v s", c.seconds)
		require.InDelta(t, c.seconds, at, 1e-9)
	}
}

// Pictures that are shown before their key frame belong to the chunk before it.
func TestPlanChunksOfOpenGroups(t *testing.T) {
	t.Parallel()
	groups := every(2, 20)
	for i := range groups[1:] {
		groups[i+1].least -= 0.1
	}
	for _, chunk := range planChunks(20, 8*time.Second, groups)[:1] {
		require.InDelta(t, 10, chunk.To, 0, "what comes with the key frame at 8 s is shown from 7.9 s on")
	}
}

// A segment that was damaged is found out, whatever it says of itself.
func FuzzFirstSampleEnd(f *testing.F) {
	box := func(name string, content ...byte) []byte {
		return append([]byte{0, 0, 0, byte(8 + len(content)), name[0], name[1], name[2], name[3]}, content...)
	}
	header := box("tfhd", 0, 2, 0, 0x10, 0, 0, 0, 1, 0, 0, 0, 7) // samples of 7 bytes
	run := box("trun", 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 80)      // which begin at 80
	good := append(append(box("styp"), box("moof", box("traf", append(header, run...)...)...)...), make([]byte, 100)...)
	end, err := firstSampleEnd(good)
	require.NoError(f, err)
	require.EqualValues(f, 8+80+7, end)
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, segment []byte) {
		if end, err := firstSampleEnd(segment); err == nil {
			require.Positive(t, end)
			require.LessOrEqual(t, end, int64(len(segment)))
		}
	})
}
