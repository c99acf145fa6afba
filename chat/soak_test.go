package chat_test

import (
	"context"
	"flag"
	"net"
	"net/url"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// soakFor is short in every run of the tests; make soak-chat has 10 minutes.
var soakFor = flag.Duration("soak", 6*time.Second, "how long TestSoak lasts")

// server is a Redis of a test's own, which it can restart.
type server struct {
	tb      testing.TB
	args    []string
	address string
	command *exec.Cmd
}

func newServer(tb testing.TB, more ...string) *server {
	tb.Helper()
	address, err := devstack.FreeAddress(context.Background())
	require.NoError(tb, err)
	_, port, err := net.SplitHostPort(address)
	require.NoError(tb, err)
	s := &server{tb: tb, address: address, args: append([]string{
		"--bind", "127.0.0.1", "--port", port, "--dir", tb.TempDir(), "--save", "", "--appendonly", "yes", "--appendfsync", "always",
	}, more...)}
	s.start()
	tb.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.tb.Helper()
	s.command = exec.CommandContext(context.Background(), "redis-server", s.args...)
	require.NoError(s.tb, s.command.Start(), "on Debian: apt-get install redis-server")
	require.Eventually(s.tb, func() bool {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}, patience, 20*time.Millisecond)
}

func (s *server) stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = s.command.Wait()
}

// stacks are those of all goroutines but the proxy's, which has several for each
// connection that a pool keeps.
func stacks() string {
	all := make([]byte, 4<<20)
	var ours []string
	for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
		if !strings.Contains(stack, "toxiproxy") {
			ours = append(ours, stack)
		}
	}
	return strings.Join(ours, "\n\n")
}

// Two nodes, members who talk, connections that come and go, cuts and restarts of
// Redis: no long-lived client loses its connection or a message, and in the end memory
// and goroutines are where they were.
func TestSoak(t *testing.T) {
	redisServer := newServer(t)
	ctx, cancel := context.WithTimeout(context.Background(), *soakFor+2*time.Minute)
	defer cancel()
	w := newWorldOn(t, ctx, "redis://"+redisServer.address+"/0")
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	config := fast
	config.MaxPerUser = 1000
	nodes := []*node{w.nodeAt(t, config, redisURL, nil), w.nodeAt(t, config, redisURL, nil)}
	stream, other := w.stream(t).ID, w.stream(t).ID
	churn := func(count int, stream uuid.UUID) {
		for i := range count {
			opened, err := client.Dial(w.ctx, nodes[i%2].address("/ws/streams/"+stream.String()+"/chat", url.Values{"last": {"5"}}))
			if err != nil {
				continue // Redis is away for those who come
			}
			_, _ = opened.Next(w.ctx)
			_ = opened.Close()
		}
	}
	churn(20, other) // pools fill up
	usage := func() (goroutines, heap int) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return strings.Count(stacks(), "goroutine "), int(m.HeapInuse)
	}
	var before int
	require.Eventually(t, func() bool {
		was := before
		before, _ = usage()
		return was == before
	}, patience, 500*time.Millisecond)
	_, heap := usage()

	addresses := []string{nodes[0].http.Listener.Addr().String(), nodes[1].http.Listener.Addr().String()}
	c := w.gather(t, stream, addresses, 40)
	began, welcomed := time.Now(), []time.Time{}
	for _, s := range c.seen {
		s.mu.Lock()
		welcomed = append(welcomed, s.welcomed)
		s.mu.Unlock()
	}
	for round := 0; time.Since(began) < *soakFor; round++ {
		c.talked(8)
		churn(20, other)
		if round%2 == 0 {
			proxy.Cut()
			churn(2, stream)
			proxy.Restore()
		} else {
			redisServer.stop()
			redisServer.start()
		}
	}
	c.talked(8)
	for i, s := range c.seen {
		s.mu.Lock()
		require.Equal(t, welcomed[i], s.welcomed, "client %d lost its connection", i)
		s.mu.Unlock()
	}
	c.finish()
	c.seen = nil // what the test itself remembers
	var now int
	enough := assert.Eventually(t, func() bool {
		now, _ = usage()
		return now <= before+5
	}, patience, 100*time.Millisecond)
	if !enough {
		t.Fatalf("there were %d goroutines, and are %d:\n%s", before, now, stacks())
	}
	_, after := usage()
	t.Logf("heap before %d KiB, after %d KiB; %d messages", heap>>10, after>>10, c.acked.Load())
	require.Less(t, after, 2*heap+16<<20, "the heap grew")
}
