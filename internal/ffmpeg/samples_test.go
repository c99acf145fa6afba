package ffmpeg_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg/ffmpegtest"
)

// workshop makes sample files in a folder.
type workshop struct {
	*testing.T
	dir  string
	more []string // inputs after the two that there always are
}

// with is the same workshop with one more input.
func (w workshop) with(input ...string) workshop {
	w.more = input
	return w
}

// ffmpeg makes a file of that name with the program itself, from 2 s of a moving
// picture (input 0) and a tone (input 1), and gives its content.
func (w workshop) ffmpeg(name string, args ...string) []byte {
	w.Helper()
	inputs := []string{"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=30:duration=2", "-f", "lavfi", "-i", "sine=duration=2:sample_rate=48000"}
	return w.output(name, slices.Concat(inputs, w.more, args)...)
}

func (w workshop) output(name string, args ...string) []byte {
	w.Helper()
	file := filepath.Join(w.dir, name)
	ffmpegRun(w, append(append([]string{"-threads", "1"}, args...), file)...)
	content, err := os.ReadFile(file)
	require.NoError(w, err)
	return content
}

// file writes content down for another run of the program.
func (w workshop) file(name string, content []byte) string {
	w.Helper()
	file := filepath.Join(w.dir, name)
	require.NoError(w, os.WriteFile(file, content, 0o600))
	return file
}

var x264 = []string{"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"}

// common is what most recordings are made of.
func (w workshop) common(name string, args ...string) []byte {
	w.Helper()
	return w.ffmpeg(name, slices.Concat(x264, []string{"-c:a", "aac"}, args)...)
}

// sample is one kind of file that creators, or others, upload, and what becomes of
// it.
type sample struct {
	name string
	make func(w workshop) []byte

	fails string // code of the failure; empty when it becomes an archive

	container, video, audio string
	width, height           int     // of the highest rendition; 160 by 90
	seconds                 float64 // 2
	probeOnly               bool    // transcoding takes too long for a test
}

