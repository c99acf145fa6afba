package ffmpeg

import "syscall"

// childAttributes put a program in a group of its own, which can be killed as a
// whole, and have it die with a worker that is itself killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }
