package telemetry

import (
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
)

// temporalLogger lets the Temporal SDK write into the process's log.
type temporalLogger struct{ sugar *zap.SugaredLogger }

// NewTemporalLogger adapts a logger for the Temporal SDK.
func NewTemporalLogger(logger *zap.Logger) log.Logger {
	return temporalLogger{logger.WithOptions(zap.AddCallerSkip(1)).Sugar()}
}

// With and WithCallerSkip keep the SDK from wrapping the logger, so that a line
// names the code that logged it and not the SDK's.
func (l temporalLogger) With(keyvals ...any) log.Logger {
	return temporalLogger{l.sugar.With(keyvals...)}
}

func (l temporalLogger) WithCallerSkip(depth int) log.Logger {
	return temporalLogger{l.sugar.WithOptions(zap.AddCallerSkip(depth))}
}

func (l temporalLogger) Debug(msg string, keyvals ...any) { l.sugar.Debugw(msg, keyvals...) }
func (l temporalLogger) Info(msg string, keyvals ...any)  { l.sugar.Infow(msg, keyvals...) }
func (l temporalLogger) Warn(msg string, keyvals ...any)  { l.sugar.Warnw(msg, keyvals...) }
func (l temporalLogger) Error(msg string, keyvals ...any) { l.sugar.Errorw(msg, keyvals...) }
