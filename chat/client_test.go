package chat_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	client "github.com/livestream-pro/livestream-pro/clients/go/chat"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// crowdSize is small enough for every run of the tests; the issue's is 3,000.
var crowdSize = flag.Int("crowd", 300, "clients of the tests that kill and drain nodes")

// crowd is members who talk and viewers who read, each with a client that comes
// back to whichever node there is.
type crowd struct {
	t       *testing.T
	w       *world
	stream  uuid.UUID
	nodes   []string
	running sync.WaitGroup
	stop    context.CancelFunc
	seen    []*seen
	acked   atomic.Int64
	due     atomic.Int64 // the next message's number
}

// seen is what one client got.
type seen struct {
	mu       sync.Mutex
	texts    []string
	wrong    string
	last     int64
	welcomed time.Time
	gaps     int
}

// gather connects so many clients, of which a tenth talk.
func (w *world) gather(t *testing.T, stream uuid.UUID, nodes []string, size int) *crowd {
	t.Helper()
	ctx, stop := context.WithCancel(w.ctx)
	c := &crowd{t: t, w: w, stream: stream, nodes: nodes, stop: stop}
	// Together they say 30 messages a second at most, and are told 45,000: what is
	// tried is the nodes, not how fast one process can read for all.
	talkers := size / 10
	pause := max(time.Second, time.Second*time.Duration(talkers)/time.Duration(min(30, 45_000/size)))
	members := []*member{w.member(t), w.member(t), w.member(t)}
	connected := make(chan struct{}, size*100)
	for i := range size {
		s := &seen{}
		c.seen = append(c.seen, s)
		tries := i
		config := client.Config{
			MinPause: 100 * time.Millisecond, MaxPause: 2 * time.Second,
			Address: func(ctx context.Context) (string, error) {
				tries++
				query := url.Values{}
				if i < talkers {
					m := members[i%len(members)]
					token, err := w.tickets.Issue(ctx, livestream.Ticket{
						Purpose: livestream.TicketChat, StreamID: stream, Identity: livestream.Identity{UserID: m.ID, Role: m.Role, FamilyID: m.family},
					})
					if err != nil {
						return "", err
					}
					query.Set("ticket", token)
				}
				return "ws://" + nodes[tries%len(nodes)] + "/ws/streams/" + stream.String() + "/chat?" + query.Encode(), nil
			},
			Connected: func(gap bool) {
				s.mu.Lock()
				s.welcomed = time.Now()
				if gap {
					s.gaps++
				}
				s.mu.Unlock()
				connected <- struct{}{}
			},
			Event: func(e client.Event) {
				if e.Type != "message" {
					return
				}
				var m struct{ Text string }
				err := json.Unmarshal(e.JSON, &m)
				s.mu.Lock()
				defer s.mu.Unlock()
				if err != nil || s.last > 0 && e.ID != s.last+1 {
					s.wrong = fmt.Sprintf("event %d came after %d", e.ID, s.last)
				}
				s.last = e.ID
				s.texts = append(s.texts, m.Text)
			},
		}
		x, err := client.New(config)
		require.NoError(t, err)
		c.running.Go(func() { _ = x.Run(ctx) })
		if i < talkers {
			c.running.Go(func() {
				for ctx.Err() == nil {
					// A message that is under way when the talking ends is waited for by finish.
					text := fmt.Sprint(c.due.Add(1))
					if err := x.SendNonce(ctx, text, "n"+text); err == nil {
						c.acked.Add(1)
					} else if ctx.Err() == nil {
						t.Errorf("not taken: %v", err)
					}
					select {
					case <-time.After(pause):
					case <-ctx.Done():
					}
				}
			})
		}
	}
	for range size {
		select {
		case <-connected:
		case <-time.After(patience):
			t.Fatal("not all have connected")
		}
	}
	return c
}

// talked waits until so many more messages were acknowledged.
func (c *crowd) talked(more int64) {
	c.t.Helper()
	want := c.acked.Load() + more
	require.Eventually(c.t, func() bool { return c.acked.Load() >= want }, 2*patience, 20*time.Millisecond)
}

// finish waits until all clients have seen what was acknowledged, and holds it
// against what was said: each message once, in order, for everybody.
func (c *crowd) finish() {
	c.t.Helper()
	want := c.acked.Load()
	require.Eventually(c.t, func() bool {
		for _, s := range c.seen {
			s.mu.Lock()
			n := int64(len(s.texts))
			s.mu.Unlock()
			if n < want {
				return false
			}
		}
		return true
	}, 2*patience, 50*time.Millisecond)
	c.stop()
	c.running.Wait()
	for i, s := range c.seen {
		require.Empty(c.t, s.wrong, "client %d", i)
		require.Zero(c.t, s.gaps, "client %d", i)
		said := map[string]bool{}
		for _, text := range s.texts {
			require.False(c.t, said[text], "client %d has seen %s twice", i, text)
			said[text] = true
		}
	}
}

// M5: two nodes are replaced one after the other while members talk, and nobody
// misses a word.
func TestARollingRestartLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := fast
	config.DrainTime = time.Second
	config.MaxPerUser = 1000
	nodes := []*node{w.node(t, config), w.node(t, config)}
	fronts := make([]string, 2)
	current := make([]atomic.Pointer[node], 2)
	for i := range nodes {
		current[i].Store(nodes[i])
		front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { current[i].Load().ServeHTTP(rw, r) }))
		t.Cleanup(front.Close)
		fronts[i] = front.Listener.Addr().String()
	}
	c := w.gather(t, w.stream(t).ID, fronts, 60)
	c.talked(20)
	for i, old := range nodes {
		done := make(chan struct{})
		go func() {
			old.stop()
			close(done)
		}()
		c.talked(10)
		<-done
		current[i].Store(w.node(t, config))
		c.talked(10)
	}
	c.finish()
}