var samples = []sample{
	// What broadcasting programs, phones and browsers record.
	{name: "MP4, H.264 and AAC", make: func(w workshop) []byte { return w.common("a.mp4") }, container: "mp4", video: "h264", audio: "aac"},
	{name: "MP4 with its index first", make: func(w workshop) []byte { return w.common("a.mp4", "-movflags", "+faststart") }, container: "mp4", video: "h264", audio: "aac"},
	{name: "MP4 in fragments", make: func(w workshop) []byte {
		return w.common("a.mp4", "-movflags", "+frag_keyframe+empty_moov", "-g", "15")
	}, container: "mp4", video: "h264", audio: "aac"},
	{name: "MOV at 29.97", make: func(w workshop) []byte { return w.common("a.mov", "-r", "30000/1001") }, container: "mp4", video: "h264", audio: "aac"},
	{name: "MP4, H.265 in ten bits", make: func(w workshop) []byte {
		return w.ffmpeg("a.mp4", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le", "-c:a", "aac")
	}, container: "mp4", video: "hevc", audio: "aac"},
	{name: "MP4, AV1 and Opus", make: func(w workshop) []byte {
		return w.ffmpeg("a.mp4", "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-pix_fmt", "yuv420p", "-c:a", "libopus")
	}, container: "mp4", video: "av1", audio: "opus"},
	{name: "Matroska, H.264 and MP3", make: func(w workshop) []byte {
		return w.ffmpeg("a.mkv", slices.Concat(x264, []string{"-c:a", "libmp3lame"})...)
	}, container: "matroska", video: "h264", audio: "mp3"},
	{name: "Matroska that was written live", make: func(w workshop) []byte { return w.common("a.mkv", "-live", "1") }, container: "matroska", video: "h264", audio: "aac"},
	{name: "WebM, VP8 and Opus", make: func(w workshop) []byte {
		return w.ffmpeg("a.webm", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
	}, container: "matroska", video: "vp8", audio: "opus"},
	{name: "WebM, VP9 and Opus", make: func(w workshop) []byte {
		return w.ffmpeg("a.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
	}, container: "matroska", video: "vp9", audio: "opus"},
	{name: "FLV, H.264 and AAC", make: func(w workshop) []byte { return w.common("a.flv") }, container: "flv", video: "h264", audio: "aac"},
	{name: "MPEG-TS, H.264 and AAC", make: func(w workshop) []byte { return w.common("a.ts") }, container: "mpegts", video: "h264", audio: "aac"},
	{name: "MPEG-TS, H.265 and MP3", make: func(w workshop) []byte {
		return w.ffmpeg("a.ts", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p", "-c:a", "libmp3lame")
	}, container: "mpegts", video: "hevc", audio: "mp3"},

	// Oddities that are none to a creator.
	{name: "no sound", make: func(w workshop) []byte { return w.common("a.mp4", "-map", "0") }, container: "mp4", video: "h264"},
	{name: "sound alone", make: func(w workshop) []byte { return w.common("a.m4a", "-vn") }, container: "mp4", audio: "aac"},
	{name: "sound with a cover", make: func(w workshop) []byte {
		cover := w.file("cover.jpg", w.ffmpeg("made.jpg", "-map", "0", "-frames:v", "1"))
		return w.with("-i", cover).ffmpeg("a.m4a", "-map", "1", "-map", "2", "-c:v", "copy", "-disposition:v", "attached_pic", "-c:a", "aac")
	}, container: "mp4", audio: "aac"},
	{name: "a phone that was held upright", make: func(w workshop) []byte { return turned(w, w.common("a.mp4", "-s", "640x360")) },
		container: "mp4", video: "h264", audio: "aac", width: 360, height: 640},
	{name: "odd dimensions", make: func(w workshop) []byte {
		return w.ffmpeg("a.webm", "-vf", "scale=161:91,setsar=1", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
	}, container: "matroska", video: "vp8", audio: "opus"},
	{name: "pixels that are not square", make: func(w workshop) []byte { return w.common("a.mp4", "-s", "120x90", "-aspect", "16:9") },
		container: "mp4", video: "h264", audio: "aac"},
	{name: "full colour", make: func(w workshop) []byte { return w.common("a.mp4", "-pix_fmt", "yuv444p") }, container: "mp4", video: "h264", audio: "aac"},
	{name: "variable frame rate", make: func(w workshop) []byte {
		return w.common("a.mp4", "-vf", "select='lt(mod(n,7),3)+not(mod(n,5))'", "-fps_mode", "vfr")
	}, container: "mp4", video: "h264", audio: "aac"},
	{name: "mono at 22 kHz", make: func(w workshop) []byte { return w.common("a.mp4", "-ac", "1", "-ar", "22050") }, container: "mp4", video: "h264", audio: "aac"},
	{name: "surround sound", make: func(w workshop) []byte { return w.common("a.mp4", "-ac", "6") }, container: "mp4", video: "h264", audio: "aac"},
	{name: "two soundtracks and subtitles", make: func(w workshop) []byte {
		words := w.file("words.srt", []byte("1\n00:00:00,000 --> 00:00:01,000\nHello\n"))
		return w.with("-i", words).common("a.mkv", "-map", "0", "-map", "1", "-map", "1", "-map", "2")
	}, container: "matroska", video: "h264", audio: "aac"},
	{name: "a title of three megabytes", make: func(w workshop) []byte {
		tags := w.file("tags", []byte(";FFMETADATA1\ntitle="+strings.Repeat("a", 3<<20)+"\n"))
		return w.with("-f", "ffmetadata", "-i", tags).common("a.mkv", "-map_metadata", "2")
	}, container: "matroska", video: "h264", audio: "aac"},
	{name: "one picture", make: func(w workshop) []byte { return w.common("a.mp4", "-map", "0", "-frames:v", "1") }, container: "mp4", video: "h264", seconds: 1.0 / 30},
	{name: "twelve hours", make: func(w workshop) []byte { return w.hours(43_190) }, container: "mp4", video: "h264", width: 64, height: 64, seconds: 43_190, probeOnly: true},

	// What we do not take, and say so.
	{name: "AVI", make: func(w workshop) []byte { return w.common("a.avi") }, fails: livestream.FailureUnsupported},
	{name: "MP3", make: func(w workshop) []byte { return w.ffmpeg("a.mp3", "-map", "1", "-c:a", "libmp3lame") }, fails: livestream.FailureUnsupported},
	{name: "MPEG-4 video", make: func(w workshop) []byte { return w.ffmpeg("a.mp4", "-c:v", "mpeg4", "-c:a", "aac") }, fails: livestream.FailureUnsupported},
	{name: "ProRes", make: func(w workshop) []byte { return w.ffmpeg("a.mov", "-c:v", "prores", "-c:a", "aac") }, fails: livestream.FailureUnsupported},
	{name: "AC-3 sound", make: func(w workshop) []byte { return w.ffmpeg("a.ts", slices.Concat(x264, []string{"-c:a", "ac3"})...) }, fails: livestream.FailureUnsupported},
	{name: "longer than twelve hours", make: func(w workshop) []byte { return w.hours(43_300) }, fails: livestream.FailureTooLong},
	{name: "too wide", make: func(w workshop) []byte {
		return w.output("a.mp4", "-f", "lavfi", "-i", "color=size=8208x16:duration=0.2", "-c:v", "libx264", "-preset", "ultrafast")
	}, fails: livestream.FailureUnsupported},
	{name: "subtitles alone", make: func(w workshop) []byte {
		return w.output("a.mkv", "-i", w.file("words.srt", []byte("1\n00:00:00,000 --> 00:00:01,000\nHello\n")))
	}, fails: livestream.FailureNotVideo},
	{name: "a picture", make: func(w workshop) []byte { return w.ffmpeg("a.png", "-map", "0", "-frames:v", "1") }, fails: livestream.FailureNotVideo},
	{name: "empty", make: func(workshop) []byte { return nil }, fails: livestream.FailureNotVideo},
	{name: "text", make: func(workshop) []byte { return bytes.Repeat([]byte("This is not a video. "), 1000) }, fails: livestream.FailureNotVideo},
	{name: "a word", make: func(workshop) []byte { return []byte("hello") }, fails: livestream.FailureNotVideo},
	{name: "noise", make: func(workshop) []byte { return noise(50_000) }, fails: livestream.FailureNotVideo},

	// Broken on the way.
	{name: "MP4 without its index", make: func(w workshop) []byte { return half(w.common("a.mp4")) }, fails: livestream.FailureCorrupt},
	{name: "MP4 without its end", make: func(w workshop) []byte { return half(w.common("a.mp4", "-movflags", "+faststart", "-t", "2")) }, fails: livestream.FailureCorrupt},
	{name: "Matroska without its end", make: func(w workshop) []byte {
		return half(w.output("a.mkv", append([]string{"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=30:duration=10"}, x264...)...))
	}, fails: livestream.FailureCorrupt},
	{name: "MP4 whose pictures are noise", make: func(w workshop) []byte {
		content := w.common("a.mp4", "-map", "0", "-movflags", "+faststart")
		data := bytes.Index(content, []byte("mdat")) + 4
		return append(content[:data:data], noise(len(content)-data)...)
	}, fails: livestream.FailureCorrupt},

	// Made for harm.
	{name: "gzip of a gigabyte", make: func(w workshop) []byte { return zeros(w, 1<<30) }, fails: livestream.FailureNotVideo},
	{name: "MP4 whose index unpacks to 4 GB", make: func(workshop) []byte { return packedIndex() }, fails: livestream.FailureUnsupported},
	{name: "Matroska tracks that unpack without end", make: func(w workshop) []byte { return packedTracks(w) }, fails: livestream.FailureCorrupt},
	{name: "MP4 that says it is 60,000 by 60,000", make: func(w workshop) []byte { return swollen(w, w.common("a.mp4", "-map", "0")) }, container: "mp4", video: "h264"},
	{name: "a picture that grows on the way", make: func(w workshop) []byte {
		huge := w.output("huge.ts", "-f", "lavfi", "-i", "color=size=12000x8000:rate=1:duration=2", "-c:v", "libx264", "-preset", "ultrafast", "-output_ts_offset", "2")
		return append(w.common("a.ts", "-map", "0"), huge...)
	}, container: "mpegts", video: "h264", seconds: 3},
}

// TestSamples holds the table: what becomes an archive does so whole, and what does
// not says why in its creator's words. No worker falls over one.
func TestSamples(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	for _, c := range samples {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			content := c.make(workshop{T: t, dir: t.TempDir()})
			// Objects in storage have no extension: the content has to do.
			src := filepath.Join(t.TempDir(), "source")
			require.NoError(t, os.WriteFile(src, content, 0o600))
			info, err := tool.Probe(t.Context(), src, func() {})
			if c.fails != "" && err == nil {
				err = attempted(t, tool, src, info)
			}
			if c.fails != "" {
				requireRefused(t, c.fails, err)
				return
			}
			require.NoError(t, err)
			want := livestream.MediaInfo{Container: c.container, VideoCodec: c.video, AudioCodec: c.audio}
			require.Equal(t, want, livestream.MediaInfo{Container: info.Container, VideoCodec: info.VideoCodec, AudioCodec: info.AudioCodec})
			require.EqualValues(t, len(content), info.SizeBytes)
			if c.seconds == 0 {
				c.seconds = 2
			}
			if c.width == 0 {
				c.width, c.height = 160, 90
			}
			require.InDelta(t, c.seconds, info.DurationSeconds, 0.1)
			if c.video != "" {
				highest := livestream.Ladder(info.Width, info.Height)[0]
				require.Equal(t, [2]int{c.width, c.height}, [2]int{highest.Width, highest.Height})
			}
			if c.probeOnly {
				return
			}
			a := transcode(t, tool, src)
			if c.video != "" {
				require.Len(t, a.ladder, 1)
				made, err := tool.Probe(t.Context(), joined(t, filepath.Join(a.dir, "360p"), a.segments["360p"]...), func() {})
				require.NoError(t, err)
				require.Equal(t, "h264", made.VideoCodec)
				require.Equal(t, [2]int{c.width, c.height}, [2]int{made.Width, made.Height}, "upright, with square pixels")
				require.InDelta(t, c.seconds, made.DurationSeconds, 0.1)
			}
			if c.audio != "" {
				made, err := tool.Probe(t.Context(), joined(t, filepath.Join(a.dir, livestream.AudioRendition), a.segments[livestream.AudioRendition]...), func() {})
				require.NoError(t, err)
				require.Equal(t, "aac", made.AudioCodec)
				require.InDelta(t, c.seconds, made.DurationSeconds, 0.1)
			}
		})
	}
	require.GreaterOrEqual(t, len(samples), 25)
	_, err := tool.Probe(t.Context(), filepath.Join(t.TempDir(), "missing"), func() {})
	require.ErrorIs(t, err, os.ErrNotExist)
	requireNotFinal(t, err)
}

// attempted makes the pictures of what a probe found nothing wrong with.
func attempted(t *testing.T, tool *ffmpeg.Tool, src string, info livestream.MediaInfo) error {
	dir := t.TempDir()
	chunks, err := tool.Split(t.Context(), src, info, time.Minute, dir, func(float64) {})
	if err != nil {
		return err
	}
	_, err = tool.TranscodeChunk(t.Context(), filepath.Join(dir, chunks[0].PieceFile()), info, chunks[0], livestream.Ladder(info.Width, info.Height), t.TempDir(), func(float64) {})
	return err
}

// requireRefused wants a reason that a creator understands, and that promises nothing: a
// stream takes one recording.
func requireRefused(tb testing.TB, code string, err error) {
	tb.Helper()
	media := (*livestream.MediaError)(nil)
	require.ErrorAs(tb, err, &media)
	require.Equal(tb, code, media.Failure.Code, "%v", err)
	require.Regexp(tb, `^The [a-z].*\.$|^(This|Reading) .*\.$`, media.Failure.Message)
	require.NotContains(tb, media.Failure.Message, "pload")
	require.NotContains(tb, media.Failure.Message, "/", "it says nothing of where we keep it")
}

// A recording that names other files, here or elsewhere, reaches none of them,
// whichever step opens it.
func TestRecordingReachesNothingElse(t *testing.T) {
	t.Parallel()
	tool := ffmpegtest.Tool(t)
	dir := t.TempDir()
	local := ffmpegtest.Recording(t, dir, "local.ts", ffmpeg.GenerateOptions{Seconds: 2, Width: 320, Height: 180})
	var asked atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, local) }))
	server.Listener = counting{server.Listener, &asked}
	server.Start()
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
			_, err := tool.Probe(t.Context(), src, func() {})
			require.ErrorAs(t, err, &media)
			// The file may be another one than was probed.
			info := livestream.MediaInfo{VideoCodec: "h264", AudioCodec: "aac", Width: 320, Height: 180, FrameRate: 30, DurationSeconds: 2}
			_, err = tool.TranscodeChunk(t.Context(), src, info, livestream.Chunk{Duration: 2}, livestream.Ladder(320, 180), out, func(float64) {})
			require.ErrorAs(t, err, &media)
			_, err = tool.TranscodeAudio(t.Context(), src, info, out, func(float64) {})
			require.ErrorAs(t, err, &media)
			_, err = tool.Split(t.Context(), src, info, time.Minute, out, func(float64) {})
			require.ErrorAs(t, err, &media)
			require.ErrorAs(t, tool.Pictures(t.Context(), src, info, livestream.Chunk{Duration: 2}, 1, out, func() {}), &media)
			require.Zero(t, asked.Load(), "a connection was opened")
		})
	}
}

