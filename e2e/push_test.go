package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/webpush"
	"github.com/livestream-pro/livestream-pro/internal/webpush/webpushtest"
)

// newPushStack starts a stack that trusts a push service on this machine.
func newPushStack(t *testing.T) (*stack, *webpushtest.Service) {
	service := webpushtest.New(t)
	return newStackOn(t, place{variables: []string{"SSL_CERT_FILE=" + webpushtest.RootsFile(t, service)}}, api|worker), service
}

// subscribe gives a member a browser that is told.
func (s *stack) subscribe(m member, service *webpushtest.Service) *webpushtest.Browser {
	s.Helper()
	var key struct {
		PublicKey string `json:"public_key"`
	}
	m.must(http.MethodGet, "/api/push-key", nil, &key)
	b := service.Subscribe(s, key.PublicKey)
	m.must(http.MethodPost, "/api/push-subscriptions", b.JSON(), nil)
	return b
}

// subscribedBy gives followers of a creator a browser each, straight in the database.
func (s *stack) subscribedBy(creator member, service *webpushtest.Service) (browsers []*webpushtest.Browser) {
	s.Helper()
	keys, err := webpush.LoadKeys(s.env.VAPIDKeyFile)
	require.NoError(s, err)
	rows, err := s.db.Query(s.ctx, "SELECT follower_id FROM follows WHERE following_id = $1", creator.id)
	require.NoError(s, err)
	var followers []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		require.NoError(s, rows.Scan(&id))
		followers = append(followers, id)
	}
	require.NoError(s, rows.Err())
	for _, follower := range followers {
		b := service.Subscribe(s, keys.Public)
		_, err := s.db.Exec(s.ctx, `WITH login AS (INSERT INTO sessions (id, user_id) VALUES ($1, $1) RETURNING id),
				token AS (INSERT INTO refresh_tokens (hash, session_id, expires_at) SELECT uuid_send(id), id, now() + interval '1 hour' FROM login)
			INSERT INTO push_subscriptions (user_id, session_id, endpoint, key, secret, server_key) SELECT id, id, $2, $3, $4, $5 FROM login`,
			follower, b.Endpoint, b.Key(), b.Secret(), keys.Public)
		require.NoError(s, err)
		browsers = append(browsers, b)
	}
	return browsers
}

// A worker that is killed while it tells browsers leaves none out. Those whom it told
// last are told once more, of the same thing: their browser shows it once.
func TestWorkerKilledWhileItTellsBrowsers(t *testing.T) {
	t.Parallel()
	const followers = 1000
	s, service := newPushStack(t)
	ada := s.register("ada")
	s.followedBy(ada, followers)
	browsers := s.subscribedBy(ada, service)
	require.Len(t, browsers, followers)
	stream := ada.start(false)
	got := func() (all, told int) {
		for _, b := range browsers {
			n := len(b.Got())
			if all += n; n > 0 {
				told++
			}
		}
		return all, told
	}
	s.until("some browsers have been told", func() bool { _, told := got(); return told > followers/4 })
	s.kill(s.worker)
	_, told := got()
	require.Less(t, told, followers, "it was killed too late")
	s.restart(s.worker)

	s.until("all of them have", func() bool { _, told := got(); return told == followers })
	var push string
	require.NoError(t, s.db.QueryRow(s.ctx, "SELECT 'push/stream_live:' || $1::text || '/' || max(user_id::text) FROM push_subscriptions", stream.ID).Scan(&push))
	s.completed(push)
	all, _ := got()
	t.Logf("%d messages for %d browsers", all, followers)
	require.Less(t, all, 2*followers, "it went on about where it was")
	for _, b := range browsers {
		topics := map[string]bool{}
		for _, m := range b.Got() {
			topics[m.Header.Get("Topic")] = true
		}
		require.Len(t, topics, 1)
	}
	require.Empty(t, service.Refused())
	require.EqualValues(t, followers, s.number("SELECT count(*) FROM notifications WHERE key = $1", "stream_live:"+stream.ID))
	ada.end(stream)
}

// subscriber is a page that subscribes as an application would. The browser's own part
// stands in for one that cannot reach its maker's push service: /subscribe is that of
// the test.
const subscriber = `<!doctype html><meta charset="utf-8"><script type="module">
import { subscribe, unsubscribe } from '/push.js';
const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0)).buffer;
const pushManager = {
  subscription: null,
  async getSubscription() { return this.subscription; },
  async subscribe({ userVisibleOnly, applicationServerKey: key }) {
    if (!userVisibleOnly) throw new DOMException('silent pushes are not allowed', 'NotAllowedError');
    if (this.subscription) throw new DOMException('it is subscribed already', 'InvalidStateError');
    const json = await (await fetch('/subscribe?key=' + key)).json();
    return this.subscription = {
      options: { userVisibleOnly, applicationServerKey: bytes(key) }, toJSON: () => json,
      unsubscribe: async () => { this.subscription = null; return true; },
    };
  },
};
const api = (path, init = {}) => fetch(path, { ...init, headers: { ...init.headers, Authorization: 'Bearer ' + window.token } });
const options = { fetch: api, registration: { pushManager } };
const told = (promise) => promise.then((value) => String(value), (error) => 'failed: ' + error.message);
window.subscribePage = () => told(subscribe(options));
window.unsubscribePage = (id) => told(unsubscribe(options, id));
window.subscribed = () => pushManager.subscription !== null;
window.ready = true;
</script>`

