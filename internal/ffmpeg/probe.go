package ffmpeg

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Limits of what becomes an archive.
const (
	maxSide    = 8192
	maxPixels  = 8192 * 4320
	maxSeconds = 12 * 60 * 60
)

// probing are the limits of a look into a file. It reads all packets of one that was
// written live, and decodes a few.
var probing = limits{cpu: 10 * time.Minute}

// maxAnswer is how many bytes ffprobe may tell of a file: of a hundred tracks.
const maxAnswer = 64 << 10

// entries are what is asked of ffprobe. Its maker's tags are not among them: one
// can be as long as the file.
const entries = "format=format_name,start_time,duration:" +
	"stream=codec_type,codec_name,width,height,sample_aspect_ratio,avg_frame_rate,r_frame_rate,duration:" +
	"stream_disposition=attached_pic:stream_side_data=rotation"

type probed struct {
	Format struct {
		Name     string `json:"format_name"`
		Start    string `json:"start_time"`
		Duration string `json:"duration"`
	} `json:"format"`
	Streams []probedStream `json:"streams"`
}

type probedStream struct {
	Type        string         `json:"codec_type"`
	Codec       string         `json:"codec_name"`
	Width       int            `json:"width"`
	Height      int            `json:"height"`
	AspectRatio string         `json:"sample_aspect_ratio"`
	Average     string         `json:"avg_frame_rate"`
	Real        string         `json:"r_frame_rate"`
	Duration    string         `json:"duration"`
	Disposition map[string]int `json:"disposition"`
	SideData    []struct {
		Rotation float64 `json:"rotation"`
	} `json:"side_data_list"`
}

// Probe looks into a file. A *livestream.MediaError says why it cannot become an
// archive. Alive is called while it is read, which takes long where a file says nothing
// of its length, or has no index of its key frames.
func (t *Tool) Probe(ctx context.Context, file string, alive func()) (livestream.MediaInfo, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return livestream.MediaInfo{}, fmt.Errorf("probe: %w", err)
	}
	looks, size, err := sniff(file)
	if err != nil {
		return livestream.MediaInfo{}, fmt.Errorf("probe: %w", err)
	}
	if size == 0 {
		return livestream.MediaInfo{}, refuse(livestream.FailureNotVideo, sayEmpty, nil)
	}
	var out bytes.Buffer
	args := append([]string{"-hide_banner", "-loglevel", "error", "-show_entries", entries, "-of", "json"}, examined(file)...)
	err = t.run(ctx, t.ffprobe, "", args, probing, alive, func(line string) bool {
		if out.Len() < maxAnswer {
			out.WriteString(line)
		}
		return true
	})
	if err != nil {
		return livestream.MediaInfo{}, unreadable(err, looks)
	}
	if out.Len() >= maxAnswer {
		return livestream.MediaInfo{}, refuse(livestream.FailureUnsupported, sayTooMuch, errors.New("it has too many tracks"))
	}
	var p probed
	if err := json.Unmarshal(out.Bytes(), &p); err != nil {
		return livestream.MediaInfo{}, fmt.Errorf("read what ffprobe says: %w", err)
	}
	info, err := p.info(size)
	if err != nil {
		return info, err
	}
	return t.measure(ctx, file, info, seconds(p.Format.Start), alive)
}

