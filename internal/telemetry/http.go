package telemetry

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
)

// Requests makes the spans of requests from clients.
type Requests struct{ tracer trace.Tracer }

// NewRequests makes spans of a provider.
func NewRequests(provider trace.TracerProvider) Requests {
	return Requests{provider.Tracer("livestream")}
}

// Begin begins a request's span, in the trace that the client names if it names
// one. route is the request's, without what identifies it.
//
// Few requests are recorded, so that what describes one is put together only then:
// otelgin does so for each of them, and for metrics that nobody collects, which was
// a sixth of the time of a cached read.
func (t Requests) Begin(ctx context.Context, r *http.Request, route string) (context.Context, trace.Span) {
	ctx = Propagator().Extract(ctx, propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() {
		span.SetAttributes(semconv.HTTPRequestMethodKey.String(r.Method), semconv.HTTPRoute(route))
		if !strings.Contains(route, ":grant") { // which opens all private archives of a member
			span.SetAttributes(semconv.URLPath(r.URL.Path))
		}
	}
	return ctx, span
}

// End ends a request's span. An answer that is the server's fault is an error.
func (Requests) End(span trace.Span, status int) {
	if span.IsRecording() {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
	}
	span.End()
}
