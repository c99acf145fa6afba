//go:build unix && !linux

package ffmpeg

import "syscall"

// childAttributes put a program in a group of its own, which can be killed as a
// whole.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func killGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }
