package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
)

// benchArchiveCmd measures how long a recording takes to become an archive, with one
// worker, beside one plain FFmpeg command that makes the same qualities in one go.
type benchArchiveCmd struct {
	stackFlags
	Seconds int `default:"600" help:"Length of the recording, of 1080p at 30 frames a second."`
}

// benchArchiveFile gets the result, in the project's folder.
const benchArchiveFile = "bench/results/archive.json"

// Run measures both, one after the other, and prints a table.
func (c *benchArchiveCmd) Run(ctx context.Context) error {
	root, err := devstack.FindRoot()
	if err != nil {
		return err
	}
	b := &benchArchive{seconds: c.Seconds, dir: filepath.Join(root, ".devstack", "bench")}
	if err := b.record(ctx); err != nil {
		return fmt.Errorf("make the recording: %w", err)
	}
	fmt.Println("measuring one plain FFmpeg command")
	plain, err := b.plain(ctx)
	if err != nil {
		return fmt.Errorf("measure FFmpeg: %w", err)
	}
	fmt.Printf("  %.1f s\n", plain.WallSeconds)
	ctx, env, stop, err := c.running(ctx)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("measuring the product")
	product, err := b.product(ctx, env)
	if err != nil {
		return fmt.Errorf("the benchmark stopped: %w", err)
	}
	result := benchArchiveResult{
		At: time.Now().UTC(), CPUs: runtime.NumCPU(), RecordingSeconds: c.Seconds, FFmpeg: plain, Product: product,
		WallRatio: product.WallSeconds / plain.WallSeconds, CPURatio: product.CPUSeconds / plain.CPUSeconds,
	}
	result.print()
	return writeResult(filepath.Join(root, benchArchiveFile), result)
}

type benchArchive struct {
	seconds   int
	dir       string
	recording string
}

// cost is what making the archive took.
type cost struct {
	WallSeconds float64 `json:"wall_seconds"` // from the workflow's start to the archive that is ready
	CPUSeconds  float64 `json:"cpu_seconds"`  // of the worker and its FFmpegs
	PeakMB      float64 `json:"peak_mb"`      // of the worker's process, or of FFmpeg
}

type benchArchiveResult struct {
	At               time.Time `json:"at"`
	CPUs             int       `json:"cpus"`
	RecordingSeconds int       `json:"recording_seconds"`
	FFmpeg           cost      `json:"ffmpeg"`
	Product          cost      `json:"product"`
	WallRatio        float64   `json:"wall_ratio"`
	CPURatio         float64   `json:"cpu_ratio"`
}

func (r benchArchiveResult) print() {
	fmt.Printf("\n%-40s %10s %10s %10s\n", fmt.Sprintf("%d s of 1080p30, %d cores", r.RecordingSeconds, r.CPUs), "wall s", "CPU s", "peak MB")
	fmt.Printf("%-40s %10.1f %10.1f %10.0f\n", "one FFmpeg command", r.FFmpeg.WallSeconds, r.FFmpeg.CPUSeconds, r.FFmpeg.PeakMB)
	fmt.Printf("%-40s %10.1f %10.1f %10.0f\n", "the product, one worker", r.Product.WallSeconds, r.Product.CPUSeconds, r.Product.PeakMB)
	fmt.Printf("%-40s %10.2f %10.2f\n\n", "ratio", r.WallRatio, r.CPURatio)
}

