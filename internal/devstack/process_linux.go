package devstack

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// childAttributes put a child in a group of its own and have the kernel kill it
// when we die, whatever we die of. An owner other than us may enter the folders on
// the way to the stack's as we do: a checkout may lie in a home that is closed to
// others.
func childAttributes(owner *syscall.Credential) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: owner}
	if owner != nil {
		attributes.AmbientCaps = []uintptr{capDACOverride}
	}
	return attributes
}

// capDACOverride is CAP_DAC_OVERRIDE.
const capDACOverride = 1

// sameProgram says whether a process runs that program: pids are used again.
func sameProgram(pid int, path string) bool {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == filepath.Base(path)
}

// keepsAttributes says whether a folder's file system keeps extended attributes.
func keepsAttributes(dir string) bool {
	return syscall.Setxattr(dir, "user.livestream", []byte("1"), 0) == nil
}
