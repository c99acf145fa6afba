package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
	"github.com/livestream-pro/livestream-pro/workers"
	"github.com/livestream-pro/livestream-pro/workflows"
	starter "github.com/livestream-pro/livestream-pro/workflows/client"
)

// One trace goes from the request through the workflow to its activities and
// their SQL, over two processes, here with a provider each.
func TestOneTraceFromTheRequestToItsSQL(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	address, namespace := testenv.Load(t).TemporalAddress, testenv.Namespace(t)
	role := func(name string, ratio float64) (*tracetest.InMemoryExporter, *sdktrace.TracerProvider, client.Client) {
		exporter := tracetest.NewInMemoryExporter()
		provider := telemetry.NewTracerProviderWith(telemetry.TracingConfig{Role: name, Ratio: ratio}, sdktrace.WithSyncer(exporter))
		tracing, err := telemetry.NewTemporalTracing(provider)
		require.NoError(t, err)
		temporal, err := client.DialContext(ctx, client.Options{
			HostPort: address, Namespace: namespace, Logger: telemetry.NewTemporalLogger(zap.NewNop()), Interceptors: []interceptor.ClientInterceptor{tracing},
		})
		require.NoError(t, err)
		t.Cleanup(temporal.Close)
		return exporter, provider, temporal
	}
	requests, api, temporal := role("api", 0) // the client decides: it comes with a traceparent
	steps, worker, fleet := role("worker", 0)

	tracer, err := telemetry.NewPostgresTracer(prometheus.NewRegistry(), worker)
	require.NoError(t, err)
	db, err := postgres.Open(ctx, postgres.Config{URL: testenv.Database(t), Tracer: tracer})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	cache, err := redis.Open(ctx, redis.Config{
		URL: testenv.Redis(t), Instrument: func(c *goredis.Client) error { return telemetry.InstrumentRedis(c, worker) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { cache.Close() })
	now := func() time.Time { return time.Now().UTC() }
	running, err := workers.New(fleet, workflows.QueueStream, workers.Activities{Streams: &activities.Streams{
		Store: postgres.NewStreams(db), Recordings: postgres.NewRecordings(db), Viewers: redis.NewPresence(cache), Chat: redis.NewChat(cache, postgres.NewChats(db)), Now: now,
	}}, workers.Limits{}, func(err error) { t.Log("the worker ended", err) })
	require.NoError(t, err)
	require.NoError(t, running.Start())
	t.Cleanup(running.Stop)
	user, err := postgres.NewUsers(db).Create(ctx, livestream.NewUser{
		ID: uuid.Must(uuid.NewV7()), Username: "ada", Email: "ada@example.com", DisplayName: "Ada", PasswordHash: "hash",
	})
	require.NoError(t, err)

	gin.SetMode(gin.ReleaseMode)
	router, streams := gin.New(), starter.New(temporal)
	router.ContextWithFallback = true
	spans := telemetry.NewRequests(api)
	router.Use(func(c *gin.Context) {
		ctx, span := spans.Begin(c.Request.Context(), c.Request, c.FullPath())
		c.Request = c.Request.WithContext(ctx)
		c.Next()
		spans.End(span, c.Writer.Status())
	})
	stream := livestream.NewStream{ID: uuid.Must(uuid.NewV7()), UserID: user.ID, Title: "First light", Ingest: livestream.IngestExternal}
	router.POST("/api/streams", func(c *gin.Context) {
		if err := streams.StartStream(c, stream); err != nil {
			c.String(http.StatusInternalServerError, "%s", err)
			return
		}
		c.Status(http.StatusCreated)
	})
	router.POST("/api/streams/:id/end", func(c *gin.Context) {
		if err := streams.EndStream(c, stream.ID); err != nil {
			c.String(http.StatusInternalServerError, "%s", err)
			return
		}
		c.Status(http.StatusAccepted)
	})
	post := func(path, traceparent, baggage string) {
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, path, nil)
		request.Header.Set("traceparent", traceparent)
		request.Header.Set("baggage", baggage)
		answer := httptest.NewRecorder()
		router.ServeHTTP(answer, request)
		require.Less(t, answer.Code, 300, answer.Body.String())
	}
	post("/api/streams", parentSampled, "user=ada@example.com")

	// The names of what belongs to the trace, outermost first.
	names := func(exporter *tracetest.InMemoryExporter) []string {
		var found []string
		for _, span := range exporter.GetSpans() {
			if span.SpanContext.TraceID().String() == parentTrace {
				found = append(found, span.Name)
			}
		}
		return found
	}
	require.Eventually(t, func() bool { return slices.Contains(names(steps), "streams.create") }, 30*time.Second, 10*time.Millisecond,
		"the SQL of the activity is in the trace: %v", names(steps))
	require.Contains(t, names(requests), "POST /api/streams")
	require.Contains(t, names(requests), "UpdateWithStartWorkflow:"+workflows.UpdateStartStream)

	// Each hangs below the one that caused it.
	byID := map[string]tracetest.SpanStub{}
	for _, exporter := range []*tracetest.InMemoryExporter{requests, steps} {
		for _, span := range exporter.GetSpans() {
			require.Equal(t, parentTrace, span.SpanContext.TraceID().String(), "%s: nothing is traced but the request", span.Name)
			byID[span.SpanContext.SpanID().String()] = span
			for _, attribute := range span.Attributes {
				require.NotContains(t, attribute.Value.String(), stream.Title, "%s: what a query carries stays out of traces", span.Name)
			}
		}
	}
	var path []string
	for _, span := range byID {
		if span.Name != "streams.create" {
			continue
		}
		for ok := true; ok; span, ok = byID[span.Parent.SpanID().String()] {
			path = append(path, span.Name)
		}
	}
	slices.Reverse(path)
	require.NotEmpty(t, path)
	require.Equal(t, "streams.create", path[len(path)-1])
	require.True(t, slices.ContainsFunc(path, func(name string) bool { return strings.HasPrefix(name, "RunActivity:") }), path)

	// A request that nobody records leaves the workflow's other spans where they are.
	before := len(names(requests))
	post("/api/streams/"+stream.ID.String()+"/end", parentUnsampled, "")
	require.Len(t, names(requests), before)

	// What the client sent along as baggage is not kept in a history.
	history := temporal.GetWorkflowHistory(ctx, workflows.StreamID(stream.ID), "", false, 1)
	for history.HasNext() {
		event, err := history.Next()
		require.NoError(t, err)
		require.NotContains(t, event.String(), "ada@example.com")
	}
}
