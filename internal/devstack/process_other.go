//go:build !linux

package devstack

import "syscall"

func childAttributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: user}
}

func sameProgram(int, string) bool { return true }

func keepsAttributes(string) bool { return false }
