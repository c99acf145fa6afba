package ffmpeg_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg/ffmpegtest"
)

func TestMediaPlaylist(t *testing.T) {
	t.Parallel()
	got := ffmpeg.Playlists{}.MediaPlaylist([]livestream.Segment{{Name: "seg_00000.m4s", Duration: 4.004}, {Name: "seg_00001.m4s", Duration: 1.5}})
	require.Equal(t, `#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4.004000,
seg_00000.m4s
#EXTINF:1.500000,
seg_00001.m4s
#EXT-X-ENDLIST
`, string(got))
}

func TestKeyFramePlaylist(t *testing.T) {
	t.Parallel()
	got := ffmpeg.Playlists{}.KeyFramePlaylist([]livestream.Segment{{Name: "seg_00000.m4s", Duration: 4, KeyBytes: 1234}})
	require.Equal(t, `#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-I-FRAMES-ONLY
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4.000000,
#EXT-X-BYTERANGE:1234@0
seg_00000.m4s
#EXT-X-ENDLIST
`, string(got))
}

func TestStoryboard(t *testing.T) {
	t.Parallel()
	got := ffmpeg.Playlists{}.Storyboard(livestream.MediaInfo{Width: 1920, Height: 1080, DurationSeconds: 69.5},
		[]livestream.Segment{{Name: "sheet_00000.jpg", Duration: 64}, {Name: "sheet_00001.jpg", Duration: 5.5}})
	text := string(got)
	require.True(t, strings.HasPrefix(text, "WEBVTT\n\n00:00:00.000 --> 00:00:04.000\nstoryboard/sheet_00000.jpg#xywh=0,0,160,90\n"), text)
	require.Contains(t, text, "00:00:24.000 --> 00:00:28.000\nstoryboard/sheet_00000.jpg#xywh=160,90,160,90\n", "the seventh is in the second row")
	require.True(t, strings.HasSuffix(text, "00:01:08.000 --> 00:01:09.500\nstoryboard/sheet_00001.jpg#xywh=160,0,160,90\n"), text)
	require.Equal(t, 18, strings.Count(text, "-->"))
	long := ffmpeg.Playlists{}.Storyboard(livestream.MediaInfo{Width: 1080, Height: 1920, DurationSeconds: 43_200},
		[]livestream.Segment{{Name: "sheet_00000.jpg", Duration: 60}})
	require.Equal(t, "WEBVTT\n\n00:00:00.000 --> 00:00:48.000\nstoryboard/sheet_00000.jpg#xywh=0,0,90,160\n\n"+
		"00:00:48.000 --> 00:01:00.000\nstoryboard/sheet_00000.jpg#xywh=90,0,90,160\n", string(long))
}

func TestMasterPlaylistBounds(t *testing.T) {
	t.Parallel()
	var p ffmpeg.Playlists
	init := []byte("....avcC\x01\x64\x00\x1f....")
	ladder := livestream.Ladder(1280, 720)
	inits := map[string][]byte{"720p": init, "480p": init, "360p": init}
	got, err := p.MasterPlaylist(livestream.MediaInfo{VideoCodec: "h264", FrameRate: 59.94, AudioCodec: "aac"}, ladder, inits, nil)
	require.NoError(t, err)
	require.Contains(t, string(got), `#EXT-X-STREAM-INF:BANDWIDTH=5170000,AVERAGE-BANDWIDTH=4136000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=59.940,AUDIO="audio"
720p/index.m3u8
`)
	got, err = p.MasterPlaylist(livestream.MediaInfo{VideoCodec: "h264", FrameRate: 30}, ladder, inits, nil)
	require.NoError(t, err)
	require.NotContains(t, string(got), "AUDIO")
	require.NotContains(t, string(got), "mp4a")
	got, err = p.MasterPlaylist(livestream.MediaInfo{AudioCodec: "opus"}, nil, nil, nil)
	require.NoError(t, err)
	require.Equal(t, "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n"+
		"#EXT-X-STREAM-INF:BANDWIDTH=160000,AVERAGE-BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\naudio/index.m3u8\n", string(got))
	for _, bad := range [][]byte{nil, []byte("avcC"), []byte("avcC\x02\x64\x00\x1f")} {
		_, err = p.MasterPlaylist(livestream.MediaInfo{VideoCodec: "h264"}, ladder[:1], map[string][]byte{"720p": bad}, nil)
		require.Error(t, err)
	}
	_, err = p.MasterPlaylist(livestream.MediaInfo{}, nil, nil, nil)
	require.Error(t, err)
}