// info is what the file's headers say.
func (p probed) info(size int64) (livestream.MediaInfo, error) {
	info := livestream.MediaInfo{SizeBytes: size, Container: container(p.Format.Name), DurationSeconds: seconds(p.Format.Duration)}
	undecodable := ""
	for _, s := range p.Streams {
		isVideo := s.Type == "video" && info.VideoCodec == "" && s.Disposition["attached_pic"] == 0
		isAudio := s.Type == "audio" && info.AudioCodec == ""
		if !isVideo && !isAudio {
			continue
		}
		if s.Codec == "" || s.Codec == "unknown" {
			undecodable = s.Type
			continue
		}
		if info.DurationSeconds == 0 {
			info.DurationSeconds = seconds(s.Duration)
		}
		if isAudio {
			info.AudioCodec = s.Codec
			continue
		}
		info.VideoCodec = s.Codec
		info.Rotation = s.rotation()
		info.Width, info.Height = s.displayed()
		info.FrameRate = s.frameRate()
	}
	switch {
	case undecodable != "":
		return info, refuse(livestream.FailureUnsupported, sayCodec, fmt.Errorf("no decoder for the %s", undecodable))
	case info.VideoCodec == "" && info.AudioCodec == "":
		return info, refuse(livestream.FailureNotVideo, sayNothing, nil)
	case info.VideoCodec != "" && (info.Width < 2 || info.Height < 2):
		return info, refuse(livestream.FailureCorrupt, sayDamaged, fmt.Errorf("the picture is %dx%d", info.Width, info.Height))
	case info.VideoCodec != "" && !slices.Contains(videoCodecs, info.VideoCodec):
		return info, refuse(livestream.FailureUnsupported, sayCodec, fmt.Errorf("the video is %s", info.VideoCodec))
	case info.AudioCodec != "" && !slices.Contains(audioCodecs, info.AudioCodec):
		return info, refuse(livestream.FailureUnsupported, sayCodec, fmt.Errorf("the sound is %s", info.AudioCodec))
	case info.Width > maxSide || info.Height > maxSide || info.Width*info.Height > maxPixels:
		return info, refuse(livestream.FailureUnsupported, sayTooBig, fmt.Errorf("the picture is %dx%d", info.Width, info.Height))
	case info.DurationSeconds > maxSeconds:
		return info, tooLong(info.DurationSeconds)
	}
	return info, nil
}

func tooLong(length float64) error {
	return refuse(livestream.FailureTooLong, sayTooLong, fmt.Errorf("it lasts %.0f s", length))
}

// tailSeconds is how much of a file's end is read to see that it is there.
const tailSeconds = 5

// packetsPerBeat are read between two signs of life.
const packetsPerBeat = 1000

// measure holds the duration that the headers promise against the packets that
// are there, because a file that was cut off while it was copied still has its
// headers. One that was written live promises none: its packets are counted.
func (t *Tool) measure(ctx context.Context, file string, info livestream.MediaInfo, start float64, alive func()) (livestream.MediaInfo, error) {
	args := []string{"-hide_banner", "-loglevel", "error", "-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0"}
	if from := info.DurationSeconds - tailSeconds; from > 0 {
		args = append(args, "-read_intervals", strconv.FormatFloat(start+from, 'f', 3, 64)+"%")
	}
	end, seen := math.Inf(-1), 0
	err := t.run(ctx, t.ffprobe, "", append(args, examined(file)...), probing, alive, func(line string) bool {
		if seen++; seen%packetsPerBeat == 0 {
			alive()
		}
		fields := strings.Split(line, ",")
		if pts, err := strconv.ParseFloat(fields[0], 64); err == nil {
			length := 0.0
			if len(fields) > 1 {
				length = seconds(fields[1])
			}
			end = max(end, pts+length)
		}
		return true
	})
	if err != nil {
		return info, damaged(err)
	}
	end -= start
	if info.DurationSeconds == 0 && end > 0 {
		info.DurationSeconds = end
	}
	switch missing := info.DurationSeconds - end; {
	case info.DurationSeconds <= 0:
		return info, refuse(livestream.FailureCorrupt, sayDamaged, errors.New("it has no duration"))
	case info.DurationSeconds > maxSeconds:
		return info, tooLong(info.DurationSeconds)
	case missing > max(1, info.DurationSeconds/50):
		return info, refuse(livestream.FailureCorrupt, sayEndsTooEarly, fmt.Errorf("%.1f s of %.1f s are there", max(end, 0), info.DurationSeconds))
	}
	return info, nil
}

