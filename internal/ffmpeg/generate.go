package ffmpeg

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// GenerateOptions says what a made-up recording is like.
type GenerateOptions struct {
	Seconds float64 // default 10
	Width   int     // default 640
	Height  int     // default 360

	// FPS is the frame rate as ffmpeg takes it: "30", "30000/1001". Default "30".
	FPS string

	// Codec is the video encoder. By default the one that suits the file's name:
	// libvpx for .webm, else libx264.
	Codec string

	// KeyInterval is the seconds between key frames. Default 2, as broadcasting
	// programs have it.
	KeyInterval float64

	NoVideo bool // sound alone
	NoSound bool // pictures alone
}

func (o GenerateOptions) withDefaults(dst string) GenerateOptions {
	if o.Seconds == 0 {
		o.Seconds = 10
	}
	if o.Width == 0 {
		o.Width = 640
	}
	if o.Height == 0 {
		o.Height = 360
	}
	if o.FPS == "" {
		o.FPS = "30"
	}
	if o.KeyInterval == 0 {
		o.KeyInterval = 2
	}
	if o.Codec == "" {
		o.Codec = "libx264"
		if isWebM(dst) {
			o.Codec = "libvpx"
		}
	}
	return o
}

// unlimited is for what we make of nothing ourselves.
var unlimited = limits{cpu: math.MaxInt32 * time.Second, file: math.MaxInt64}

func isWebM(dst string) bool { return strings.EqualFold(filepath.Ext(dst), ".webm") }

// Generate makes a recording for tests and demonstrations: a moving picture with
// a clock and a steady tone, in the container that dst's name says.
func (t *Tool) Generate(ctx context.Context, dst string, options GenerateOptions) error {
	if options.NoVideo && options.NoSound {
		return errors.New("generate: neither video nor sound is asked for")
	}
	dst, err := filepath.Abs(dst)
	if err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	o := options.withDefaults(dst)
	length := decimal(o.Seconds)
	var inputs, outputs []string
	if !o.NoVideo {
		inputs = append(inputs, "-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=%dx%d:rate=%s:duration=%s", o.Width, o.Height, o.FPS, length))
		outputs = append(outputs, "-c:v", o.Codec, "-pix_fmt", "yuv420p", "-force_key_frames", "expr:gte(t,n_forced*"+decimal(o.KeyInterval)+")")
		switch {
		case o.Codec == "libx264":
			outputs = append(outputs, "-preset", "veryfast", "-g", "600", "-sc_threshold", "0")
		case strings.HasPrefix(o.Codec, "libvpx"):
			outputs = append(outputs, "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", "600")
		}
	}
	if !o.NoSound {
		inputs = append(inputs, "-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate="+strconv.Itoa(audioRate)+":duration="+length)
		codec := "aac"
		if isWebM(dst) {
			codec = "libopus"
		}
		outputs = append(outputs, "-c:a", codec, "-b:a", "96k", "-ac", "2")
	}
	args := append(append(inputs, outputs...), "-threads", t.threads, "file:"+dst)
	if err := t.encode(ctx, "", args, unlimited, "out_time_us", func(int64) {}); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	return nil
}
