package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// External sees the calls to other services: S3, Stripe and Temporal. Each adds
// to the Timings of the request that it belongs to, and is observed in
// external_call_duration_seconds by service and result.
type External struct {
	seconds  *prometheus.HistogramVec
	provider trace.TracerProvider
}

// NewExternal registers the calls' metric.
func NewExternal(registry prometheus.Registerer, provider trace.TracerProvider) (*External, error) {
	e := &External{provider: provider, seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "external_call_duration_seconds",
		Help:    "Time of a call to s3, stripe or temporal, by result: ok, refused (it says that we are at fault), failed (it is, or it is away), canceled (nobody waited for it any more).",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"service", "result"})}
	if err := registry.Register(e.seconds); err != nil {
		return nil, fmt.Errorf("register the external calls' metric: %w", err)
	}
	return e, nil
}

// Transport wraps the HTTP transport of the service's client. A call that belongs
// to a sampled trace is a span of it; the trace's id is not sent along, because
// what is behind is not ours.
func (e *External) Transport(service string) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return &externalTransport{service, e.seconds, otelhttp.NewTransport(next,
			otelhttp.WithTracerProvider(e.provider),
			otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
			otelhttp.WithFilter(func(r *http.Request) bool { return trace.SpanFromContext(r.Context()).IsRecording() }),
			otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return service + " " + r.Method }),
		)}
	}
}

type externalTransport struct {
	service string
	seconds *prometheus.HistogramVec
	next    http.RoundTripper
}

func (t *externalTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	began, watch := time.Now(), timingsOf(r.Context()).ofExternal()
	watch.start(began)
	response, err := t.next.RoundTrip(r)
	ended := time.Now()
	watch.stop(ended)
	t.seconds.WithLabelValues(t.service, httpResult(response, err)).Observe(ended.Sub(began).Seconds())
	return response, err
}

func httpResult(response *http.Response, err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case err != nil, response.StatusCode >= http.StatusInternalServerError, response.StatusCode == http.StatusTooManyRequests:
		return "failed"
	case response.StatusCode >= http.StatusBadRequest:
		return "refused"
	}
	return "ok"
}

// TemporalCalls is for the connection options of a Temporal client. It sees only
// calls on behalf of a request, with the SDK's retries: a worker's polls wait for
// work, and their time says nothing.
func (e *External) TemporalCalls() grpc.DialOption {
	return grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		timings := timingsOf(ctx)
		if timings == nil {
			return invoke(ctx, method, in, out, cc, options...)
		}
		began, watch := time.Now(), timings.ofExternal()
		watch.start(began)
		err := invoke(ctx, method, in, out, cc, options...)
		ended := time.Now()
		watch.stop(ended)
		e.seconds.WithLabelValues("temporal", temporalResult(err)).Observe(ended.Sub(began).Seconds())
		return err
	})
}

func temporalResult(err error) string {
	switch serviceerror.ToStatus(err).Code() {
	case codes.OK:
		return "ok"
	case codes.Canceled:
		return "canceled"
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.Unknown, codes.DataLoss:
		return "failed"
	}
	return "refused"
}
