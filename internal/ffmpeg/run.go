package ffmpeg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// errStalled is why a program was killed that got nowhere.
var errStalled = errors.New("it made no progress and was killed")

// killGrace is how long the pipes of a killed program may stay open.
const killGrace = 5 * time.Second

// programError is a program that failed by itself.
type programError struct {
	program string
	stderr  string
	err     error
}

func (e *programError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.program, e.err, e.stderr)
}

func (e *programError) Unwrap() error { return e.err }

// run runs a program in dir until it ends. Each line that it writes goes to
// line, which says whether it shows progress.
func (t *Tool) run(ctx context.Context, program, dir string, args []string, line func(string) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(t.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()

	// The kernel kills the child when the thread that made it ends, not the
	// process: the thread has to stay until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	name := filepath.Base(program)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	// A decoder that a hostile file has taken over finds no secrets here.
	cmd.Env = []string{"LC_ALL=C", "AV_LOG_FORCE_NOCOLOR=1"}
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = killGrace
	stderr := &tail{}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("start %s: %w", name, err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line(lines.Text()) {
			watchdog.Reset(t.stall)
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		cancel(fmt.Errorf("read what it says: %w", err))
	}
	err = cmd.Wait()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	default:
		return &programError{program: name, stderr: stderr.String(), err: err}
	}
}

// encode runs ffmpeg. Progress is called whenever it got further, with what
// field of its progress report says.
func (t *Tool) encode(ctx context.Context, dir string, args []string, field string, progress func(value string)) error {
	all := append([]string{
		"-nostdin", "-hide_banner", "-loglevel", "error", "-nostats", "-progress", "pipe:1", "-y",
		"-filter_complex_threads", t.threads,
	}, args...)
	last := ""
	return t.run(ctx, t.ffmpeg, dir, all, func(line string) bool {
		key, value, _ := strings.Cut(line, "=")
		if key != field || value == last {
			return false
		}
		last = value
		progress(value)
		return true
	})
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const tailBytes = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.kept)) }
