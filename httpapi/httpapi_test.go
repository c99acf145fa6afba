package httpapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"
	temporal "go.temporal.io/sdk/client"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/httpapi"
	"github.com/livestream-pro/livestream-pro/httpapi/contracttest"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/internal/webpush"
	"github.com/livestream-pro/livestream-pro/internal/webpush/webpushtest"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	"github.com/livestream-pro/livestream-pro/storage/s3"
	"github.com/livestream-pro/livestream-pro/workers"
	"github.com/livestream-pro/livestream-pro/workflows"
	"github.com/livestream-pro/livestream-pro/workflows/client"
)

const (
	webhookSecret = "whsec_test"
	password      = "correct horse battery"
)

// product is the API over HTTP, with the workers behind it in this process: all
// but the transcoding, which the end-to-end tests have.
type product struct {
	url    string
	server *httpapi.Server
	stripe *stripesim.Server
	// stripeURL is where the simulator is.
	stripeURL string
	db        *postgres.DB
	tokens    *auth.Tokens
	bucket    *s3.Bucket
	// bucketName is the bucket's.
	bucketName string
	dsn        string
	chats      *postgres.Chats
	chat       *redis.Chat
	redis      *driver.Client
	views      *activities.Views

	pushes   *webpushtest.Service
	temporal temporal.Client
	pushKey  string // of the product

	presence *redis.Presence
	metrics  *prometheus.Registry // of the queries
}

// options change what a product of a test's own is like.
type options struct {
	databaseURL, redisURL, temporalAddress string
	noWorkers                              bool
	noPushes                               bool // to browsers
	pushesOnInternet                       bool // alone, as in production
	// limits of zero are so high that no test meets them.
	limits httpapi.Limits
	log    *zap.Logger // nil logs nothing
	// s3Endpoint is where media come from; empty is the stack's.
	s3Endpoint string
	maxMedia   int
	perAddress int // of them
	mediaURL   string
	cookies    httpapi.MediaCookies
}

// The tests that break nothing share one product; each has members of its own.
var shared struct {
	once sync.Once
	*product
	close []func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, f := range shared.close {
		f()
	}
	os.Exit(code)
}

// cleanups lets the shared product outlive the test that was the first to ask.
type cleanups struct {
	testing.TB
	add func(func())
}

func (c cleanups) Cleanup(f func()) { c.add(f) }

// api gives the product that tests share.
func api(t *testing.T) *product {
	t.Helper()
	t.Parallel()
	shared.once.Do(func() {
		tb := cleanups{TB: t, add: func(f func()) { shared.close = append([]func(){f}, shared.close...) }}
		shared.product = newProduct(tb, options{})
	})
	require.NotNil(t, shared.product, "the product did not start")
	return shared.product
}

