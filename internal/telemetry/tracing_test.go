package telemetry_test

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

const (
	parentSampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	parentUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	parentTrace     = "4bf92f3577b34da6a3ce929d0e0e4736"
)

func from(ctx context.Context, traceparent string) context.Context {
	return telemetry.Propagator().Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

func TestSpansReachTheCollector(t *testing.T) {
	t.Parallel()
	received := make(chan *collector.ExportTraceServiceRequest, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			body = unzipped
		}
		content, err := io.ReadAll(body)
		spans := &collector.ExportTraceServiceRequest{}
		if err != nil || r.URL.Path != "/otlp/v1/traces" || proto.Unmarshal(content, spans) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		received <- spans
	}))
	t.Cleanup(server.Close)
	provider, err := telemetry.NewTracerProvider(t.Context(), telemetry.TracingConfig{Role: "worker", Endpoint: server.URL + "/otlp", Ratio: 1})
	require.NoError(t, err)
	_, span := provider.Tracer("test").Start(t.Context(), "RunWorkflow:Stream", trace.WithSpanKind(trace.SpanKindServer))
	span.End()
	require.NoError(t, provider.Shutdown(t.Context()), "what is left is sent at the end")

	request := <-received
	require.Len(t, request.GetResourceSpans(), 1)
	resource := request.GetResourceSpans()[0]
	names := map[string]string{}
	for _, attribute := range resource.GetResource().GetAttributes() {
		names[attribute.GetKey()] = attribute.GetValue().GetStringValue()
	}
	require.Equal(t, "livestream-worker", names["service.name"])
	sent := resource.GetScopeSpans()[0].GetSpans()[0]
	require.Equal(t, "RunWorkflow:Stream", sent.GetName())
	require.Equal(t, span.SpanContext().TraceID().String(), hex.EncodeToString(sent.GetTraceId()))
}

// A collector that takes spans and never answers holds up no request, and a
// process that ends waits no longer than it wants to.
func TestACollectorThatHangs(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	provider, err := telemetry.NewTracerProvider(t.Context(), telemetry.TracingConfig{Role: "api", Endpoint: server.URL, Ratio: 1})
	require.NoError(t, err)
	for range 5000 { // more than are kept
		_, span := provider.Tracer("test").Start(t.Context(), "GET /", trace.WithSpanKind(trace.SpanKindServer))
		span.End()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, provider.Shutdown(ctx), context.DeadlineExceeded)
}

// Without a collector nothing is recorded, and ids are passed on all the same.
func TestWithoutACollector(t *testing.T) {
	t.Parallel()
	provider, err := telemetry.NewTracerProvider(t.Context(), telemetry.TracingConfig{Role: "api", Ratio: 1})
	require.NoError(t, err)
	ctx, span := provider.Tracer("test").Start(t.Context(), "GET /", trace.WithSpanKind(trace.SpanKindServer))
	require.False(t, span.IsRecording())
	require.True(t, span.SpanContext().IsValid())
	header := propagation.MapCarrier{}
	telemetry.Propagator().Inject(ctx, header)
	require.Contains(t, header["traceparent"], span.SpanContext().TraceID().String())

	for _, parent := range []string{parentSampled, parentUnsampled} {
		ctx, _ = provider.Tracer("test").Start(from(t.Context(), parent), "GET /", trace.WithSpanKind(trace.SpanKindServer))
		telemetry.Propagator().Inject(ctx, header)
		require.Contains(t, header["traceparent"], parentTrace)
		require.Equal(t, parent[len(parent)-2:], header["traceparent"][len(parent)-2:], "whether the caller records stays as it is")
	}
	require.NoError(t, provider.Shutdown(t.Context()))
}

