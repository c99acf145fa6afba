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

// runs says whether a process is there and may be that program: ids are used
// again. One that is dead but not yet reaped counts.
func runs(pid int, path string) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == filepath.Base(path)
}

// keepsAttributes says whether a folder's file system keeps extended attributes.
func keepsAttributes(dir string) bool {
	return syscall.Setxattr(dir, "user.livestream", []byte("1"), 0) == nil
}