func newProduct(tb testing.TB, o options) *product {
	tb.Helper()
	env := testenv.Load(tb)
	if o.databaseURL == "" {
		o.databaseURL = testenv.Database(tb)
	}
	if o.redisURL == "" {
		o.redisURL = testenv.Redis(tb)
	}
	namespace := "nowhere"
	if o.temporalAddress == "" {
		o.temporalAddress, namespace = env.TemporalAddress, testenv.Namespace(tb)
	}
	const many = 1_000_000
	if o.limits == (httpapi.Limits{}) {
		o.limits = httpapi.Limits{ReadsPerMinute: many, WritesPerMinute: many, LoginsPerMinute: many, LoginsPerAccount: many}
	}
	if o.log == nil {
		o.log = zap.NewNop()
	}
	ctx := context.Background()
	p := &product{dsn: o.databaseURL, metrics: prometheus.NewRegistry()}
	tracer, err := telemetry.NewPostgresTracer(p.metrics, noop.NewTracerProvider())
	require.NoError(tb, err)
	p.db, err = postgres.Open(ctx, postgres.Config{URL: o.databaseURL, Tracer: tracer})
	require.NoError(tb, err)
	tb.Cleanup(p.db.Close)
	cache, err := redis.Open(ctx, redis.Config{URL: o.redisURL})
	require.NoError(tb, err)
	tb.Cleanup(func() { cache.Close() })
	p.chats = postgres.NewChats(p.db)
	p.chat = redis.NewChat(cache, p.chats)
	p.presence = redis.NewPresence(cache)
	p.views = &activities.Views{Counts: redis.NewViews(cache), Store: postgres.NewViews(p.db)}
	operator, err := driver.ParseURL(o.redisURL)
	require.NoError(tb, err)
	p.redis = driver.NewClient(operator)
	tb.Cleanup(func() { p.redis.Close() })
	p.bucketName = testenv.Bucket(tb)
	p.bucket, err = s3.Open(ctx, s3.Config{Endpoint: env.S3Endpoint, Bucket: p.bucketName, AccessKey: env.S3AccessKey, SecretKey: env.S3SecretKey})
	require.NoError(tb, err)
	if o.s3Endpoint == "" {
		o.s3Endpoint = env.S3Endpoint
	}
	media, err := s3.Open(ctx, s3.Config{
		Endpoint: o.s3Endpoint, Bucket: p.bucketName, AccessKey: env.S3AccessKey, SecretKey: env.S3SecretKey, CallTimeout: 3 * time.Second,
	})
	require.NoError(tb, err)
	connection, err := temporal.NewLazyClient(temporal.Options{
		HostPort: o.temporalAddress, Namespace: namespace, Logger: telemetry.NewTemporalLogger(zap.NewNop()),
	})
	require.NoError(tb, err)
	tb.Cleanup(connection.Close)
	p.temporal = connection
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(tb, err)
	p.tokens, err = auth.NewTokens(private, time.Now)
	require.NoError(tb, err)

	// The simulator must know the API's address, and the API the simulator's.
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.server.ServeHTTP(w, r) }))
	tb.Cleanup(front.Close)
	p.url = front.URL
	p.stripe, err = stripesim.New(stripesim.Config{WebhookURL: p.url + "/api/webhooks/stripe", WebhookSecret: webhookSecret})
	require.NoError(tb, err)
	tb.Cleanup(p.stripe.Close)
	simulator := httptest.NewServer(p.stripe)
	tb.Cleanup(simulator.Close)
	p.stripeURL = simulator.URL
	provider, err := stripe.New(stripe.Config{SecretKey: "sk_test_x", BaseURL: simulator.URL})
	require.NoError(tb, err)
	webhooks, err := stripe.NewWebhooks([]string{webhookSecret})
	require.NoError(tb, err)

	now := func() time.Time { return time.Now().UTC() }
	push, wf := redis.NewNotifications(cache), client.New(connection)
	subscriptions := postgres.NewPushSubscriptions(p.db)
	browsers := client.NewBrowsers(wf, subscriptions)
	keys, err := webpush.LoadKeys(env.VAPIDKeyFile)
	require.NoError(tb, err)
	p.pushes = webpushtest.New(tb)
	sender, err := webpush.New(webpush.Config{
		Keys: keys, Contact: "mailto:operator@example.com", AllowLoopback: true, Roots: webpushtest.Roots(p.pushes), Registry: prometheus.NewRegistry(),
	})
	require.NoError(tb, err)
	if !o.noPushes {
		p.pushKey = keys.Public
	}
	streams, notifications := postgres.NewStreams(p.db), postgres.NewNotifications(p.db)
	p.server, err = httpapi.New(httpapi.Config{PublicURL: p.url, MediaURL: o.mediaURL, MaxMedia: o.maxMedia, MaxMediaPerAddress: o.perAddress, ChatURLs: []string{"ws://chat.test"}, AllowedOrigins: []string{"https://app.test"}, Limits: o.limits, PushKey: p.pushKey, PushAnywhere: !o.pushesOnInternet,
		TipRanges: map[string]livestream.AmountRange{"jpy": {Min: 200, Max: 5000}},
	}, httpapi.Deps{
		Tokens: p.tokens, Passwords: auth.NewPasswords(), Sessions: postgres.NewSessions(p.db), Logouts: push,
		Users: postgres.NewUsers(p.db), Follows: postgres.NewFollows(p.db), Streams: streams, StreamRows: streams, Viewers: redis.NewPresence(cache),
		Recordings: postgres.NewRecordings(p.db), Uploads: p.bucket, Archives: postgres.NewArchives(p.db), Media: media, MediaCookies: o.cookies, Views: redis.NewViews(cache),
		Notifications: notifications, Push: push, PushSubscriptions: subscriptions, Browsers: browsers, Transactions: postgres.NewTransactions(p.db),
		StripeEvents: postgres.NewStripeEvents(p.db), Webhooks: webhooks, Idempotency: postgres.NewIdempotencyKeys(p.db),
		Chats: p.chats, ChatEvents: p.chat, Moderators: push,
		Tickets: redis.NewTickets(cache), Workflows: wf, Database: p.db, LastWrites: redis.NewLastWrites(cache),
		RateLimiter: redis.NewRateLimiter(cache),
		Checks: map[string]func(context.Context) error{
			"postgres": p.db.Ping, "replicas": p.db.PingReplicas, "redis": cache.Ping, "temporal": wf.Ping, "s3": p.bucket.Ping,
		},
		Log: o.log, Registry: prometheus.NewRegistry(), Traces: noop.NewTracerProvider(), Now: now,
	})
	require.NoError(tb, err)
	if o.noWorkers {
		return p
	}
	steps := workers.Activities{
		Streams: &activities.Streams{
			Store: streams, Recordings: postgres.NewRecordings(p.db), Uploads: p.bucket, Viewers: redis.NewPresence(cache), Chat: p.chat, Now: now,
		},
		Notifications: &activities.Notifications{Store: notifications, Timeline: streams, Push: push, Browsers: browsers, Now: now},
		Pushes:        &activities.Pushes{Store: subscriptions, Sender: sender},
		Archives: &activities.Archives{
			Store: postgres.NewArchives(p.db), Recordings: postgres.NewRecordings(p.db), Timeline: streams, Objects: media, Notify: notifications, Push: push, Browsers: browsers, Now: now,
		},
		Views:   p.views,
		Tiers:   &activities.Tiers{Store: postgres.NewArchives(p.db), Objects: p.bucket, Notify: notifications, Push: push, Browsers: browsers, Now: now},
		Orphans: &activities.Orphans{}, // it runs in the end-to-end tests
		Transactions: &activities.Transactions{
			Store: postgres.NewTransactions(p.db), Stripe: provider, Users: postgres.NewUsers(p.db), Chat: p.chat, Push: push, Browsers: browsers, Now: now, Hold: time.Hour,
		},
		Refunds: &activities.Refunds{Store: postgres.NewRefunds(p.db), Payments: postgres.NewTransactions(p.db), Stripe: provider, Now: now, Hold: time.Hour},
		StripeEvents: &activities.StripeEvents{
			Payments: postgres.NewTransactions(p.db), Refunds: postgres.NewRefunds(p.db), Disputes: postgres.NewDisputes(p.db), Stripe: provider, Now: now, Hold: time.Hour,
		},
		Reconciliation: &activities.Reconciliation{}, // it runs in the end-to-end tests
	}
	for _, queue := range []string{workflows.QueueStream, workflows.QueueNotify, workflows.QueueArchive, workflows.QueuePayment, workflows.QueuePush} {
		w, err := workers.New(connection, queue, steps, workers.Limits{}, func(err error) { tb.Log("a worker ended", err) })
		require.NoError(tb, err)
		require.NoError(tb, w.Start())
		tb.Cleanup(w.Stop)
	}
	return p
}

