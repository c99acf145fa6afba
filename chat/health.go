package chat

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// health is what a load balancer asks: whether new connections may come here.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		refuse(w, r, http.StatusServiceUnavailable, livestream.CodeUnavailable, "this node is draining")
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

// checkTimeout bounds each question that /ready asks.
const checkTimeout = 2 * time.Second

// ready says how what the node works with is.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	type check struct {
		Status    string  `json:"status"`
		LatencyMS float64 `json:"latency_ms"`
	}
	var (
		mu     sync.Mutex
		asking sync.WaitGroup
	)
	status, code, checks := "ok", http.StatusOK, map[string]check{}
	for name, ask := range s.deps.Checks {
		asking.Go(func() {
			began := time.Now()
			err := ask(ctx)
			c := check{Status: "ok", LatencyMS: float64(time.Since(began).Microseconds()) / 1000}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.deps.Log.Warn("not ready", zap.String("check", name), zap.Error(err))
				c.Status = "down"
				switch {
				case name == "redis":
					status, code = "down", http.StatusServiceUnavailable
				case status == "ok":
					status = "degraded"
				}
			}
			checks[name] = c
		})
	}
	asking.Wait()
	answer(w, code, map[string]any{"status": status, "checks": checks})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
