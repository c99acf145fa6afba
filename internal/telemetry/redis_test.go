package telemetry_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

func openRedis(t *testing.T, provider trace.TracerProvider) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(testenv.Redis(t))
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	require.NoError(t, telemetry.InstrumentRedis(client, provider))
	return client
}

func TestRedisTimeOfARequest(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	provider := telemetry.NewTracerProviderWith(telemetry.TracingConfig{Role: "api", Ratio: 1}, sdktrace.WithSyncer(exporter))
	client := openRedis(t, provider)
	ctx := telemetry.WithTimings(testenv.Context(t))
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())
	require.Empty(t, exporter.GetSpans(), "outside a request nothing is traced")
	spent := telemetry.TimingsOf(ctx)
	require.Positive(t, spent.Redis)
	require.Zero(t, spent.Database)
	require.Zero(t, spent.External)

	ctx, root := provider.Tracer("test").Start(ctx, "GET /", trace.WithSpanKind(trace.SpanKindServer))
	pipe := client.TxPipeline()
	pipe.Set(ctx, "ticket:s3cret", "s3cret", 0)
	pipe.Get(ctx, "ticket:s3cret")
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	require.Error(t, client.Do(ctx, "NOSUCHCOMMAND").Err())
	require.ErrorIs(t, client.Get(ctx, "missing").Err(), redis.Nil)
	root.End()
	require.Greater(t, telemetry.TimingsOf(ctx).Redis, spent.Redis)

	names := map[string]tracetest.SpanStub{}
	for _, span := range exporter.GetSpans() {
		require.Equal(t, root.SpanContext().TraceID(), span.SpanContext.TraceID(), span.Name)
		for _, attribute := range span.Attributes {
			require.NotContains(t, attribute.Value.String(), "s3cret", "%s %s: what a command carries stays out", span.Name, attribute.Key)
		}
		names[strings.Fields(span.Name)[0]] = span
	}
	require.Contains(t, names, "redis.pipeline")
	require.NotEmpty(t, names["nosuchcommand"].Events, "what went wrong is in its span")
	require.Contains(t, names, "get")
	require.Empty(t, names["get"].Events, "a key that is not there is no error")
}

func TestRedisPools(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	client := openRedis(t, sdktrace.NewTracerProvider())
	require.NoError(t, registry.Register(telemetry.NewRedisCollector(func() map[string]*redis.PoolStats {
		return map[string]*redis.PoolStats{"commands": client.PoolStats()}
	})))
	ctx := testenv.Context(t)
	require.NoError(t, client.Ping(ctx).Err())
	require.NoError(t, client.Ping(ctx).Err())

	connections := series(t, registry, "redis_pool_connections")
	require.EqualValues(t, 1, connections["commands idle"].GetGauge().GetValue())
	require.EqualValues(t, 0, connections["commands in_use"].GetGauge().GetValue())
	got := series(t, registry, "redis_pool_acquires_total")
	require.EqualValues(t, 1, got["commands miss"].GetCounter().GetValue(), "the first had to be made")
	require.EqualValues(t, 1, got["commands hit"].GetCounter().GetValue())
	require.NotNil(t, series(t, registry, "redis_pool_timeouts_total")["commands"])
}
