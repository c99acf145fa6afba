package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

// scratchPrefix begins the names of workers' folders: nothing else in the folder
// that an operator names is touched.
const scratchPrefix = "livestream-scratch-"

// openScratch makes a folder for this process's work in progress, below dir or the
// system's folder for such things, and sweeps what processes that were killed left
// there: no step outlives its process. close removes it.
func openScratch(dir string) (folder string, closeScratch func(), err error) {
	if dir == "" {
		dir = os.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("make the scratch folder: %w", err)
	}
	if err := sweepScratch(dir); err != nil {
		return "", nil, err
	}
	folder = filepath.Join(dir, scratchPrefix+uuid.NewString())
	lock, err := lockFile(folder + ".lock")
	if err != nil {
		return "", nil, fmt.Errorf("lock the scratch folder: %w", err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		return "", nil, errors.Join(fmt.Errorf("make the scratch folder: %w", err), lock.Close())
	}
	return folder, func() {
		_ = os.RemoveAll(folder) // the next worker sweeps what is left
		_ = os.Remove(lock.Name())
		_ = lock.Close()
	}, nil
}

// sweepScratch removes the folders whose process is gone: the system dropped its
// lock.
func sweepScratch(dir string) error {
	locks, err := filepath.Glob(filepath.Join(dir, scratchPrefix+"*.lock"))
	if err != nil {
		return fmt.Errorf("sweep the scratch folder: %w", err)
	}
	for _, file := range locks {
		lock, err := lockFile(file)
		if err != nil {
			continue // it is in use
		}
		err = errors.Join(os.RemoveAll(strings.TrimSuffix(file, ".lock")), os.Remove(file), lock.Close())
		if err != nil {
			return fmt.Errorf("sweep the scratch folder: %w", err)
		}
	}
	return nil
}

func lockFile(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
