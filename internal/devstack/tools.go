package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
)

// packages are the programs that the system's package manager has.
var packages = []struct {
	program string
	find    func() (string, error)
	apt     string
	brew    string
}{
	{"postgres", func() (string, error) { return postgresProgram("postgres") }, "postgresql", "postgresql@16"},
	{"redis-server", func() (string, error) { return exec.LookPath("redis-server") }, "redis-server", "redis"},
	{"ffmpeg", func() (string, error) { return exec.LookPath("ffmpeg") }, "ffmpeg", "ffmpeg"},
}

// install gets what is missing from apt or brew.
func (s *Stack) install(ctx context.Context) error {
	var apt, brew []string
	for _, p := range packages {
		if _, err := p.find(); err != nil {
			apt, brew = append(apt, p.apt), append(brew, p.brew)
		}
	}
	if len(apt) == 0 {
		return nil
	}
	if runtime.GOOS == "darwin" {
		if _, err := exec.LookPath("brew"); err != nil {
			return fmt.Errorf("these are missing: %s; install Homebrew (https://brew.sh), or them by yourself", strings.Join(brew, ", "))
		}
		return s.step(ctx, "install "+strings.Join(brew, " "), func(ctx context.Context) (string, error) {
			return "by brew", run(ctx, nil, nil, "brew", append([]string{"install", "--quiet"}, brew...)...)
		})
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("these are missing: %s; install them with your package manager", strings.Join(apt, ", "))
	}
	return s.step(ctx, "install "+strings.Join(apt, " "), func(ctx context.Context) (string, error) {
		// The packages would start servers of their own otherwise.
		quiet := []string{"DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"}
		apt = append([]string{"apt-get", "install", "-y", "-qq", "--no-install-recommends"}, apt...)
		for _, command := range [][]string{{"apt-get", "update", "-qq"}, apt} {
			if os.Geteuid() != 0 {
				command = append([]string{"sudo", "-n"}, command...)
			}
			if err := run(ctx, nil, quiet, command[0], command[1:]...); err != nil {
				return "", fmt.Errorf("%w; install them by yourself: sudo %s", err, strings.Join(apt, " "))
			}
		}
		return "by apt", nil
	})
}

// postgresProgram finds a program of the newest Postgres: Debian keeps them out
// of the PATH.
func postgresProgram(name string) (string, error) {
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/opt/homebrew/opt/postgresql@*/bin/", "/usr/local/opt/postgresql@*/bin/"} {
		matches, err := filepath.Glob(pattern + name)
		if err != nil {
			return "", err
		}
		found = append(found, matches...)
	}
	if len(found) > 0 {
		sort.Slice(found, func(i, j int) bool { return version(found[i]) < version(found[j]) })
		return found[len(found)-1], nil
	}
	return exec.LookPath(name)
}

// version is the number in a program's folder.
func version(path string) (n int) {
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '@' }) {
		if _, err := fmt.Sscanf(part, "%d", &n); err == nil {
			return n
		}
	}
	return 0
}

// modules are the programs that are Go modules, each pinned in a module of its
// own, tools/<name>/go.mod.
var modules = map[string]string{
	"temporal":  "github.com/temporalio/cli/cmd/temporal",
	"versitygw": "github.com/versity/versitygw/cmd/versitygw",
}

// tool gives a program's path: the one on the PATH if onPath allows it, or the
// pinned one, which is built the first time.
func (s *Stack) tool(ctx context.Context, name string, onPath bool) (string, error) {
	if onPath {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return s.build(ctx, name, "-modfile=tools/"+name+"/go.mod", modules[name])
}

// build compiles a program into the stack's cache. Go's own cache makes it quick
// when nothing changed.
func (s *Stack) build(ctx context.Context, name string, args ...string) (string, error) {
	out := filepath.Join(s.options.Cache, name)
	args = append([]string{"build", "-o", out}, args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = s.options.Root
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, tail(output))
	}
	return out, nil
}

func tail(output []byte) string {
	return strings.TrimSpace(string(output[max(0, len(output)-800):]))
}

// ErrNoRoot is when the command runs outside the project.
var ErrNoRoot = errors.New("run this inside the project: no go.mod of LiveStream Pro is here or above")

// FindRoot is the project's folder, from the working directory up.
func FindRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && slices.Contains(strings.Split(string(content), "\n"), "module github.com/livestream-pro/livestream-pro") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", ErrNoRoot
		}
		dir = parent
	}
}
