package httpapi_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/httpapi"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/cached"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// What one request costs the API, with all that the product puts around it: its
// log, metrics, traces and copies. Redis and Postgres are real.
func BenchmarkGetStream(b *testing.B) {
	s := newBenchServer(b)
	b.Run("anonymous", func(b *testing.B) { s.get(b, "/api/streams/"+s.stream.String(), "") })
	b.Run("member", func(b *testing.B) { s.get(b, "/api/streams/"+s.stream.String(), s.token) })
}

func BenchmarkGetUser(b *testing.B) {
	s := newBenchServer(b)
	b.Run("anonymous", func(b *testing.B) { s.get(b, "/api/users/"+s.user.String(), "") })
	b.Run("member", func(b *testing.B) { s.get(b, "/api/users/"+s.user.String(), s.token) })
}

func BenchmarkListStreams(b *testing.B) {
	s := newBenchServer(b)
	b.Run("anonymous", func(b *testing.B) { s.get(b, "/api/streams?status=live", "") })
	b.Run("member", func(b *testing.B) { s.get(b, "/api/streams?status=live", s.token) })
}

type benchServer struct {
	*httpapi.Server
	user, stream uuid.UUID
	token        string
	redis        *commandCounter
}

// newBenchServer has twenty streams that are live.
func newBenchServer(b *testing.B) *benchServer {
	b.Helper()
	ctx := testenv.Context(b)
	s := &benchServer{redis: &commandCounter{}}
	db, err := postgres.Open(ctx, postgres.Config{URL: testenv.Database(b)})
	require.NoError(b, err)
	b.Cleanup(db.Close)
	traces, err := telemetry.NewTracerProvider(ctx, telemetry.TracingConfig{Role: "api"})
	require.NoError(b, err)
	client, err := redis.Open(ctx, redis.Config{URL: testenv.Redis(b), Instrument: func(client *driver.Client) error {
		client.AddHook(s.redis)
		return telemetry.InstrumentRedis(client, traces)
	}})
	require.NoError(b, err)
	b.Cleanup(func() { client.Close() })
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	tokens, err := auth.NewTokens(private, time.Now)
	require.NoError(b, err)
	copies := redis.NewCache(client, redis.CacheConfig{})
	go copies.KeepNear(ctx)
	cache := cached.New(copies, db)
	users, streams := cached.NewUsers(cache, postgres.NewUsers(db)), cached.NewStreams(cache, postgres.NewStreams(db))
	for range 20 {
		s.user, s.stream = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
		name := "u" + s.user.String()[24:]
		_, err = users.Create(ctx, livestream.NewUser{ID: s.user, Username: name, Email: name + "@example.com", PasswordHash: "-", DisplayName: name})
		require.NoError(b, err)
		_, err = streams.Create(ctx, livestream.NewStream{
			ID: s.stream, UserID: s.user, Title: "a stream", Description: "what it is about", Tags: []string{"one", "two"}, Ingest: livestream.IngestExternal,
		}, time.Now())
		require.NoError(b, err)
	}
	s.token, err = tokens.Issue(livestream.Identity{UserID: s.user, Role: livestream.RoleMember, FamilyID: uuid.New()})
	require.NoError(b, err)
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	const many = 10_000_000
	s.Server, err = httpapi.New(httpapi.Config{
		PublicURL: "https://api.test", ChatURLs: []string{"wss://chat.test"},
		Limits: httpapi.Limits{ReadsPerMinute: many, WritesPerMinute: many, LoginsPerMinute: many, LoginsPerAccount: many},
	}, httpapi.Deps{
		Tokens: tokens, Users: users, Streams: streams, StreamRows: postgres.NewStreams(db), Viewers: cached.NewViewers(redis.NewPresence(client)),
		Database: db, LastWrites: redis.NewLastWrites(client), RateLimiter: redis.NewRateLimiter(client),
		Log: log, Registry: prometheus.NewRegistry(), Traces: traces, Now: time.Now,
	})
	require.NoError(b, err)
	return s
}

func (s *benchServer) get(b *testing.B, path, token string) {
	ask := func() *httptest.ResponseRecorder {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://api.test"+path, nil)
		require.NoError(b, err)
		request.RemoteAddr = "192.0.2.1:1234"
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, request)
		return answer
	}
	first := ask()
	require.Equal(b, http.StatusOK, first.Code, "%s", first.Body)
	s.redis.trips.Store(0)
	b.ReportAllocs()
	for b.Loop() {
		if answer := ask(); answer.Code != http.StatusOK {
			b.Fatal(answer.Body)
		}
	}
	b.ReportMetric(float64(s.redis.trips.Load())/float64(b.N), "redis/op")
}

// commandCounter counts the trips to Redis; a pipeline is one.
type commandCounter struct{ trips atomic.Int64 }

func (*commandCounter) DialHook(next driver.DialHook) driver.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commandCounter) ProcessHook(next driver.ProcessHook) driver.ProcessHook {
	return func(ctx context.Context, command driver.Cmder) error {
		c.trips.Add(1)
		return next(ctx, command)
	}
}

func (c *commandCounter) ProcessPipelineHook(next driver.ProcessPipelineHook) driver.ProcessPipelineHook {
	return func(ctx context.Context, commands []driver.Cmder) error {
		c.trips.Add(1)
		return next(ctx, commands)
	}
}
