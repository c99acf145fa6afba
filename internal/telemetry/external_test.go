package telemetry_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"

	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// results counts the calls, by "result service".
func results(t *testing.T, registry *prometheus.Registry) map[string]uint64 {
	t.Helper()
	counts := map[string]uint64{}
	for key, metric := range series(t, registry, "external_call_duration_seconds") {
		counts[key] = metric.GetHistogram().GetSampleCount()
	}
	return counts
}

func TestExternalCallsAreCountedByResult(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	external, err := telemetry.NewExternal(registry, noop.NewTracerProvider())
	require.NoError(t, err)
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/declined":
			w.WriteHeader(http.StatusPaymentRequired)
		case "/busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/broken":
			w.WriteHeader(http.StatusBadGateway)
		case "/hangs":
			close(asked)
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	http1 := &http.Client{Transport: external.Transport("stripe")(http.DefaultTransport.(*http.Transport).Clone())}
	get := func(ctx context.Context, address string) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		require.NoError(t, err)
		if response, err := http1.Do(request); err == nil {
			response.Body.Close()
		}
	}
	for _, path := range []string{"/", "/declined", "/busy", "/broken"} {
		get(t.Context(), server.URL+path)
	}
	hanging, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	get(hanging, server.URL+"/hangs")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	get(t.Context(), "http://"+closed.Addr().String())

	require.Equal(t, map[string]uint64{"ok stripe": 1, "refused stripe": 1, "failed stripe": 3, "canceled stripe": 1}, results(t, registry))
}

// A call is a span of the request's trace; what is behind does not hear of it,
// and a presigned or signed address does not change.
func TestExternalCallsOfATrace(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	provider := telemetry.NewTracerProviderWith(telemetry.TracingConfig{Role: "api", Ratio: 1}, sdktrace.WithSyncer(exporter))
	external, err := telemetry.NewExternal(prometheus.NewRegistry(), provider)
	require.NoError(t, err)
	headers := make(chan http.Header, 2)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	t.Cleanup(server.Close)
	transport := external.Transport("s3")(http.DefaultTransport.(*http.Transport).Clone())
	call := func(ctx context.Context) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL+"/bucket/key", nil)
		require.NoError(t, err)
		response, err := transport.RoundTrip(request)
		require.NoError(t, err)
		response.Body.Close()
		require.Empty(t, (<-headers).Get("traceparent"))
	}
	call(t.Context())
	require.Empty(t, exporter.GetSpans(), "outside a request nothing is traced")

	ctx, root := provider.Tracer("test").Start(t.Context(), "GET /", trace.WithSpanKind(trace.SpanKindServer))
	call(ctx)
	require.Eventually(t, func() bool { return len(exporter.GetSpans()) == 1 }, 10*time.Second, time.Millisecond)
	span := exporter.GetSpans()[0]
	require.Equal(t, "s3 PUT", span.Name)
	require.Equal(t, root.SpanContext().SpanID(), span.Parent.SpanID())
	root.End()
}

func TestTemporalCallsOfARequest(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	external, err := telemetry.NewExternal(registry, noop.NewTracerProvider())
	require.NoError(t, err)
	open := func(address, namespace string) client.Client {
		c, err := client.NewLazyClient(client.Options{
			HostPort: address, Namespace: namespace,
			ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{external.TemporalCalls()}},
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
	temporal := open(testenv.Load(t).TemporalAddress, testenv.Namespace(t))
	_, err = temporal.CheckHealth(testenv.Context(t), nil)
	require.NoError(t, err)
	require.Empty(t, results(t, registry), "outside a request nothing is counted")

	ctx := telemetry.WithTimings(testenv.Context(t))
	require.Error(t, temporal.SignalWorkflow(ctx, "payment/nobody", "", "stripe_event", nil))
	counts := results(t, registry)
	require.EqualValues(t, 1, counts["refused temporal"], "there is no such workflow, and Temporal is well")
	require.Zero(t, counts["failed temporal"])
	spent := telemetry.TimingsOf(ctx)
	require.Positive(t, spent.External)
	require.Zero(t, spent.Database)

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	require.Error(t, open(closed.Addr().String(), "default").SignalWorkflow(ctx, "payment/nobody", "", "stripe_event", nil))
	require.Positive(t, results(t, registry)["failed temporal"])
}
