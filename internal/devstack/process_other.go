//go:build !linux

package devstack

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// childAttributes put a child in a group of its own. Only Linux can have it die
// with us; here a SIGKILL of ours leaves it, and the next start says so.
func childAttributes(owner *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: owner}
}

// runs says whether a process is there and is that program: ids are used again.
func runs(pid int, path string) bool {
	name, err := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && filepath.Base(strings.TrimSpace(string(name))) == filepath.Base(path)
}

func keepsAttributes(string) bool { return false }
