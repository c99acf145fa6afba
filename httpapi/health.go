package httpapi

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

func (s *Server) GetHealth(context.Context, GetHealthRequestObject) (GetHealthResponseObject, error) {
	if s.draining.Load() {
		return nil, livestream.Errorf(livestream.CodeUnavailable, "this process is draining")
	}
	return GetHealth200JSONResponse{Status: HealthStatusOk}, nil
}

// readyLifetime is how long an answer of /ready serves all who ask: each asks every
// dependency.
const readyLifetime = time.Second

// readiness is the last answer.
type readiness struct {
	mu    sync.Mutex
	ready Ready
	at    time.Time
}

// checkTimeout bounds each question that /ready asks.
const checkTimeout = 2 * time.Second

func (s *Server) GetReady(ctx context.Context, _ GetReadyRequestObject) (GetReadyResponseObject, error) {
	s.ready.mu.Lock()
	defer s.ready.mu.Unlock()
	if time.Since(s.ready.at) > readyLifetime {
		s.ready.ready, s.ready.at = s.check(context.WithoutCancel(ctx)), time.Now()
	}
	if s.ready.ready.Status == ReadyStatusDown {
		return GetReady503JSONResponse(s.ready.ready), nil
	}
	return GetReady200JSONResponse(s.ready.ready), nil
}

// check asks all dependencies at once.
func (s *Server) check(ctx context.Context) Ready {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	type check = struct {
		LatencyMs float64           `json:"latency_ms"`
		Status    ReadyChecksStatus `json:"status"`
	}
	out := Ready{Status: ReadyStatusOk, Checks: map[string]check{}}
	var (
		mu     sync.Mutex
		asking sync.WaitGroup
	)
	for name, ask := range s.deps.Checks {
		asking.Add(1)
		go func() {
			defer asking.Done()
			began := time.Now()
			err := ask(ctx)
			answer := check{LatencyMs: float64(time.Since(began).Microseconds()) / 1000, Status: ReadyChecksStatusOk}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.deps.Log.Warn("not ready", zap.String("check", name), zap.Error(err))
				answer.Status = ReadyChecksStatusDown
				switch {
				case name == "postgres":
					out.Status = ReadyStatusDown
				case out.Status == ReadyStatusOk:
					out.Status = ReadyStatusDegraded
				}
			}
			out.Checks[name] = answer
		}()
	}
	asking.Wait()
	return out
}