// displayed is the size after rotation and with square pixels.
func (s probedStream) displayed() (width, height int) {
	width, height = s.Width, s.Height
	if ratio := quotient(s.AspectRatio, ":"); ratio > 0 && ratio != 1 {
		width = int(math.Round(float64(width) * ratio))
	}
	if s.rotation()%180 != 0 {
		width, height = height, width
	}
	return width, height
}

// rotation is by how much to turn the picture clockwise. ffprobe counts the other way.
func (s probedStream) rotation() int {
	for _, data := range s.SideData {
		if turns := int(math.Round(-data.Rotation / 90)); turns%4 != 0 {
			return (turns%4 + 4) % 4 * 90
		}
	}
	return 0
}

// frameRate is the nominal one where the file keeps to it, and the average one
// where it does not: fields and time bases are often taken for frames.
func (s probedStream) frameRate() float64 {
	nominal, average := quotient(s.Real, "/"), quotient(s.Average, "/")
	switch {
	case average <= 0 && nominal > 0 && nominal <= 120:
		return nominal
	case average <= 0:
		return 30
	case math.Abs(nominal-average) <= average/50:
		return nominal
	}
	return average
}

var refusedCodec = regexp.MustCompile(`Codec \([a-z0-9_-]+\) not on whitelist`)

var refusedFormat = regexp.MustCompile(`\[([a-z0-9_,]+) @ [^]]*\] Format not on whitelist`)

// recordings are the containers that can hold a recording but that we do not
// take, for a message that says more than "not a video".
var recordings = []string{"avi", "asf", "mpeg", "mpegvideo", "rm", "ogg", "mp3", "wav", "aac", "flac", "h264", "hevc", "mxf", "dv", "ivf"}

// unreadable says what is wrong with a file that ffprobe refused, which looks
// like one of ours or not.
func unreadable(err error, looks bool) error {
	failed := (*programError)(nil)
	if !errors.As(err, &failed) {
		return err
	}
	if format := refusedFormat.FindStringSubmatch(failed.stderr); format != nil {
		if name, _, _ := strings.Cut(format[1], ","); slices.Contains(recordings, name) {
			return refuse(livestream.FailureUnsupported, sayContainer, err)
		}
		return refuse(livestream.FailureNotVideo, sayNotVideo, err)
	}
	if refusedCodec.MatchString(failed.stderr) {
		return refuse(livestream.FailureUnsupported, sayCodec, err)
	}
	if !strings.Contains(failed.stderr, "Invalid data found") && !strings.Contains(failed.stderr, "End of file") {
		return err
	}
	if looks {
		return refuse(livestream.FailureCorrupt, sayDamaged, err)
	}
	return refuse(livestream.FailureNotVideo, sayNotVideo, err)
}

// sniff says whether a file begins like one of the containers that we take.
func sniff(file string) (looks bool, size int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return false, 0, err
	}
	const packet = 188 // bytes, of MPEG-TS
	head := make([]byte, packet+1)
	if _, err := io.ReadFull(f, head); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, stat.Size(), nil
	} else if err != nil {
		return false, 0, err
	}
	boxes := []string{"ftyp", "moov", "mdat", "wide", "free", "skip", "moof"}
	looks = slices.Contains(boxes, string(head[4:8])) ||
		bytes.HasPrefix(head, []byte("\x1a\x45\xdf\xa3")) || bytes.HasPrefix(head, []byte("FLV")) ||
		head[0] == 'G' && head[packet] == 'G'
	return looks, stat.Size(), nil
}

func container(format string) string {
	name, _, _ := strings.Cut(format, ",")
	if name == "mov" {
		return "mp4"
	}
	return name
}

// seconds reads a time of ffprobe's; what is missing or no number is 0.
func seconds(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// quotient reads a ratio of ffprobe's; 0 when there is none.
func quotient(s, separator string) float64 {
	over, under, _ := strings.Cut(s, separator)
	a, b := seconds(over), seconds(under)
	if b == 0 {
		return 0
	}
	return a / b
}
