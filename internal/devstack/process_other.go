//go:build !linux

package devstack

import "syscall"

// childAttributes put a child in a group of its own. Only Linux can have it die
// with us; here a SIGKILL of ours leaves it, and the next start says so.
func childAttributes(owner *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: owner}
}

func sameProgram(int, string) bool { return true }

func keepsAttributes(string) bool { return false }