// exec changes the database under the product's feet.
func (p *product) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// number asks the database for one.
func (p *product) number(t *testing.T, sql string, args ...any) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var out map[string]any
	require.NoError(t, json.Unmarshal(a.body, &out), "%s", a.body)
	return out
}

func (a answer) text(t *testing.T, field string) string {
	t.Helper()
	text, _ := a.json(t)[field].(string)
	return text
}

// data is a list's entries.
func (a answer) data(t *testing.T) []map[string]any {
	t.Helper()
	var out struct {
		Data []map[string]any `json:"data"`
	}
	require.NoError(t, json.Unmarshal(a.body, &out), "%s", a.body)
	return out.Data
}

// problem asserts that the answer is one, with that status and code.
func (a answer) problem(t *testing.T, status int, code string) map[string]any {
	t.Helper()
	require.Equal(t, status, a.status, "%s", a.body)
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
	out := a.json(t)
	require.Equal(t, code, out["code"], "%s", a.body)
	require.EqualValues(t, status, out["status"])
	require.Equal(t, a.header.Get("X-Request-ID"), out["request_id"])
	return out
}

func (a answer) ok(t *testing.T, status int) answer {
	t.Helper()
	require.Equal(t, status, a.status, "%s", a.body)
	return a
}

// caller asks as somebody.
type caller struct {
	t     *testing.T
	p     *product
	http  *http.Client
	token string
	id    string
	name  string
	email string
	// refresh is the refresh token of the registration.
	refresh string
}

