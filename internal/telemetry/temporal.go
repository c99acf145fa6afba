package telemetry

import (
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
)

// NewTemporalTracing is for the options of a Temporal client. Its workers take it
// over, so that one trace goes from a request through the workflow to activities,
// wherever they run. Nothing but the trace's id enters a history: what a client
// sends as baggage stays outside.
func NewTemporalTracing(provider trace.TracerProvider) (interceptor.ClientInterceptor, error) {
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer: provider.Tracer("temporal-sdk-go"), TextMapPropagator: Propagator(), DisableBaggage: true,
		// A header that somebody else wrote must not make a workflow fail.
		AllowInvalidParentSpans: true,
	})
	if err != nil {
		return nil, fmt.Errorf("trace temporal: %w", err)
	}
	return tracing, nil
}

// temporalLogger lets the Temporal SDK write into the process's log.
type temporalLogger struct{ sugar *zap.SugaredLogger }

// NewTemporalLogger adapts a logger for the Temporal SDK.
func NewTemporalLogger(logger *zap.Logger) log.Logger {
	return temporalLogger{logger.WithOptions(zap.AddCallerSkip(1)).Sugar()}
}

// With and WithCallerSkip keep the SDK from wrapping the logger, so that a line
// names the code that logged it and not the SDK's.
func (l temporalLogger) With(keyvals ...any) log.Logger {
	return temporalLogger{l.sugar.With(named(keyvals)...)}
}

func (l temporalLogger) WithCallerSkip(depth int) log.Logger {
	return temporalLogger{l.sugar.WithOptions(zap.AddCallerSkip(depth))}
}

func (l temporalLogger) Debug(msg string, keyvals ...any) { l.sugar.Debugw(msg, keyvals...) }
func (l temporalLogger) Info(msg string, keyvals ...any)  { l.sugar.Infow(msg, keyvals...) }
func (l temporalLogger) Warn(msg string, keyvals ...any)  { l.sugar.Warnw(msg, keyvals...) }
func (l temporalLogger) Error(msg string, keyvals ...any) { l.sugar.Errorw(msg, keyvals...) }

// named gives the tracing interceptor's fields the names that they have in all
// other lines.
func named(keyvals []any) []any {
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch keyvals[i] {
		case "TraceID":
			keyvals = slices.Clone(keyvals)
			keyvals[i] = traceIDField
		case "SpanID":
			keyvals = slices.Clone(keyvals)
			keyvals[i] = spanIDField
		}
	}
	return keyvals
}
