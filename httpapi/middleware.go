package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

const (
	requestIDHeader = "X-Request-ID"
	requestIDKey    = "request_id"
	identityKey     = "identity"
)

// identifyRequest takes the client's request id, when it is one that a log can
// hold, or makes one.
func (s *Server) identifyRequest(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	printable := !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
	if id == "" || len(id) > 128 || !printable {
		id = uuid.NewString()
	}
	c.Set(requestIDKey, id)
	c.Header(requestIDHeader, id)
}

func requestID(c *gin.Context) string { return c.GetString(requestIDKey) }

type metrics struct {
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics() metrics {
	return metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Time to answer, by route, method and status.",
			Buckets: []float64{.001, .0025, .005, .01, .02, .04, .06, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"route", "method", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "http_requests_in_flight", Help: "Requests that are being answered."}),
	}
}

func (m metrics) register(registry *prometheus.Registry) error {
	return errors.Join(registry.Register(m.seconds), registry.Register(m.inFlight))
}

// askedAllTheTime are addresses that no log or trace needs to know of.
var askedAllTheTime = map[string]bool{"/health": true, "/ready": true, "/metrics": true}

// observe writes one line a request and counts it under its route, which bounds
// the number of series.
func (s *Server) observe(c *gin.Context) {
	began := time.Now()
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	c.Request = c.Request.WithContext(telemetry.WithTimings(c.Request.Context()))
	timed := c.Request.Context()
	c.Next()
	took, route := time.Since(began), c.FullPath()
	if route == "" {
		route = "none"
	}
	status := c.Writer.Status()
	s.metrics.seconds.WithLabelValues(route, c.Request.Method, strconv.Itoa(status)).Observe(took.Seconds())
	if askedAllTheTime[route] {
		return
	}
	timings := telemetry.TimingsOf(timed)
	fields := []zap.Field{
		zap.String("request_id", requestID(c)), zap.String("method", c.Request.Method), zap.String("route", route),
		zap.Int("status", status), zap.Int("bytes", max(c.Writer.Size(), 0)),
		milliseconds("response_time_ms", took), milliseconds("db_query_time_ms", timings.Database),
		milliseconds("external_api_time_ms", timings.External), milliseconds("redis_time_ms", timings.Redis),
		telemetry.TraceID(timed),
	}
	if identity, ok := identityOf(c); ok {
		fields = append(fields, zap.Stringer("user_id", identity.UserID))
	}
	s.deps.Log.Info("request", fields...)
}

func milliseconds(name string, d time.Duration) zap.Field {
	return zap.Float64(name, float64(d.Microseconds())/1000)
}

// recover turns a panic into a problem.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(cause) // net/http's own way to drop a connection
		}
		s.deps.Log.Error("panic", zap.String("request_id", requestID(c)), zap.Any("cause", cause), zap.ByteString("stack", debug.Stack()))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
		s.fail(c, fmt.Errorf("panic: %v", cause))
	}()
	c.Next()
}

// limitTime bounds a request: what it waits for, and how slowly its client may send
// it or take its answer.
func (s *Server) limitTime(c *gin.Context) {
	limit := time.Now().Add(requestTimeout)
	control := http.NewResponseController(c.Writer)
	// A writer without deadlines is a test's.
	_ = control.SetReadDeadline(limit)
	_ = control.SetWriteDeadline(limit.Add(requestTimeout))
	ctx, cancel := context.WithTimeout(c.Request.Context(), requestTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// courtesyTimeout bounds what an answer can do without: counts, and telling others
// at once.
const courtesyTimeout = 250 * time.Millisecond

func briefly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, courtesyTimeout)
}

// authenticate finds out who asks. A bad token is refused on public reads too.
func (s *Server) authenticate(c *gin.Context) {
	operation := s.operations.of(c)
	header := c.GetHeader("Authorization")
	switch {
	case !operation.member:
	case header == "" && operation.public:
	default:
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			s.fail(c, livestream.Errorf(livestream.CodeUnauthorized, "an access token is needed: Authorization: Bearer …"))
			return
		}
		identity, err := s.deps.Tokens.Verify(token)
		if err != nil {
			s.fail(c, err)
			return
		}
		c.Set(identityKey, identity)
	}
}

// identityOf says who asks, when somebody with a token does.
func identityOf(ctx context.Context) (livestream.Identity, bool) {
	identity, ok := ctx.Value(identityKey).(livestream.Identity)
	return identity, ok
}

// memberOf is who asks, in an operation that needs a token.
func memberOf(ctx context.Context) livestream.Identity {
	identity, ok := identityOf(ctx)
	if !ok {
		panic("httpapi: the contract lets nobody in here without a token")
	}
	return identity
}