type hlsPrograms struct {
	Programs []struct {
		Tags    map[string]string `json:"tags"`
		Streams []struct {
			Type   string `json:"codec_type"`
			Codec  string `json:"codec_name"`
			Width  int    `json:"width"`
			Height int    `json:"height"`
			Start  string `json:"start_time"`
		} `json:"streams"`
	} `json:"programs"`
	Format struct {
		Duration string `json:"duration"`
	} `json:"format"`
}

// A player finds every rendition, each with the sound, and none is larger than
// the source.
func TestArchivePlays(t *testing.T) {
	t.Parallel()
	src := ffmpegtest.Recording(t, t.TempDir(), "a.mp4", ffmpeg.GenerateOptions{Seconds: 9, Width: 854, Height: 480})
	a := transcode(t, ffmpegtest.Tool(t), src)
	require.Len(t, a.chunks, 2)
	require.Len(t, a.ladder, 2)
	for _, r := range a.ladder {
		require.LessOrEqual(t, r.Width, 854)
		require.LessOrEqual(t, r.Height, 480)
		requireContinuous(t, a, r.Name, 30)
	}
	master := a.publish(t)
	var got hlsPrograms
	ffprobe(t, &got, "-show_programs", "-show_format", master)
	require.Len(t, got.Programs, 2)
	require.InDelta(t, 9, number(t, got.Format.Duration), 0.04)
	for i, program := range got.Programs {
		require.Len(t, program.Streams, 2)
		for _, s := range program.Streams {
			require.InDelta(t, 0, number(t, s.Start), 0.04, "picture and sound begin together")
			if s.Type == "video" {
				require.Equal(t, [2]int{a.ladder[i].Width, a.ladder[i].Height}, [2]int{s.Width, s.Height})
			}
		}
	}
	// The bit rates are the segments' own, and within what the ladder promises.
	text, err := os.ReadFile(master)
	require.NoError(t, err)
	for _, r := range a.ladder {
		peak := 0.0
		for _, s := range a.segments[r.Name][:2] {
			peak = max(peak, float64(s.Bytes)*8/s.Duration)
		}
		require.Less(t, peak, float64(r.Bitrate)*1.25)
	}
	require.Contains(t, string(text), `CODECS="avc1.6400`)
	t.Logf("%s", text)
	// Picture and sound end together, and each segment can be decoded by itself.
	sound := packets(t, joined(t, filepath.Join(a.dir, livestream.AudioRendition), a.segments[livestream.AudioRendition]...))
	lastSound := sound[len(sound)-1]
	require.InDelta(t, a.info.DurationSeconds, lastSound.pts(t)+1024.0/48_000, 0.04)
	for name, list := range a.segments {
		if name == livestream.StoryboardFolder {
			continue
		}
		for _, s := range list {
			ffmpegRun(t, "-xerror", "-i", joined(t, filepath.Join(a.dir, name), s), "-f", "null", "-")
		}
	}
	// A sheet of the storyboard a chunk.
	for _, sheet := range a.segments[livestream.StoryboardFolder] {
		require.Equal(t, [2]int{5 * 160, 88}, pictureSize(t, filepath.Join(a.dir, livestream.StoryboardFolder, sheet.Name)))
	}
	// What the winding playlists name is one key frame a segment.
	for _, r := range a.ladder {
		for _, s := range a.segments[r.Name] {
			content, err := os.ReadFile(filepath.Join(a.dir, r.Name, s.Name))
			require.NoError(t, err)
			require.Less(t, s.KeyBytes, s.Bytes)
			file := filepath.Join(t.TempDir(), "key.mp4")
			require.NoError(t, os.WriteFile(file, append(slices.Clone(a.inits[r.Name]), content[:s.KeyBytes]...), 0o600))
			ffmpegRun(t, "-xerror", "-i", file, "-frames:v", "1", "-f", "null", "-")
		}
	}
	// Decoding all of it finds nothing to complain about.
	ffmpegRun(t, "-xerror", "-i", master, "-map", "0", "-f", "null", "-")
}

func TestSoundAlonePlays(t *testing.T) {
	t.Parallel()
	src := ffmpegtest.Recording(t, t.TempDir(), "a.m4a", ffmpeg.GenerateOptions{Seconds: 9, NoVideo: true})
	a := transcode(t, ffmpegtest.Tool(t), src)
	require.Empty(t, a.chunks)
	require.Empty(t, a.ladder)
	require.Len(t, a.segments[livestream.AudioRendition], 3)
	var got hlsPrograms
	master := a.publish(t)
	ffprobe(t, &got, "-show_programs", "-show_format", master)
	require.Len(t, got.Programs, 1)
	require.Equal(t, "aac", got.Programs[0].Streams[0].Codec)
	require.InDelta(t, 9, number(t, got.Format.Duration), 0.04)
	text, err := os.ReadFile(filepath.Join(a.dir, livestream.AudioRendition, "index.m3u8"))
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(string(text), "#EXTINF"))
}
