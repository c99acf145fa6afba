package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// helperVariable has this test's binary play another program.
const helperVariable = "DEVSTACK_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperVariable) {
	case "serve": // a role
		mux := http.NewServeMux()
		mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
		fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Getenv("LISTEN"), mux))
		os.Exit(1)
	case "fail": // a server that cannot start
		fmt.Fprintln(os.Stderr, "line one\nthe disk is full")
		os.Exit(3)
	case "parent": // a devstack with one child, whose id it prints
		p := &Process{Name: "child", Path: "/bin/sleep", Args: []string{"600"}, Dir: os.Getenv("DEVSTACK_DIR")}
		if err := p.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.Pid())
		select {}
	}
	os.Exit(m.Run())
}

// helper prepares this test's binary as a process of a stack.
func helper(t *testing.T, dir, name, plays string, env ...string) *Process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return &Process{Name: name, Path: self, Dir: dir, Env: append(env, helperVariable+"="+plays)}
}

// output collects the lines that a stack prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// newStack is a stack in which nothing runs yet.
func newStack(t *testing.T) (*Stack, *output) {
	t.Helper()
	root, err := FindRoot()
	require.NoError(t, err)
	out := new(output)
	s := &Stack{options: Options{Root: root, Dir: t.TempDir(), Out: out}, failed: make(chan error, 1), stopping: make(chan struct{})}
	s.options.Cache = filepath.Join(root, ".devstack", "bin")
	for _, dir := range []string{"run", "log"} {
		require.NoError(t, os.Mkdir(filepath.Join(s.options.Dir, dir), 0o755))
	}
	s.lock, err = lockDir(s.options.Dir)
	require.NoError(t, err)
	s.ports, err = claim(t.Context(), Options{Test: true, Replicas: 1})
	require.NoError(t, err)
	return s, out
}

func TestARoleThatDiesIsStartedAgain(t *testing.T) {
	t.Parallel()
	s, out := newStack(t)
	address, err := FreeAddress(t.Context())
	require.NoError(t, err)
	role := &Role{Process: helper(t, s.options.Dir, "api", "serve", "LISTEN="+address), Address: address}
	s.Env.Binary = role.Path
	require.NoError(t, s.start(t.Context(), role.Process))
	require.NoError(t, role.Ready(t.Context()))
	s.guard(t.Context(), []*Role{role})
	first := role.Pid()
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))

	require.Eventually(t, func() bool { return bytes.Contains([]byte(out.String()), []byte("again\n")) }, 20*time.Second, 20*time.Millisecond)
	require.Regexp(t, `died api +api stopped \(signal: killed\); see .*/log/api\.log; it is started again in 1s\n +ok +api`, out.String())
	require.NotEqual(t, first, role.Pid())
	pid, err := os.ReadFile(filepath.Join(s.options.Dir, "run", "api.pid"))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(role.Pid())+"\n", string(pid))
	require.NoError(t, role.Ready(t.Context()))

	s.Close()
	require.Error(t, syscall.Kill(role.Pid(), 0), "the role is left")
	require.NoFileExists(t, filepath.Join(s.options.Dir, "run", "api.pid"))
}

func TestAServerThatDiesIsTold(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	address, err := FreeAddress(t.Context())
	require.NoError(t, err)
	p := helper(t, s.options.Dir, "redis", "serve", "LISTEN="+address)
	require.NoError(t, s.launch(t.Context(), p, 20*time.Second, healthy("http://"+address+"/health")))
	require.NoError(t, syscall.Kill(p.Pid(), syscall.SIGKILL))
	select {
	case err := <-s.Failed():
		require.EqualError(t, err, "redis stopped (signal: killed); see "+p.Log())
	case <-time.After(20 * time.Second):
		t.Fatal("nobody says that it died")
	}
	s.Close()
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	defer s.Close()
	p := helper(t, s.options.Dir, "s3", "fail")
	err := s.launch(t.Context(), p, 20*time.Second, func(context.Context) error { return errors.New("not yet") })
	require.EqualError(t, err, "s3 stopped (exit status 3: the disk is full); see "+p.Log())

	p = &Process{Name: "none", Path: "/no/such/program", Dir: s.options.Dir}
	require.ErrorContains(t, s.launch(t.Context(), p, time.Second, nil), "start none: ")
}

func TestAServerThatIsNeverReadySaysSo(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	p := &Process{Name: "temporal", Path: "/bin/sleep", Args: []string{"600"}, Dir: s.options.Dir}
	err := s.launch(t.Context(), p, 200*time.Millisecond, func(context.Context) error { return errors.New("connection refused") })
	require.EqualError(t, err, "temporal is not ready after 200ms: connection refused; see "+p.Log())
	s.Close()
	require.Error(t, syscall.Kill(p.Pid(), 0), "it is left")
}

func TestAProcessOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	defer s.Close()
	earlier := exec.Command("/bin/sleep", "600")
	require.NoError(t, earlier.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = earlier.Wait() }()
	file := filepath.Join(s.options.Dir, "run", "x.pid")
	require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(earlier.Process.Pid)+"\n"), 0o644))

	require.NoError(t, gone(t.Context(), "x", file, "/usr/bin/another-program"), "the id was given to another program")
	require.NoError(t, gone(t.Context(), "x", filepath.Join(s.options.Dir, "run", "y.pid"), "/bin/sleep"), "there was no earlier run")
	require.EqualError(t, gone(t.Context(), "x", file, "/bin/sleep"),
		fmt.Sprintf("x of an earlier run is still there; stop it with: kill %d", earlier.Process.Pid))

	require.NoError(t, earlier.Process.Kill())
	<-ended
	require.NoError(t, gone(t.Context(), "x", file, "/bin/sleep"))
}

func TestOneStackAtATimeUsesAFolder(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	require.True(t, Running(s.options.Dir))
	_, err := Start(t.Context(), s.options)
	require.EqualError(t, err, fmt.Sprintf("a stack runs in %s already; use it, or stop it with Ctrl-C or: kill %d", s.options.Dir, os.Getpid()))
	s.Close()
	require.False(t, Running(s.options.Dir))
	require.False(t, Running(t.TempDir()), "nothing ever ran there")
}

func TestLastLine(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		"":                                     "",
		"one\ntwo\n\n":                         "two",
		"x.go:1: wrong\nx.go: too many errors": "x.go:1: wrong",
		"too many errors":                      "too many errors",
	} {
		require.Equal(t, want, lastLine([]byte(output)))
	}
}
