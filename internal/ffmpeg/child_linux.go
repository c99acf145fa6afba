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

// restrict sets what a running program may take. It has begun by then, but not come
// far.
func restrict(pid int, memory int64, may limits) error {
	seconds := uint64(may.cpu / time.Second)
	for what, limit := range map[int]unix.Rlimit{
		unix.RLIMIT_AS:    {Cur: uint64(memory), Max: uint64(memory)},
		unix.RLIMIT_CPU:   {Cur: seconds, Max: seconds + 5}, // one that does not end then is killed
		unix.RLIMIT_FSIZE: {Cur: uint64(may.file), Max: uint64(may.file)},
		unix.RLIMIT_CORE:  {},
	} {
		if err := unix.Prlimit(pid, what, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("set limit %d: %w", what, err)
		}
	}
	return nil
}

// stopped says whether the system ended a program at a limit.
func stopped(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && (status.Signal() == syscall.SIGXFSZ || status.Signal() == syscall.SIGXCPU)
}
