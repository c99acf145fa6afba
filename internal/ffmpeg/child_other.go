//go:build unix && !linux

package ffmpeg

import (
	"os"
	"syscall"
)

// childAttributes put a program in a group of its own, which can be killed as a
// whole.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func killGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }

// Conceal does nothing: only Linux has it.
func Conceal() error { return nil }

// restrict does nothing: only Linux limits a program that runs already.
func restrict(int, int64, limits) error { return nil }

// bytesRead knows nothing: programs show progress by what they say.
func bytesRead(int) int64 { return 0 }

func stopped(*os.ProcessState) bool { return false }
