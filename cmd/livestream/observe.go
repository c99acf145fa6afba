package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// observed is what a role logs, counts and traces with. What it opens for the
// role is measured.
type observed struct {
	log      *zap.Logger
	registry *prometheus.Registry
	traces   trace.TracerProvider
	external *telemetry.External
	close    func()
}

// flushTimeout is how long a role that ends may take to send its last spans.
const flushTimeout = 5 * time.Second

// observe makes a role's log and metrics, and its traces when tracing is not nil.
func observe(ctx context.Context, role string, level config.Log, tracing *config.Tracing) (*observed, error) {
	log, err := telemetry.NewLogger(level.Level, role)
	if err != nil {
		return nil, err
	}
	o := &observed{log: log, registry: telemetry.NewRegistry(), traces: noop.NewTracerProvider(), close: func() {}}
	if tracing != nil {
		provider, err := telemetry.NewTracerProvider(ctx, telemetry.TracingConfig{Role: role, Endpoint: tracing.Collector, Ratio: tracing.Ratio})
		if err != nil {
			return nil, err
		}
		// A collector that is away is a line of the log, which is JSON.
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", zap.Error(err)) }))
		o.traces = provider
		o.close = func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			if err := provider.Shutdown(ctx); err != nil {
				log.Warn("send the last spans", zap.Error(err))
			}
		}
	}
	if o.external, err = telemetry.NewExternal(o.registry, o.traces); err != nil {
		return nil, err
	}
	return o, nil
}
