package ffmpeg

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childAttributes put a program in a group of its own, which can be killed as a
// whole, and have it die with a worker that is itself killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }

// Conceal closes this process's memory and environment to programs of the same user,
// which a decoder that a hostile file has taken over would be: the environment that it
// is started with is not the only one that it could read. Root reads all the same.
func Conceal() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("conceal the process: %w", err)
	}
	return nil
}

// niceness lets others go first: a transcoder takes all the CPU there is, and the
// worker's own heartbeats must not wait for it.
const niceness = 10

// restrict sets what a running program may take. It has begun by then, but not come
// far.
func restrict(pid int, memory int64, may limits) error {
	if err := unix.Setpriority(unix.PRIO_PGRP, pid, niceness); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("set the priority: %w", err)
	}
	seconds := uint64(may.cpu / time.Second)
	for _, l := range []struct {
		what  int
		limit unix.Rlimit
	}{
		{unix.RLIMIT_AS, unix.Rlimit{Cur: uint64(memory), Max: uint64(memory)}},
		{unix.RLIMIT_FSIZE, unix.Rlimit{Cur: uint64(may.file), Max: uint64(may.file)}},
		{unix.RLIMIT_CORE, unix.Rlimit{}},
		{unix.RLIMIT_CPU, unix.Rlimit{Cur: seconds, Max: seconds + 5}}, // one that does not end then is killed
	} {
		if err := unix.Prlimit(pid, l.what, &l.limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("set limit %d: %w", l.what, err)
		}
	}
	return nil
}

// bytesRead is how much a program has read so far; 0 when it has ended.
func bytesRead(pid int) int64 {
	var n int64
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err == nil {
		_, _ = fmt.Sscanf(string(content), "rchar: %d", &n) // it is the first line
	}
	return n
}

// stopped says whether the system ended a program at a limit.
func stopped(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && (status.Signal() == syscall.SIGXFSZ || status.Signal() == syscall.SIGXCPU)
}