func (p *product) anybody(t *testing.T) *caller {
	t.Helper()
	return &caller{t: t, p: p, http: &http.Client{Transport: contracttest.Transport(t), Timeout: 30 * time.Second}}
}

// mustRegister makes a member.
func (p *product) mustRegister(t *testing.T) *caller {
	t.Helper()
	c := p.anybody(t)
	c.name = "u" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20]
	c.email = c.name + "@example.com"
	got := c.post("/api/auth/register", map[string]any{"username": c.name, "email": c.email, "password": password}).ok(t, http.StatusCreated)
	var session struct {
		User         struct{ ID string } `json:"user"`
		AccessToken  string              `json:"access_token"`
		RefreshToken string              `json:"refresh_token"`
	}
	require.NoError(t, json.Unmarshal(got.body, &session))
	c.id, c.token, c.refresh = session.User.ID, session.AccessToken, session.RefreshToken
	return c
}

// do sends a request; in is JSON that is made of it, or the bytes themselves.
func (c *caller) do(method, path string, in any, headers ...string) answer {
	c.t.Helper()
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(v)
	case string:
		body = strings.NewReader(v)
	default:
		content, err := json.Marshal(in)
		require.NoError(c.t, err)
		body = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.p.url+path, body)
	require.NoError(c.t, err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.http.Do(request)
	require.NoError(c.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	return answer{status: response.StatusCode, header: response.Header, body: content}
}

func (c *caller) get(path string, headers ...string) answer {
	c.t.Helper()
	return c.do(http.MethodGet, path, nil, headers...)
}

func (c *caller) post(path string, in any, headers ...string) answer {
	c.t.Helper()
	return c.do(http.MethodPost, path, in, headers...)
}

// mustStart makes a stream that is live, and gives its id.
func (c *caller) mustStart(in map[string]any) string {
	c.t.Helper()
	if in == nil {
		in = map[string]any{"title": "first light"}
	}
	return c.post("/api/streams", in).ok(c.t, http.StatusCreated).text(c.t, "id")
}

// mustEnd ends a stream and waits until it has ended.
func (c *caller) mustEnd(id string) {
	c.t.Helper()
	c.post("/api/streams/"+id+"/end", nil).ok(c.t, http.StatusAccepted)
	c.eventually(func() bool { return c.get("/api/streams/"+id).text(c.t, "status") == "ended" })
}

func (c *caller) eventually(condition func() bool) {
	c.t.Helper()
	require.Eventually(c.t, condition, 20*time.Second, 50*time.Millisecond)
}

// pages reads a list to its end.
func (c *caller) pages(path string, limit int) []map[string]any {
	c.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	var all []map[string]any
	cursor := ""
	for range 1000 {
		got := c.get(fmt.Sprintf("%s%slimit=%d%s", path, separator, limit, cursor)).ok(c.t, http.StatusOK)
		data := got.data(c.t)
		require.LessOrEqual(c.t, len(data), limit)
		all = append(all, data...)
		next := got.text(c.t, "next_cursor")
		if next == "" {
			return all
		}
		cursor = "&cursor=" + next
	}
	c.t.Fatal("the list does not end")
	return nil
}
