package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// program is one that the system's package manager has.
type program struct {
	name string
	find func(ctx context.Context) (string, error)
	apt  []string
	brew []string
	// service is what Debian starts by itself once the package is there.
	service string
}

// programs are what a stack needs. Tests also want PgBouncer, a browser, and on
// Linux a C compiler for the race detector.
func programs(test bool) []program {
	list := []program{
		{"postgres", func(context.Context) (string, error) { return postgresProgram("postgres") }, []string{"postgresql"}, []string{"postgresql@16"}, "postgresql"},
		{"redis-server", redisProgram, []string{"redis-server"}, []string{"redis"}, "redis-server"},
		{"ffmpeg", onPath("ffmpeg"), []string{"ffmpeg"}, []string{"ffmpeg"}, ""},
	}
	if test {
		list = append(list, program{"pgbouncer", onPath("pgbouncer"), []string{"pgbouncer"}, []string{"pgbouncer"}, "pgbouncer"},
			program{"chromium", onPath("chromium"), []string{"chromium"}, []string{"chromium"}, ""})
	}
	if test && runtime.GOOS == "linux" {
		list = append(list, program{"gcc", onPath("gcc"), []string{"gcc", "libc6-dev"}, nil, ""})
	}
	return list
}

func onPath(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		// Debian has servers where not everybody's PATH leads.
		if system := "/usr/sbin/" + name; executable(system) {
			return system, nil
		}
		return exec.LookPath(name)
	}
}

func executable(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// install gets what is missing from apt or brew, and makes sure that what is there
// is new enough.
func (s *Stack) install(ctx context.Context) error {
	var missing []program
	for _, p := range programs(s.options.Test) {
		switch _, err := p.find(ctx); {
		case errors.Is(err, exec.ErrNotFound):
			missing = append(missing, p)
		case err != nil:
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, p := range missing {
		names = append(names, p.name)
	}
	return s.step(ctx, "install", strings.Join(names, " "), func(ctx context.Context) error {
		var err error
		if runtime.GOOS == "darwin" {
			err = s.brew(ctx, missing)
		} else {
			err = s.apt(ctx, missing)
		}
		if err != nil {
			return err
		}
		for _, p := range missing {
			if _, err := p.find(ctx); err != nil {
				return fmt.Errorf("%s is still missing: %w", p.name, err)
			}
		}
		return nil
	})
}

func (s *Stack) brew(ctx context.Context, missing []program) error {
	args := []string{"install", "--quiet"}
	for _, p := range missing {
		args = append(args, p.brew...)
	}
	byHand := "brew " + strings.Join(args, " ")
	if _, err := exec.LookPath("brew"); err != nil {
		return fmt.Errorf("there is no brew; get it from https://brew.sh, then: %s", byHand)
	}
	if err := s.run(ctx, nil, "brew", args...); err != nil {
		return fmt.Errorf("%w; try it by hand: %s", err, byHand)
	}
	return nil
}

func (s *Stack) apt(ctx context.Context, missing []program) error {
	install := []string{"apt-get", "install", "-y", "-qq", "--no-install-recommends"}
	disable := []string{"systemctl", "disable", "--now"}
	for _, p := range missing {
		install = append(install, p.apt...)
		if p.service != "" {
			disable = append(disable, p.service)
		}
	}
	byHand := "sudo " + strings.Join(install, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("there is no apt-get; install them with your package manager: %s", strings.Join(install[5:], " "))
	}
	// The packages would start servers of their own: with RUNLEVEL they do not
	// where init scripts rule, and where systemd does they are stopped again.
	asRoot := []string{"env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"}
	if os.Geteuid() != 0 {
		asRoot = append([]string{"sudo", "-n"}, asRoot...)
	}
	for _, command := range [][]string{{"apt-get", "update", "-qq"}, install} {
		command = append(slices.Clone(asRoot), command...)
		if err := s.run(ctx, nil, command[0], command[1:]...); err != nil {
			return fmt.Errorf("%w; try it by hand: sudo apt-get update && %s", err, byHand)
		}
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil && len(disable) > 3 {
		command := append(slices.Clone(asRoot), disable...)
		if err := s.run(ctx, nil, command[0], command[1:]...); err != nil {
			return fmt.Errorf("stop the servers that the packages started: %w", err)
		}
	}
	return nil
}

// What the product needs: UNIQUE NULLS NOT DISTINCT, and sharded Pub/Sub.
const (
	leastPostgres = 15
	leastRedis    = 7
)

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
	if len(found) == 0 {
		return exec.LookPath(name)
	}
	sort.Slice(found, func(i, j int) bool { return number(found[i]) < number(found[j]) })
	newest := found[len(found)-1]
	if n := number(newest); n < leastPostgres {
		return "", fmt.Errorf("this machine has Postgres %d; install version %d or newer (https://www.postgresql.org/download)", n, leastPostgres)
	}
	return newest, nil
}

func redisProgram(ctx context.Context) (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", err
	}
	answer, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	if n := number(string(answer)); n < leastRedis {
		return "", fmt.Errorf("this machine has Redis %d; install version %d or newer (https://redis.io/docs/install)", n, leastRedis)
	}
	return path, nil
}

var firstNumber = regexp.MustCompile(`[0-9]+`)

// number is the first number in a text, such as the version in a program's path.
func number(text string) int {
	n, _ := strconv.Atoi(firstNumber.FindString(text)) // without one it is 0
	return n
}

// modules are the programs that are Go modules, each pinned in tools/<pin>/go.mod,
// and how long the first build takes on two cores.
var modules = map[string]struct{ pin, pkg, takes string }{
	"temporal":          {"temporal", "github.com/temporalio/cli/cmd/temporal", "the first time: 3 minutes"},
	"temporal-server":   {"temporal-server", "go.temporal.io/server/cmd/server", "the first time: 3 minutes"},
	"temporal-sql-tool": {"temporal-server", "go.temporal.io/server/cmd/tools/sql", ""},
	"versitygw":         {"versitygw", "github.com/versity/versitygw/cmd/versitygw", "the first time: 1 minute"},
	"stripe-mock":       {"stripe-mock", "github.com/stripe/stripe-mock", "the first time: 10 seconds"},
}

// tool gives the path of a pinned program, which is built when it is not there
// or its pin has changed.
func (s *Stack) tool(ctx context.Context, name string) (string, error) {
	out, pin := filepath.Join(s.options.Cache, name), filepath.Join("tools", modules[name].pin, "go.mod")
	pinned, err := os.Stat(filepath.Join(s.options.Root, pin))
	if err != nil {
		return "", fmt.Errorf("the pin of %s: %w", name, err)
	}
	if built, err := os.Stat(out); err == nil && built.ModTime().After(pinned.ModTime()) {
		return out, nil
	}
	return out, s.step(ctx, "build "+name, modules[name].takes, func(ctx context.Context) error {
		return s.run(ctx, nil, "go", "build", "-modfile="+pin, "-o", out, modules[name].pkg)
	})
}

// buildProduct builds the product. Go's cache makes it quick when nothing changed.
// A test stack has a binary of its own, so that make test does not change the one
// that make dev runs.
func (s *Stack) buildProduct(ctx context.Context) error {
	s.Env.Binary = filepath.Join(s.options.Cache, "livestream")
	if s.options.Test {
		s.Env.Binary = filepath.Join(s.options.Dir, "livestream")
	}
	return s.run(ctx, nil, "go", "build", "-o", s.Env.Binary, "./cmd/livestream")
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