// One of three nodes is killed while members talk: everybody is back within 10 s,
// what was acknowledged reaches everybody once and in order, and the counts are right
// within 15 s.
func TestANodeIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := testenv.Load(t)
	env.DatabaseURL, env.RedisURL, env.DatabaseReplicaURLs = w.databaseURL, w.redisURL, nil
	var roles []*devstack.Role
	var addresses []string
	for i := range 3 {
		address, err := devstack.FreeAddress(t.Context())
		require.NoError(t, err)
		dir := t.TempDir()
		for _, folder := range []string{"log", "run"} {
			require.NoError(t, os.Mkdir(filepath.Join(dir, folder), 0o755))
		}
		role := devstack.NewRole(env, dir, fmt.Sprint("chat-", i), address, []string{"chat"}, "LIMITS=load", "CHAT_DRAIN_TIME=1s")
		require.NoError(t, role.Launch(w.ctx))
		t.Cleanup(role.Kill)
		roles, addresses = append(roles, role), append(addresses, address)
	}
	stream := w.stream(t).ID
	c := w.gather(t, stream, addresses, *crowdSize)
	counted := func() int64 {
		counts, err := w.presence.Viewers(w.ctx, stream)
		require.NoError(t, err)
		return counts[stream]
	}
	viewers := int64(*crowdSize - *crowdSize/10)
	c.talked(20)
	require.Eventually(t, func() bool { return counted() >= viewers }, patience, 50*time.Millisecond)
	killed := time.Now()
	roles[0].Kill()
	<-roles[0].Done()
	require.Eventually(t, func() bool {
		n := counted()
		// Members are counted once a node, and there are three of them.
		return n >= viewers && n <= viewers+6
	}, 15*time.Second-time.Since(killed), 50*time.Millisecond, "the dead node's viewers are elsewhere")
	c.talked(100)
	back := 0
	for _, s := range c.seen {
		s.mu.Lock()
		if s.welcomed.After(killed) {
			back++
			require.Less(t, s.welcomed.Sub(killed), 10*time.Second)
		}
		s.mu.Unlock()
	}
	require.GreaterOrEqual(t, back, *crowdSize/3)
	t.Logf("%d of %d clients came back", back, *crowdSize)
	c.finish()
}

// The page that uses the browser's client as an application would; what it is told
// it keeps in lines.
const chatPage = `<!doctype html><meta charset="utf-8"><title>Chat</title><script type="module">
import { Chat } from '/chat.js';
window.lines = [];
const tell = (...words) => window.lines.push(words.join(' '));
const chat = new Chat({
  address: async () => (await fetch('/ticket')).text(),
  onConnect: (gap) => tell('connected', gap),
  onEvent: (event) => event.type === 'message' && tell('event', event.text),
  onEnd: (reason) => tell('ended', reason),
  minPause: 50,
});
window.say = (text) => { chat.send(text).then(() => tell('taken', text), (refused) => tell('refused', refused.code)); };
</script>`

// The browser's client, in a browser, against two nodes of which one goes.
func TestTheBrowserClient(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("chromium")
	require.NoError(t, err, "chromium is missing; on Debian: apt-get install chromium")
	root, err := devstack.FindRoot()
	require.NoError(t, err)
	w := newWorld(t)
	stream, ada := w.stream(t).ID, w.member(t)
	var (
		nodes []*node
		asked atomic.Int64
	)
	mux := http.NewServeMux()
	mux.Handle("GET /chat.js", http.FileServer(http.Dir(filepath.Join(root, "clients", "js"))))
	mux.HandleFunc("GET /ticket", func(rw http.ResponseWriter, _ *http.Request) {
		n := nodes[min(int(asked.Add(1))-1, 1)]
		ticket := w.ticket(t, ada, livestream.TicketChat, stream)
		fmt.Fprint(rw, n.address("/ws/streams/"+stream.String()+"/chat", url.Values{"ticket": {ticket}}))
	})
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, chatPage) })
	pages := httptest.NewServer(mux)
	t.Cleanup(pages.Close)
	config := fast
	config.DrainTime = time.Second
	config.AllowedOrigins = []string{pages.URL}
	nodes = []*node{w.node(t, config), w.node(t, config)}

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU)
	allocator, stop := chromedp.NewExecAllocator(w.ctx, options...)
	t.Cleanup(stop)
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	_, err = chromedp.Run(browser, chromedp.Navigate(pages.URL))
	require.NoError(t, err)
	told := 0
	heard := func(want string) {
		t.Helper()
		var line string
		require.Eventually(t, func() bool {
			line, err = chromedp.Run(browser, chromedp.Evaluate[string](fmt.Sprintf("(window.lines || [])[%d] || ''", told)))
			return err == nil && line != ""
		}, 30*time.Second, 20*time.Millisecond, "the page was not told %q", want)
		require.Equal(t, want, line)
		told++
	}
	say := func(text string) {
		t.Helper()
		_, err := chromedp.Run(browser, chromedp.Evaluate[any](fmt.Sprintf("say(%q)", text)))
		require.NoError(t, err)
	}
	heard("connected false")
	say("one")
	heard("event one")
	heard("taken one")
	nodes[0].stop()
	heard("connected false")
	w.append(t, stream, "two")
	heard("event two")
	say("three")
	heard("event three")
	heard("taken three")
	say("  ")
	heard("refused empty")
	w.logout(t, ada)
	heard("ended logged_out")
}
