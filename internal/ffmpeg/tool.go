// Package ffmpeg turns recordings into archives' files with the ffmpeg and
// ffprobe programs: it probes, transcodes, takes pictures and writes playlists.
//
// Files go in and files come out; it knows neither object storage nor Temporal.
// What a creator can do something about is a *livestream.MediaError, which is
// final; every other error may pass when it is tried again.
package ffmpeg

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// Config says which programs to run and how.
type Config struct {
	// FFmpeg and FFprobe are the programs, 5.1 or newer. By default the ones on
	// PATH.
	FFmpeg  string
	FFprobe string

	// Threads is how many threads a decoder, an encoder or a filter may use. By
	// default as many as Go uses. It is part of what makes an encode
	// reproducible: workers that share an archive should share it.
	Threads int

	// MemoryBytes is how much address space a program may take, stacks and libraries
	// included. By default 4 GiB: an 8K picture in ten bits and the pictures that it
	// refers to fit in. A recording that takes more is refused.
	MemoryBytes int64

	// StallTimeout is how long a program may run without getting anywhere before
	// it is killed. By default one minute: a slow disk gets over that, a hung
	// decoder does not.
	StallTimeout time.Duration
}

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	if c.FFmpeg == "" {
		c.FFmpeg = "ffmpeg"
	}
	if c.FFprobe == "" {
		c.FFprobe = "ffprobe"
	}
	if c.Threads == 0 {
		c.Threads = runtime.GOMAXPROCS(0)
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = 4 << 30
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = time.Minute
	}
	return c
}

func (c Config) validate() error {
	if c.Threads < 0 {
		return fmt.Errorf("ffmpeg: Threads is %d", c.Threads)
	}
	if c.MemoryBytes < 0 {
		return fmt.Errorf("ffmpeg: MemoryBytes is %d", c.MemoryBytes)
	}
	if c.StallTimeout < 0 {
		return fmt.Errorf("ffmpeg: StallTimeout is %s", c.StallTimeout)
	}
	return nil
}

// Tool runs the programs. Its methods may be called at the same time, as long as
// they write to different folders.
type Tool struct {
	ffmpeg, ffprobe string
	threads         string
	memory          int64
	stall           time.Duration
}

// New finds the programs.
func New(config Config) (*Tool, error) {
	config = config.WithDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	t := &Tool{threads: strconv.Itoa(config.Threads), memory: config.MemoryBytes, stall: config.StallTimeout}
	var err error
	if t.ffmpeg, err = find(config.FFmpeg); err != nil {
		return nil, err
	}
	if t.ffprobe, err = find(config.FFprobe); err != nil {
		return nil, err
	}
	return t, nil
}

// find gives an absolute path, because the programs run in other folders.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("%s is needed; install it with `apt-get install ffmpeg` (Debian, Ubuntu) or `brew install ffmpeg` (macOS): %w", program, err)
	}
	return path, nil
}

// input is how a recording is opened. Its maker is not to be trusted: only the
// allowed containers are read, so that a playlist cannot name other files, and
// nothing but files, so that none can reach the network. Tracks of a MOV that lie
// in other files are off in ffmpeg by default (enable_drefs). Of ffmpeg's hundreds of
// decoders those run that recordings are made with, on pictures of the size that we
// take: what a stream's headers say of it may change on the way.
func input(src string, options ...string) []string { return guarded(src, decoders, options) }

// examined is input for ffprobe, which prepares a decoder for every track and gives up
// at the first that it may not: for the ones that recordings have beside theirs, too.
func examined(src string, options ...string) []string {
	return guarded(src, decoders+","+companions, options)
}

func guarded(src, decoders string, options []string) []string {
	args := append([]string{
		"-protocol_whitelist", "file", "-format_whitelist", demuxers,
		"-codec_whitelist", decoders, "-max_pixels", strconv.Itoa(maxPixels),
	}, options...)
	return append(args, "-i", "file:"+src)
}

const (
	demuxers = "mov,matroska,flv,mpegts"
	decoders = "h264,hevc,vp8,vp9,libdav1d,libaom-av1,aac,aac_latm,opus,libopus,mp3,mp3float"

	// companions are of covers and subtitles.
	companions = "mjpeg,png,ssa,ass,srt,subrip,text,mov_text,webvtt,dvbsub,dvdsub,pgssub,cc_dec"
)

// The codecs, as ffprobe names them, that recordings may be made with.
var (
	videoCodecs = []string{"h264", "hevc", "vp8", "vp9", "av1"}
	audioCodecs = []string{"aac", "aac_latm", "opus", "mp3"}
)
