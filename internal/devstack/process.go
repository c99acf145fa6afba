package devstack

import (
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
	err  error // how it ended, once done is closed
	from int64 // where its log begins
}

// Log is the file that the process writes to.
func (p *Process) Log() string { return filepath.Join(p.Dir, "log", p.Name+".log") }

func (p *Process) pidFile() string { return filepath.Join(p.Dir, "run", p.Name+".pid") }

// Start runs the process until Stop or Kill end it.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.Name, err)
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		p.from = info.Size()
	}
	cmd := &exec.Cmd{Path: p.Path, Args: append([]string{p.Path}, p.Args...)} // no context: it outlives its start
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Dir = workDir(p.User, p.Dir)
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
		err = cmd.Wait()
		p.mu.Lock() // whoever asks how an earlier run ended may do so now
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.done = cmd, done
	return os.WriteFile(p.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644)
}

// workDir is where a program of that owner runs. Before it runs, another owner may
// not enter the checkout; see childAttributes.
func workDir(owner *syscall.Credential, dir string) string {
	if owner != nil {
		return "/"
	}
	return dir
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
			return p.ended()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w; see %s", p.Name, limit, last, p.Log())
		case <-tick.C:
		}
	}
}

// ended says how the process ended, when it should not have.
func (p *Process) ended() error {
	<-p.Done()
	p.mu.Lock()
	err := p.err
	p.mu.Unlock()
	how := "it ended by itself"
	if err != nil {
		how = err.Error()
	}
	// One that was killed had no time to say why.
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.Exited() {
		if words := p.lastWords(); words != "" {
			how += ": " + words
		}
	}
	return fmt.Errorf("%s stopped (%s); see %s", p.Name, how, p.Log())
}

// lastWords is the last line of the log since the start, which mostly says why.
func (p *Process) lastWords() string {
	content, err := os.ReadFile(p.Log())
	if err != nil || int64(len(content)) < p.from {
		return ""
	}
	return lastLine(content[p.from:])
}

// lastLine is the last line of an output that says anything, which a compiler's
// last one does not.
func lastLine(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	last := len(lines) - 1
	if last > 0 && strings.HasSuffix(lines[last], "too many errors") {
		last--
	}
	return lines[last][:min(len(lines[last]), 300)]
}

// goneLimit is how long a process of an earlier run, which was killed with all
// else, may take to disappear.
const goneLimit = 5 * time.Second

// gone waits until the process of an earlier run, whose id is in a file, is no
// more.
func gone(ctx context.Context, name, pidFile, path string) error {
	content, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an earlier %s: %w", name, err)
	}
	pid := number(string(content))
	for deadline := time.Now().Add(goneLimit); pid > 0 && runs(pid, path); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s of an earlier run is still there; stop it with: kill %d", name, pid)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// run runs a command to its end, or until ctx ends, with all its children. An
// error has the last line of its output, and says where all of it is.
func (s *Stack) run(ctx context.Context, owner *syscall.Credential, name string, args ...string) error {
	runtime.LockOSThread() // see Start
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = workDir(owner, s.options.Root)
	cmd.SysProcAttr = childAttributes(owner)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	output, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	name = filepath.Base(name)
	log := filepath.Join(s.options.Dir, "log", name+".log")
	if unwritten := os.WriteFile(log, output, 0o644); unwritten != nil || len(output) == 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s: %w: %s; see %s", name, err, lastLine(output), log)
}