// hours is a video of that many seconds, of a picture every ten.
func (w workshop) hours(seconds int) []byte {
	w.Helper()
	return w.output("a.mp4", slices.Concat([]string{"-f", "lavfi", "-i", fmt.Sprintf("color=size=64x64:rate=1/10:duration=%d", seconds)}, x264)...)
}

func half(content []byte) []byte { return content[:len(content)/2] }

func noise(size int) []byte {
	content := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	return content
}

// turned turns an MP4's picture by 90° in its headers, as phones do.
func turned(tb testing.TB, content []byte) []byte {
	tb.Helper()
	upright := []byte("\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00")
	turned := []byte("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00")
	track := bytes.Index(content, []byte("tkhd"))
	require.Positive(tb, track)
	matrix := bytes.Index(content[track:], upright)
	require.Positive(tb, matrix)
	copy(content[track+matrix:], turned)
	return content
}

// swollen makes an MP4's headers tell another size than its pictures have.
func swollen(tb testing.TB, content []byte) []byte {
	tb.Helper()
	entry := bytes.Index(content, []byte("avc1")) // of the sample description
	if brand := bytes.Index(content, []byte("ftyp")); entry < brand+40 {
		entry += 4 + bytes.Index(content[entry+4:], []byte("avc1"))
	}
	const size = 4 + 24 // behind the name: reserved fields, then width and height
	require.Equal(tb, []byte{0, 160, 0, 90}, content[entry+size:entry+size+4])
	binary.BigEndian.PutUint32(content[entry+size:], 60_000<<16|60_000)
	return content
}

