package ffmpeg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// errStalled is why a program was killed that got nowhere.
var errStalled = errors.New("it made no progress and was killed")

// errExhausted is why a program ended that took all it may take.
var errExhausted = errors.New("it took more than it may")

// limits are what a program may take, so that a file that was made for it takes no
// worker down. Its memory is limited too, by Config.
type limits struct {
	cpu  time.Duration // of all its threads together
	file int64         // bytes of each file that it writes
}

// cpuPerSecond is how much processor time a second of media may cost: an 8K picture
// at 60 frames a second, in the slowest of our decoders, takes less.
const cpuPerSecond = 120

// working are the limits of a step that works on that much media and writes files no
// larger than a segment.
func working(seconds float64) limits {
	return limits{cpu: 2*time.Minute + time.Duration(seconds*cpuPerSecond)*time.Second, file: 1 << 30}
}

// killGrace is how long the pipes of a killed program may stay open.
const killGrace = 5 * time.Second

// looksPerStall is how often, within the time after which a program that gets nowhere
// is killed, it is looked whether it reads.
const looksPerStall = 20

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
// line, which says whether it shows progress. So does reading on: a program that looks
// for a place in a long file is silent meanwhile. Alive is called while it reads. Neither
// is called beside the other.
func (t *Tool) run(ctx context.Context, program, dir string, args []string, may limits, alive func(), line func(string) bool) error {
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
	// A decoder that a hostile file has taken over finds no secrets here; see Conceal.
	// Each arena of the allocator takes 64 MiB of the address space that is limited.
	cmd.Env = []string{"LC_ALL=C", "AV_LOG_FORCE_NOCOLOR=1", "MALLOC_ARENA_MAX=4"}
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
	if err := restrict(cmd.Process.Pid, t.memory, may); err != nil {
		cancel(fmt.Errorf("limit it: %w", err))
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(stdout)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		if err := scanner.Err(); err != nil && ctx.Err() == nil {
			cancel(fmt.Errorf("read what it says: %w", err))
		}
	}()
	look := time.NewTicker(t.stall / looksPerStall)
	defer look.Stop()
	var read int64
	for talking := true; talking; {
		select {
		case text, more := <-lines:
			if talking = more; more && line(text) {
				watchdog.Reset(t.stall)
			}
		case <-look.C:
			if n := bytesRead(cmd.Process.Pid); n > read {
				read = n
				watchdog.Reset(t.stall)
				alive()
			}
		}
	}
	err = cmd.Wait()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case exhausted(cmd.ProcessState, stderr.String(), may):
		return refuse(livestream.FailureUnsupported, sayTooMuch, fmt.Errorf("%s: %w: %s", name, errExhausted, stderr))
	default:
		return &programError{program: name, stderr: stderr.String(), err: err}
	}
}

// exhausted says whether a program ended at one of its limits. ffmpeg ends in order
// when its time is over, and says no more of memory than that there was none: the
// machine itself, when it has none left, kills.
func exhausted(state *os.ProcessState, stderr string, may limits) bool {
	return stopped(state) || state.UserTime()+state.SystemTime() >= may.cpu || strings.Contains(stderr, "Cannot allocate memory")
}

// encode runs ffmpeg. Progress is called whenever it got further, or read on, with what
// field of its progress report said last.
func (t *Tool) encode(ctx context.Context, dir string, args []string, may limits, field string, progress func(value int64)) error {
	all := append([]string{
		"-nostdin", "-hide_banner", "-loglevel", "error", "-nostats", "-progress", "pipe:1", "-y",
		"-filter_complex_threads", t.threads,
	}, args...)
	last := int64(0)
	return t.run(ctx, t.ffmpeg, dir, all, may, func() { progress(last) }, func(line string) bool {
		key, text, _ := strings.Cut(line, "=")
		value, err := strconv.ParseInt(text, 10, 64) // it is N/A before there is any
		if key != field || err != nil || value == last {
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
