package httpapi

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

const (
	requestIDHeader = "X-Request-Id" // as net/http writes it: another form would be made that at each use
	requestIDKey    = "request_id"
	identityKey     = "identity"
)

// identifyRequest takes the client's request id, when it is one that a log can
// hold, or makes one.
func (s *Server) identifyRequest(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	printable := !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
	if id == "" || len(id) > 128 || !printable {
		id = newRequestID()
	}
	c.Set(requestIDKey, id)
	c.Writer.Header()[requestIDHeader] = []string{id}
}

// newRequestID makes an id by which lines are found. Nobody gains by guessing one,
// so that it need not come from the system's source of randomness, which is slow.
func newRequestID() string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, rand.Uint64()), rand.Uint64()))
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

func (m metrics) observe(c *gin.Context, route string, took time.Duration) {
	m.seconds.WithLabelValues(route, c.Request.Method, strconv.Itoa(c.Writer.Status())).Observe(took.Seconds())
}

// askedAllTheTime are addresses that no log or trace needs to know of.
var askedAllTheTime = map[string]bool{"/health": true, "/ready": true, "/metrics": true}

// observe traces a request, writes one line of it and counts it under its route,
// which bounds the number of series.
func (s *Server) observe(c *gin.Context) {
	began, route := time.Now(), c.FullPath()
	if route == "" {
		route = "none"
	}
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	if askedAllTheTime[route] {
		c.Next()
		s.metrics.observe(c, route, time.Since(began))
		return
	}
	ctx, span := s.spans.Begin(telemetry.WithTimings(c.Request.Context()), c.Request, route)
	c.Request = c.Request.WithContext(ctx)
	whole := false
	defer func() { s.observed(c, span, route, time.Since(began), whole) }()
	c.Next()
	whole = true
}

// observed is what is known of a request at its end. An answer that was broken off is
// a panic on its way to net/http.
func (s *Server) observed(c *gin.Context, span trace.Span, route string, took time.Duration, whole bool) {
	ctx, status := c.Request.Context(), c.Writer.Status()
	s.metrics.observe(c, route, took)
	s.spans.End(span, status)
	timings := telemetry.TimingsOf(ctx)
	fields := []zap.Field{
		zap.String("request_id", requestID(c)), zap.String("method", c.Request.Method), zap.String("route", route),
		zap.Int("status", status), zap.Int("bytes", max(c.Writer.Size(), 0)),
		milliseconds("response_time_ms", took), milliseconds("db_query_time_ms", timings.Database),
		milliseconds("external_api_time_ms", timings.External), milliseconds("redis_time_ms", timings.Redis),
		telemetry.TraceID(ctx),
	}
	if !whole {
		fields = append(fields, zap.Bool("broken_off", true))
	}
	if identity, ok := identityOf(c); ok {
		fields = append(fields, zap.Stringer("user_id", identity.UserID))
	}
	s.requests.Info("request", fields...)
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
	if c.Request.Body != http.NoBody {
		_ = control.SetReadDeadline(limit)
	}
	_ = control.SetWriteDeadline(limit.Add(requestTimeout))
	ctx, cancel := context.WithDeadline(c.Request.Context(), limit)
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
