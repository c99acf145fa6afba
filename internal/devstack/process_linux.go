package devstack

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

func childAttributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: user}
}

// sameProgram says whether a process runs that program: pids are used again.
func sameProgram(pid int, path string) bool {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && filepath.Base(exe) == filepath.Base(path)
}

// keepsAttributes says whether a folder's file system keeps extended attributes.
func keepsAttributes(dir string) bool {
	return syscall.Setxattr(dir, "user.livestream", []byte("1"), 0) == nil
}
