package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child process that can be killed and started again. It is the
// leader of a group of its own, so that a terminal's Ctrl-C reaches us alone, and
// on Linux it dies with us.
type Process struct {
	Name string
	Path string
	Args []string
	Env  []string // added to ours
	Dir  string   // the stack's: logs and pids are in it
	User *syscall.Credential
	// StopSignal asks it to end; zero is SIGTERM.
	StopSignal syscall.Signal

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Log is the file that the process writes to.
func (p *Process) Log() string { return filepath.Join(p.Dir, "log", p.Name+".log") }

func (p *Process) pidFile() string { return filepath.Join(p.Dir, "run", p.Name+".pid") }

// Start runs the process. It goes on when ctx ends; Stop or Kill end it.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Dir = p.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes(p.User)
	started, done := make(chan error), make(chan struct{})
	go func() {
		// The kernel kills the child when the thread that made it ends, so that
		// thread stays with the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.done = cmd, done
	return os.WriteFile(p.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644)
}

// Pid is the process's id.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Kill ends the process at once, as a crash would.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.Done()
	_ = os.Remove(p.pidFile()) // it says that a process runs
}

// stopTimeout is how long a process may take to stop when it is asked to.
const stopTimeout = 15 * time.Second

// Stop asks the process to end, and kills it when it does not.
func (p *Process) Stop() {
	if p.cmd == nil {
		return
	}
	signal := p.StopSignal
	if signal == 0 {
		signal = syscall.SIGTERM
	}
	p.signal(signal)
	select {
	case <-p.Done():
	case <-time.After(stopTimeout):
	}
	p.Kill()
}

func (p *Process) signal(s syscall.Signal) {
	select {
	case <-p.Done():
	default:
		_ = syscall.Kill(-p.Pid(), s) // it may have ended meanwhile
	}
}

// await polls until ready says nil. A process that ends meanwhile, or is not
// ready in time, is an error that says where to look.
func (p *Process) await(ctx context.Context, limit time.Duration, ready func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = ready(ctx); last == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s stopped: %s (log: %s)", p.Name, p.lastWords(), p.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w (log: %s)", p.Name, limit, last, p.Log())
		case <-tick.C:
		}
	}
}

// lastWords is the last line of the log, which mostly says why.
func (p *Process) lastWords() string {
	content, err := os.ReadFile(p.Log())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return strings.TrimSpace(string(lines[len(lines)-1]))
}

// stale says whether a process of an earlier run is still there.
func (p *Process) stale() error {
	content, err := os.ReadFile(p.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", p.pidFile(), err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err == nil && syscall.Kill(pid, 0) == nil && sameProgram(pid, p.Path) {
		return fmt.Errorf("%s of an earlier run is still there; stop it with: kill %d", p.Name, pid)
	}
	return os.Remove(p.pidFile())
}

// run runs a command to its end, with its output in the error.
func run(ctx context.Context, user *syscall.Credential, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = "/"
	if user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, bytes.TrimSpace(out[max(0, len(out)-500):]))
	}
	return nil
}
