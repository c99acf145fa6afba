package ffmpeg

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Playlists writes playlists.
type Playlists struct{}

// MediaPlaylist lists the segments of one rendition, video or sound, which are
// beside it with their init segment.
func (Playlists) MediaPlaylist(segments []livestream.Segment) []byte {
	var b bytes.Buffer
	playlistHead(&b, segments, "#EXT-X-INDEPENDENT-SEGMENTS\n")
	for _, s := range segments {
		fmt.Fprintf(&b, "#EXTINF:%.6f,\n%s\n", s.Duration, s.Name)
	}
	b.WriteString("#EXT-X-ENDLIST\n")
	return b.Bytes()
}

// KeyFramePlaylist lists the key frames of one rendition, one a segment, for players
// that wind.
func (Playlists) KeyFramePlaylist(segments []livestream.Segment) []byte {
	var b bytes.Buffer
	playlistHead(&b, segments, "#EXT-X-I-FRAMES-ONLY\n")
	for _, s := range segments {
		fmt.Fprintf(&b, "#EXTINF:%.6f,\n#EXT-X-BYTERANGE:%d@0\n%s\n", s.Duration, s.KeyBytes, s.Name)
	}
	b.WriteString("#EXT-X-ENDLIST\n")
	return b.Bytes()
}

func playlistHead(b *bytes.Buffer, segments []livestream.Segment, kind string) {
	longest := 1.0
	for _, s := range segments {
		longest = max(longest, s.Duration)
	}
	fmt.Fprintf(b, "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:%d\n#EXT-X-MEDIA-SEQUENCE:0\n", int(math.Ceil(longest-0.5)))
	fmt.Fprintf(b, "#EXT-X-PLAYLIST-TYPE:VOD\n%s#EXT-X-MAP:URI=%q\n", kind, livestream.InitSegment)
}

// MasterPlaylist offers an archive's renditions with the bit rates of
// their segments, which for simple pictures are far below the bounds: a player
// that knows them shows a better picture on the same line. A rendition without
// segments here has the bounds.
func (Playlists) MasterPlaylist(info livestream.MediaInfo, ladder []livestream.Rendition, initSegments map[string][]byte, segments map[string][]livestream.Segment) ([]byte, error) {
	sound := info.AudioCodec != ""
	if !sound && len(ladder) == 0 {
		return nil, errors.New("master playlist: there are no renditions")
	}
	const audioCodec = "mp4a.40.2" // AAC-LC
	var b bytes.Buffer
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n")
	audio := load{}
	if sound {
		audio = measure(segments[livestream.AudioRendition], load{peak: audioBitrate * 5 / 4, average: audioBitrate})
	}
	if len(ladder) == 0 {
		fmt.Fprintf(&b, "#EXT-X-STREAM-INF:BANDWIDTH=%d,AVERAGE-BANDWIDTH=%d,CODECS=%q\n%s/%s\n",
			audio.peak, audio.average, audioCodec, livestream.AudioRendition, livestream.MediaPlaylist)
		return b.Bytes(), nil
	}
	if sound {
		fmt.Fprintf(&b, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=%q,NAME=\"Sound\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"%s/%s\"\n",
			livestream.AudioRendition, livestream.AudioRendition, livestream.MediaPlaylist)
	}
	fps := outputRate(info.FrameRate).float()
	for _, r := range ladder {
		codecs, err := h264Codec(initSegments[r.Name])
		if err != nil {
			return nil, fmt.Errorf("master playlist: %s: %w", r.Name, err)
		}
		bits := videoBitrate(r, fps)
		// The encoder's buffer is one second of its rate: a segment holds at most
		// that on top.
		video := measure(segments[r.Name], load{peak: bits * (SegmentSeconds + 1) / SegmentSeconds, average: bits})
		winding := measure(keyFrames(segments[r.Name]), load{peak: bits})
		fmt.Fprintf(&b, "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=%d,CODECS=%q,RESOLUTION=%dx%d,URI=\"%s/%s\"\n",
			winding.peak, codecs, r.Width, r.Height, r.Name, livestream.KeyFramePlaylist)
		group := ""
		if sound {
			codecs += "," + audioCodec
			group = fmt.Sprintf(",AUDIO=%q", livestream.AudioRendition)
		}
		fmt.Fprintf(&b, "#EXT-X-STREAM-INF:BANDWIDTH=%d,AVERAGE-BANDWIDTH=%d,CODECS=%q,RESOLUTION=%dx%d,FRAME-RATE=%.3f%s\n%s/%s\n",
			video.peak+audio.peak, video.average+audio.average, codecs, r.Width, r.Height, fps, group, r.Name, livestream.MediaPlaylist)
	}
	return b.Bytes(), nil
}

// keyFrames are segments of nothing but their key frames.
func keyFrames(segments []livestream.Segment) []livestream.Segment {
	var all []livestream.Segment
	for _, s := range segments {
		s.Bytes = s.KeyBytes
		all = append(all, s)
	}
	return all
}

// load is what a rendition asks of a line, in bits per second.
type load struct{ peak, average int }

// measure takes the load from the segments, as RFC 8216 counts it: the peak is
// over stretches of between half and one and a half target durations.
func measure(segments []livestream.Segment, bound load) load {
	const half = SegmentSeconds / 2
	var bits, duration, peak, last float64
	for i, s := range segments {
		size, length := float64(s.Bytes)*8, s.Duration
		bits, duration = bits+size, duration+length
		if length < half && i > 0 { // a short last one counts with the one before
			size, length = size+last, length+segments[i-1].Duration
		}
		if length > 0 {
			peak = max(peak, size/length)
		}
		last = float64(s.Bytes) * 8
	}
	if duration == 0 {
		return bound
	}
	return load{peak: int(math.Ceil(peak)), average: int(math.Ceil(bits / duration))}
}

// h264Codec is the name of the H.264 profile and level in an init segment, which
// has them in the first bytes of its avcC box.
func h264Codec(init []byte) (string, error) {
	_, box, found := bytes.Cut(init, []byte("avcC"))
	if !found || len(box) < 4 || box[0] != 1 {
		return "", errors.New("the init segment has no H.264 settings")
	}
	return fmt.Sprintf("avc1.%02x%02x%02x", box[1], box[2], box[3]), nil
}