// record makes the recording, which later runs use again: a minute is encoded and
// repeated.
func (b *benchArchive) record(ctx context.Context) error {
	b.recording = filepath.Join(b.dir, fmt.Sprintf("1080p30_%d.mp4", b.seconds))
	if _, err := os.Stat(b.recording); err == nil {
		return nil
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	tool, err := ffmpeg.New(ffmpeg.Config{})
	if err != nil {
		return err
	}
	part := filepath.Join(b.dir, "part.mp4")
	length := min(b.seconds, 60)
	fmt.Println("making the recording")
	if err := tool.Generate(ctx, part, ffmpeg.GenerateOptions{Seconds: float64(length), Width: 1920, Height: 1080}); err != nil {
		return err
	}
	defer os.Remove(part) //nolint:errcheck // it is written anew
	repeat := exec.CommandContext(ctx, "ffmpeg", "-nostdin", "-v", "error", "-y", "-stream_loop", strconv.Itoa(b.seconds/length), "-i", part,
		"-t", strconv.Itoa(b.seconds), "-c", "copy", "-f", "mp4", b.recording+".part")
	if out, err := repeat.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.Rename(b.recording+".part", b.recording)
}

// plain is the command that somebody would write who has one machine and one file.
func (b *benchArchive) plain(ctx context.Context) (cost, error) {
	out, err := os.MkdirTemp(b.dir, "plain-")
	if err != nil {
		return cost{}, err
	}
	defer os.RemoveAll(out) //nolint:errcheck // the next run does not need it
	ladder := livestream.Ladder(1920, 1080)
	var splits, scales, streams strings.Builder
	var encoders []string
	for i, r := range ladder {
		bits := strconv.Itoa(r.Bitrate - 128_000)
		fmt.Fprintf(&splits, "[s%d]", i)
		fmt.Fprintf(&scales, ";[s%d]scale=%d:%d:flags=bicubic,format=yuv420p[v%d]", i, r.Width, r.Height, i)
		fmt.Fprintf(&streams, "v:%d,agroup:audio ", i)
		n := ":v:" + strconv.Itoa(i)
		encoders = append(encoders, "-map", fmt.Sprintf("[v%d]", i), "-c"+n, "libx264", "-preset"+n, "veryfast", "-profile"+n, "high",
			"-crf"+n, "23", "-maxrate"+n, bits, "-bufsize"+n, bits)
	}
	args := append([]string{
		"-nostdin", "-v", "error", "-i", b.recording,
		"-filter_complex", fmt.Sprintf("[0:v]fps=30,split=%d%s%s", len(ladder), splits.String(), scales.String()),
	}, encoders...)
	args = append(args, "-force_key_frames", "expr:gte(t,n_forced*4)", "-sc_threshold", "0", "-map", "0:a", "-c:a", "aac", "-b:a", "128k",
		"-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4",
		"-var_stream_map", streams.String()+"a:0,agroup:audio", "-master_pl_name", "master.m3u8",
		"-hls_segment_filename", filepath.Join(out, "%v_%05d.m4s"), filepath.Join(out, "%v.m3u8"))
	began := time.Now()
	cmd := exec.CommandContext(ctx, "ffmpeg", args...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return cost{}, fmt.Errorf("%w: %s", err, said)
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return cost{
		WallSeconds: time.Since(began).Seconds(), CPUSeconds: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(),
		PeakMB: float64(usage.Maxrss) / 1024,
	}, nil
}

// product lets the running stack make the archive.
func (b *benchArchive) product(ctx context.Context, env devstack.Env) (cost, error) {
	info, err := os.Stat(b.recording)
	if err != nil {
		return cost{}, err
	}
	d := &demo{env: env, seconds: b.seconds, recording: b.recording, recordingSizeBytes: info.Size(), patience: 10*time.Minute + 5*time.Duration(b.seconds)*time.Second}
	for _, step := range []func(context.Context) (string, error){d.register, d.start, d.end} {
		if _, err := step(ctx); err != nil {
			return cost{}, err
		}
	}
	pid, err := os.ReadFile(filepath.Join(env.Dir, "run", "transcode.pid"))
	if err != nil {
		return cost{}, err
	}
	worker := strings.TrimSpace(string(pid))
	before, err := cpuSeconds(worker)
	if err != nil {
		return cost{}, err
	}
	if _, err := d.upload(ctx); err != nil {
		return cost{}, err
	}
	began := time.Now()
	made, err := d.archive(ctx)
	if err != nil {
		return cost{}, err
	}
	wall := time.Since(began).Seconds()
	fmt.Println("  " + made)
	after, err := cpuSeconds(worker)
	if err != nil {
		return cost{}, err
	}
	peak, err := peakMB(worker)
	if err != nil {
		return cost{}, err
	}
	var archive archiveView
	if err := d.ada.Do(ctx, "GET", "/api/archives/"+d.archiveID, nil, &archive); err != nil {
		return cost{}, err
	}
	if math.Abs(archive.DurationSeconds-float64(b.seconds)) > 0.1 {
		return cost{}, fmt.Errorf("the archive lasts %.1f s", archive.DurationSeconds)
	}
	return cost{WallSeconds: wall, CPUSeconds: after - before, PeakMB: peak}, nil
}

// cpuSeconds is what a process and those of its children that have ended have used.
func cpuSeconds(pid string) (float64, error) {
	content, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(content), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	const first, last, ticksPerSecond = 11, 14, 100 // its own user and system time, then its children's
	if len(fields) <= last {
		return 0, errors.New("the process's times are missing")
	}
	total := 0.0
	for _, field := range fields[first : last+1] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, err
		}
		total += ticks / ticksPerSecond
	}
	return total, nil
}

// peakMB is the most memory that a process has had.
func peakMB(pid string) (float64, error) {
	content, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(content), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("the process's memory is missing")
	}
	kb, err := strconv.ParseFloat(fields[0], 64)
	return kb / 1024, err
}