func TestWhatIsSampled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ratio    float64
		parent   string
		kind     trace.SpanKind
		recorded int // of 100
	}{
		"every request":                         {1, "", trace.SpanKindServer, 100},
		"no request":                            {0, "", trace.SpanKindServer, 0},
		"a caller that records":                 {0, parentSampled, trace.SpanKindServer, 100},
		"a caller that does not":                {1, parentUnsampled, trace.SpanKindServer, 0},
		"a query that no request asked":         {1, "", trace.SpanKindClient, 0},
		"a query of a request that is recorded": {0, parentSampled, trace.SpanKindClient, 100},
	} {
		exporter := tracetest.NewInMemoryExporter()
		provider := telemetry.NewTracerProviderWith(telemetry.TracingConfig{Role: "api", Ratio: c.ratio}, sdktrace.WithSyncer(exporter))
		for range 100 {
			ctx := t.Context()
			if c.parent != "" {
				ctx = from(ctx, c.parent)
			}
			_, span := provider.Tracer("test").Start(ctx, "s", trace.WithSpanKind(c.kind))
			require.True(t, span.SpanContext().IsValid(), name)
			span.End()
		}
		require.Len(t, exporter.GetSpans(), c.recorded, name)
	}
}

func TestSpansOfRequests(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	requests := telemetry.NewRequests(telemetry.NewTracerProviderWith(telemetry.TracingConfig{Role: "api", Ratio: 0}, sdktrace.WithSyncer(exporter)))
	answer := func(traceparent string, status int) trace.SpanContext {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/users/7?token=hunter2", nil)
		r.Header.Set("traceparent", traceparent)
		ctx, span := requests.Begin(r.Context(), r, "/api/users/:id")
		requests.End(span, status)
		return trace.SpanContextFromContext(ctx)
	}
	for _, traceparent := range []string{"", parentUnsampled, "00-nonsense"} {
		require.True(t, answer(traceparent, http.StatusOK).IsValid(), "its lines can be found all the same")
	}
	require.Empty(t, exporter.GetSpans(), "nobody records them")

	for status, want := range map[int]codes.Code{http.StatusOK: codes.Unset, http.StatusNotFound: codes.Unset, http.StatusServiceUnavailable: codes.Error} {
		exporter.Reset()
		require.Equal(t, parentTrace, answer(parentSampled, status).TraceID().String())
		require.Len(t, exporter.GetSpans(), 1)
		span := exporter.GetSpans()[0]
		require.Equal(t, "GET /api/users/:id", span.Name)
		require.Equal(t, trace.SpanKindServer, span.SpanKind)
		require.Equal(t, want, span.Status.Code, "%d", status)
		found := map[string]string{}
		for _, attribute := range span.Attributes {
			found[string(attribute.Key)] = attribute.Value.String()
		}
		require.Equal(t, map[string]string{
			"http.request.method": "GET", "http.route": "/api/users/:id", "url.path": "/api/users/7", "http.response.status_code": strconv.Itoa(status),
		}, found)
	}
}

func TestTracingConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]telemetry.TracingConfig{
		"no role":           {Ratio: 1},
		"ratio too large":   {Role: "api", Ratio: 1.1},
		"ratio negative":    {Role: "api", Ratio: -0.1},
		"no address":        {Role: "api", Endpoint: "collector"},
		"no scheme":         {Role: "api", Endpoint: "collector:4318"},
		"another scheme":    {Role: "api", Endpoint: "grpc://collector:4317"},
		"address and text":  {Role: "api", Endpoint: "http://collector:4318\n"},
		"a secret is in it": {Role: "api", Endpoint: "http://user:hunter2@ collector"},
	} {
		_, err := telemetry.NewTracerProvider(t.Context(), c)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "hunter2", name)
	}
}

func TestLogLinesCarryTheTrace(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	logger := zap.New(core)
	logger.Info("request", telemetry.TraceID(from(t.Context(), parentSampled)))
	logger.Info("by itself", telemetry.TraceID(t.Context()))
	require.Equal(t, map[string]any{"trace_id": parentTrace}, logs.All()[0].ContextMap())
	require.Empty(t, logs.All()[1].ContextMap())

	// So do those of workflows and activities, under the same name.
	span := trace.SpanContextFromContext(from(t.Context(), parentSampled))
	log.With(telemetry.NewTemporalLogger(logger), "TraceID", span.TraceID(), "SpanID", span.SpanID(), "Attempt", 1).Warn("again")
	require.Equal(t, map[string]any{"trace_id": parentTrace, "span_id": "00f067aa0ba902b7", "Attempt": int64(1)}, logs.All()[2].ContextMap())
}