// The page's part of a subscription, in a browser and against the real API.
func TestAPageSubscribes(t *testing.T) {
	t.Parallel()
	s, service := newPushStack(t)
	ada, bob := s.register("ada"), s.register("bob")
	root, err := devstack.FindRoot()
	require.NoError(t, err)
	target, err := url.Parse(s.env.APIURL)
	require.NoError(t, err)
	var browsers []*webpushtest.Browser
	mux := http.NewServeMux()
	mux.Handle("GET /push.js", http.FileServer(http.Dir(filepath.Join(root, "clients", "js"))))
	mux.Handle("/api/", httputil.NewSingleHostReverseProxy(target))
	mux.HandleFunc("GET /subscribe", func(w http.ResponseWriter, r *http.Request) {
		b := service.Subscribe(t, r.URL.Query().Get("key"))
		browsers = append(browsers, b)
		assert.NoError(t, json.NewEncoder(w).Encode(b.JSON()))
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, subscriber) })
	pages := httptest.NewServer(mux)
	t.Cleanup(pages.Close)
	tab := s.browse(pages.URL)
	evaluate := func(script string) string {
		t.Helper()
		value, err := chromedp.Run(tab, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
		require.NoError(t, err)
		return value
	}
	s.until("the page is there", func() bool { return evaluate("String(window.ready)") == "true" })
	follow := func(browser *webpushtest.Browser, messages int) {
		t.Helper()
		s.register("fan").follow(ada)
		s.until("the browser is told", func() bool { return len(browser.Got()) == messages })
		ada.must(http.MethodPost, "/api/notifications/read", map[string]any{"all": true}, nil)
	}

	require.Contains(t, evaluate("subscribePage()"), "failed: unauthorized", "what the API says reaches the page")
	require.Empty(t, browsers, "the browser was not asked")
	logIn := func(token string) { evaluate(fmt.Sprintf("window.token = %q", token)) }
	logIn(ada.token)
	id := evaluate("subscribePage()")
	require.NoError(t, uuid.Validate(id))
	require.Len(t, browsers, 1)
	follow(browsers[0], 1)
	require.Equal(t, id, evaluate("subscribePage()"), "again is no other subscription")
	require.Len(t, browsers, 1)

	// The server's key is replaced, as docs/operations.md has it.
	renewedKey := webpushtest.KeyFile(t)
	for _, role := range []*devstack.Role{s.worker, s.api} {
		s.kill(role)
		role.Env = append(role.Env, "VAPID_PRIVATE_KEY_FILE="+renewedKey, "VAPID_PREVIOUS_KEY_FILES="+s.env.VAPIDKeyFile)
		s.restart(role)
	}
	follow(browsers[0], 2)
	renewed := evaluate("subscribePage()")
	require.NoError(t, uuid.Validate(renewed))
	require.Len(t, browsers, 2, "the browser has subscribed with the new key")
	require.NotEqual(t, browsers[0].Server, browsers[1].Server)
	follow(browsers[1], 1)
	require.Empty(t, service.Refused())

	// Somebody else logs in there: the browser is theirs.
	logIn(bob.token)
	require.Equal(t, renewed, evaluate("subscribePage()"))
	require.EqualValues(t, 1, s.number("SELECT count(*) FROM push_subscriptions WHERE user_id = $1", bob.id))
	for range 2 { // it may have been forgotten already
		require.Equal(t, "undefined", evaluate(fmt.Sprintf("unsubscribePage(%q)", renewed)))
		require.Equal(t, "false", evaluate("String(subscribed())"))
		require.Zero(t, s.number("SELECT count(*) FROM push_subscriptions WHERE id = $1", renewed))
	}
	logIn("none")
	require.Contains(t, evaluate(fmt.Sprintf("unsubscribePage(%q)", renewed)), "failed: unsubscribe: 401")
}

// pushSent is recorded: a browser is told, by the worker of a stack of its own.
func pushSent(s *stack, service *webpushtest.Service) string {
	ada, bob := s.register("ada"), s.register("bob")
	b := s.subscribe(bob, service)
	bob.follow(ada)
	stream := ada.start(false)
	s.until("the browser is told", func() bool { return len(b.Got()) > 0 })
	id := "push/stream_live:" + stream.ID + "/" + bob.id
	s.completed(id)
	ada.end(stream)
	return id
}
