package ffmpeg_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg/ffmpegtest"
)

// A recording that names other files, here or elsewhere, reaches none of them,
// whichever step opens it.
func TestRecordingReachesNothingElse(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	dir := t.TempDir()
	local := ffmpegtest.Recording(t, dir, "local.ts", ffmpeg.GenerateOptions{Seconds: 2, Width: 320, Height: 180})
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.ServeFile(w, r, local)
	}))
	t.Cleanup(server.Close)
	hls := func(address string) string {
		return "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n" + address + "\n#EXT-X-ENDLIST\n"
	}
	dash := func(address string) string {
		return `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"><Period>` +
			`<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1"><BaseURL>` + address + `</BaseURL></Representation></AdaptationSet></Period></MPD>`
	}
	sdp := "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
	for name, content := range map[string]string{
		"HLS to the network":       hls(server.URL + "/a.ts"),
		"HLS to a file":            hls(local),
		"HLS to a file by scheme":  hls("file://" + local),
		"HLS to a part of a file":  hls("subfile,,start,0,end,1000,,:" + local),
		"HLS to joined files":      hls("concat:" + local + "|" + local),
		"HLS in a data address":    hls("data:text/plain,x"),
		"DASH to the network":      dash(server.URL + "/a.ts"),
		"list of a file":           "ffconcat version 1.0\nfile '" + local + "'\n",
		"list of a network file":   "ffconcat version 1.0\nfile '" + server.URL + "/a.ts'\n",
		"session on the network":   sdp,
		"playlist behind a header": "\x00\x00\x00\x08free" + hls(server.URL+"/a.ts"),
		"playlist behind TS":       "G" + strings.Repeat("\x00", 187) + "G" + hls(local),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			src := filepath.Join(out, "source")
			require.NoError(t, os.WriteFile(src, []byte(content), 0o600))
			media := (*livestream.MediaError)(nil)
			_, err := tool.Probe(t.Context(), src)
			require.ErrorAs(t, err, &media)
			// The file may be another one than was probed.
			info := livestream.MediaInfo{VideoCodec: "h264", AudioCodec: "aac", Width: 320, Height: 180, FrameRate: 30, DurationSeconds: 2}
			_, err = tool.TranscodeChunk(t.Context(), src, info, livestream.Chunk{Duration: 2}, livestream.Ladder(320, 180), out, func(float64) {})
			require.ErrorAs(t, err, &media)
			_, err = tool.TranscodeAudio(t.Context(), src, info, out, func(float64) {})
			require.ErrorAs(t, err, &media)
			require.ErrorAs(t, tool.Thumbnail(t.Context(), src, info, filepath.Join(out, "a.jpg")), &media)
			require.Zero(t, asked.Load(), "the network was asked")
		})
	}
}
