package telemetry

import (
	"context"
	"fmt"
	"net/url"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// TracingConfig says where spans go.
type TracingConfig struct {
	// Role is the process's, "api" or "worker"; the service is "livestream-<role>".
	Role string
	// Endpoint is the address of a collector that takes OTLP over HTTP, as
	// "http://host:4318". Empty: nothing is recorded, but ids are made and passed
	// on, so that log lines of one request can be found by them.
	Endpoint string
	// Ratio is the part of the traces that begin here that is recorded, 0 to 1. A
	// trace that began elsewhere is recorded when the caller records it.
	Ratio float64
}

// NewTracerProvider makes the source of spans. Shutdown sends what is left.
func NewTracerProvider(ctx context.Context, config TracingConfig) (*sdktrace.TracerProvider, error) {
	if config.Role == "" {
		return nil, fmt.Errorf("tracing: a role is needed")
	}
	if !(config.Ratio >= 0 && config.Ratio <= 1) {
		return nil, fmt.Errorf("tracing: the ratio is %v, not between 0 and 1", config.Ratio)
	}
	if config.Endpoint == "" {
		return sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))), nil
	}
	endpoint, err := url.Parse(config.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" {
		return nil, fmt.Errorf("tracing: the endpoint is not an address as http://host:4318")
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.JoinPath("v1", "traces").String()))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return newTracerProvider(config, sdktrace.WithBatcher(exporter)), nil
}

func newTracerProvider(config TracingConfig, options ...sdktrace.TracerProviderOption) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(append(options,
		sdktrace.WithSampler(sdktrace.ParentBased(requests{sdktrace.TraceIDRatioBased(config.Ratio)})),
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName("livestream-"+config.Role))),
	)...)
}

// requests samples traces that begin with a request, and none that begin with a
// call of ours: what a process does by itself, such as the look at the replicas
// every second, would be most of all traces.
type requests struct{ sdktrace.Sampler }

func (s requests) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.Kind == trace.SpanKindClient {
		return sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	}
	return s.Sampler.ShouldSample(p)
}

func (s requests) Description() string { return "Requests{" + s.Sampler.Description() + "}" }

// Propagator reads and writes the header traceparent (W3C Trace Context).
func Propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

const (
	traceIDField = "trace_id"
	spanIDField  = "span_id"
)

// TraceID is the log field by which the lines of one trace are found; no field
// when ctx belongs to none.
func TraceID(ctx context.Context) zap.Field {
	span := trace.SpanContextFromContext(ctx)
	if !span.HasTraceID() {
		return zap.Skip()
	}
	return zap.Stringer(traceIDField, span.TraceID())
}