// zeros is a gzip of nothing.
func zeros(tb testing.TB, size int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	require.NoError(tb, err)
	empty := make([]byte, 1<<20)
	for range size / len(empty) {
		_, err := w.Write(empty)
		require.NoError(tb, err)
	}
	require.NoError(tb, w.Close())
	return b.Bytes()
}

func box(name string, content ...[]byte) []byte {
	all := bytes.Join(content, nil)
	return slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(8+len(all))), []byte(name), all)
}

// packedIndex is an MP4 whose index is compressed, and says that it unpacks to
// almost 4 GB.
func packedIndex() []byte {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(make([]byte, 1<<20)) // a buffer takes all
	_ = w.Close()
	size := binary.BigEndian.AppendUint32(nil, 0xfffffff0)
	return append(box("ftyp", []byte("qt  \x00\x00\x00\x00qt  ")), box("moov", box("cmov", box("dcom", []byte("zlib")), box("cmvd", size, packed.Bytes())))...)
}

// packedTracks is a Matroska file whose first cluster holds blocks of zeros that are
// compressed a thousand times.
func packedTracks(w workshop) []byte {
	element := func(id string, content ...[]byte) []byte {
		all := bytes.Join(content, nil)
		return slices.Concat([]byte(id), binary.BigEndian.AppendUint64(nil, 1<<56|uint64(len(all))), all)
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err := z.Write(make([]byte, 64<<20))
	require.NoError(w, err)
	require.NoError(w, z.Close())
	compression := element("\x6d\x80", element("\x62\x40", element("\x50\x34", element("\x42\x54", []byte{0}))))
	video := element("\xe0", element("\xb0", []byte{160}), element("\xba", []byte{90}))
	track := element("\xae", element("\xd7", []byte{1}), element("\x73\xc5", []byte{1}), element("\x83", []byte{1}), element("\x86", []byte("V_VP8")), video, compression)
	var clusters []byte
	for at := range byte(20) {
		clusters = append(clusters, element("\x1f\x43\xb6\x75", element("\xe7", []byte{at}), element("\xa3", []byte{0x81, 0, 0, 0x80}, packed.Bytes()))...)
	}
	head := element("\x1a\x45\xdf\xa3", element("\x42\x82", []byte("matroska")))
	return append(head, element("\x18\x53\x80\x67", element("\x15\x49\xa9\x66", element("\x2a\xd7\xb1", []byte{0x0f, 0x42, 0x40})), element("\x16\x54\xae\x6b", track), clusters)...)
}

// counting counts the connections that come in.
type counting struct {
	net.Listener
	opened *atomic.Int64
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.opened.Add(1)
	}
	return conn, err
}
