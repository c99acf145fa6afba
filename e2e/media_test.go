package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
)

const frameRate = 15

// recording makes a recording that is quick to transcode.
func (s *stack) recording(seconds float64) string {
	s.Helper()
	return s.recordingOf(seconds, 640, 360)
}

func (s *stack) recordingOf(seconds float64, width, height int) string {
	s.Helper()
	tool, err := ffmpeg.New(ffmpeg.Config{})
	require.NoError(s, err)
	file := filepath.Join(s.TempDir(), "recording.mp4") // tests within a test run side by side
	require.NoError(s, tool.Generate(s.ctx, file, ffmpeg.GenerateOptions{Seconds: seconds, Width: width, Height: height, FPS: strconv.Itoa(frameRate)}))
	return file
}

// plays lets ffprobe read an archive over HTTP to its end, as a player would.
func (s *stack) plays(archive archiveView, seconds float64, renditions ...string) {
	s.Helper()
	var names []string
	for _, r := range archive.Renditions {
		names = append(names, r.Name)
	}
	require.Equal(s, renditions, names)
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	probe := exec.CommandContext(ctx, "ffprobe", "-v", "error", "-of", "json", "-count_packets",
		"-show_entries", "stream=codec_type,nb_read_packets:format=duration", archive.PlaybackURL)
	var complaint bytes.Buffer
	probe.Stderr = &complaint
	out, err := probe.Output()
	require.NoError(s, err, complaint.String())
	require.Empty(s, complaint.String())
	var probed struct {
		Streams []struct {
			CodecType string `json:"codec_type"`
			Packets   string `json:"nb_read_packets"`
		} `json:"streams"`
		Format struct{ Duration string } `json:"format"`
	}
	require.NoError(s, json.Unmarshal(out, &probed))
	duration, err := strconv.ParseFloat(probed.Format.Duration, 64)
	require.NoError(s, err)
	require.InDelta(s, seconds, duration, 0.5)
	kinds := map[string]int{}
	for _, stream := range probed.Streams {
		kinds[stream.CodecType]++
		packets, err := strconv.Atoi(stream.Packets)
		require.NoError(s, err)
		if stream.CodecType == "video" {
			require.InDelta(s, frameRate*seconds, packets, 2, "frames are missing, or are there twice")
		}
	}
	require.Equal(s, len(renditions), kinds["video"])
	require.NotZero(s, kinds["audio"])
}
