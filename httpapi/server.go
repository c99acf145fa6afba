package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// Config says how clients reach the product.
type Config struct {
	// PublicURL is the API's address as clients see it, without a slash at its end.
	PublicURL string
	// ChatURLs are the chat nodes' addresses as clients see them, ws:// or wss://.
	// Behind a load balancer there is one.
	ChatURLs []string
	// MediaURL is where players find /media: a CDN's address whose origin is the API,
	// without a slash at its end. Empty: the API's own.
	MediaURL string
	// MaxMedia is how many files are sent at once; others are told to come back.
	// Zero is 500.
	MaxMedia int
	// MaxMediaPerAddress is how many of them go to one address; zero is 50. It is
	// MaxMedia where a CDN is the address.
	MaxMediaPerAddress int
	// AllowedOrigins are the web pages that may read answers, as "https://host".
	AllowedOrigins []string
	// TrustedProxies are the addresses or networks whose X-Forwarded-For is
	// believed; none by default.
	TrustedProxies []string
	Limits         Limits
	// PushKey is the public key that browsers subscribe with; none can when it is empty.
	PushKey string
	// PushAnywhere lets browsers give endpoints that are not on the internet, at any port: for tests and
	// development.
	PushAnywhere bool
	// TipRanges narrow what a tip may be, by currency.
	TipRanges map[string]livestream.AmountRange
}

// Deps are what the handlers work with.
type Deps struct {
	Tokens            Tokens
	Passwords         Passwords
	Sessions          Sessions
	Logouts           Logouts
	Users             Users
	Follows           Follows
	Streams           Streams
	StreamRows        StreamRows
	Viewers           Viewers
	Chats             Chats
	ChatEvents        ChatEvents
	Moderators        ModeratorNews
	Recordings        Recordings
	Uploads           Uploads
	Archives          Archives
	Media             Media
	Views             Views
	MediaCookies      MediaCookies // nil where no CDN wants cookies
	Notifications     Notifications
	Push              NotificationPublisher
	PushSubscriptions PushSubscriptions
	Browsers          Browsers
	Transactions      Transactions
	StripeEvents      StripeEvents
	Webhooks          Webhooks
	Idempotency       IdempotencyKeys
	Tickets           Tickets
	Workflows         Workflows
	Database          Database
	LastWrites        LastWrites
	RateLimiter       RateLimiter
	// Checks are what /ready asks, by name. Without "postgres" the API is down;
	// without one of the others it is degraded.
	Checks   map[string]func(context.Context) error
	Log      *zap.Logger
	Registry *prometheus.Registry
	Traces   trace.TracerProvider
	Now      func() time.Time
}

// Workflows starts and steers what must outlive this process.
type Workflows interface {
	StartStream(ctx context.Context, stream livestream.NewStream) error
	EndStream(ctx context.Context, streamID uuid.UUID) error
	CompleteRecording(ctx context.Context, upload livestream.Upload) (uuid.UUID, error)
	DeleteArchive(ctx context.Context, archive livestream.Archive) error
	RestoreArchive(ctx context.Context, id uuid.UUID, asker *uuid.UUID) error
	SubmitPayment(ctx context.Context, transaction livestream.NewTransaction) error
	SubmitRefund(ctx context.Context, refund livestream.NewRefund) error
	DeliverStripeEvent(ctx context.Context, event livestream.StripeEvent) error
}

// Server is the REST API.
type Server struct {
	config     Config
	deps       Deps
	router     *gin.Engine
	operations operations
	metrics    metrics
	spans      telemetry.Requests
	requests   *zap.Logger // one line each
	draining   atomic.Bool
	ready      readiness
	sending    *transfers
}

var _ StrictServerInterface = (*Server)(nil)

// requestTimeout bounds what a request waits for. The longest is a payment, which
// waits for Stripe.
const requestTimeout = 10 * time.Second

// New makes the API. It is an http.Handler; Drain makes /health say 503.
func New(config Config, deps Deps) (*Server, error) {
	if config.PublicURL == "" || len(config.ChatURLs) == 0 {
		return nil, errors.New("httpapi: PublicURL and ChatURLs are needed")
	}
	config.PublicURL = strings.TrimRight(config.PublicURL, "/")
	if config.MediaURL = strings.TrimRight(config.MediaURL, "/"); config.MediaURL == "" {
		config.MediaURL = config.PublicURL
	}
	if config.MaxMedia == 0 {
		config.MaxMedia = 500
	}
	if config.MaxMediaPerAddress == 0 {
		config.MaxMediaPerAddress = 50
	}
	if config.MediaURL != config.PublicURL {
		config.MaxMediaPerAddress = config.MaxMedia
	}
	config.Limits = config.Limits.withDefaults()
	contract, err := LoadContract()
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: config, deps: deps, metrics: newMetrics(), sending: newTransfers(config.MaxMedia, config.MaxMediaPerAddress),
		spans: telemetry.NewRequests(deps.Traces), requests: deps.Log.WithOptions(zap.WithCaller(false)),
	}
	s.operations = s.newOperations(contract)
	if err := s.metrics.register(deps.Registry); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	gin.SetMode(gin.ReleaseMode)
	s.router = gin.New()
	s.router.ContextWithFallback = true // handlers see the request's deadline
	s.router.HandleMethodNotAllowed = true
	s.router.RedirectTrailingSlash = false // an address has one form
	if err := s.router.SetTrustedProxies(config.TrustedProxies); err != nil {
		return nil, fmt.Errorf("httpapi: trusted proxies: %w", err)
	}
	s.router.Use(s.identifyRequest, s.observe, s.recover, s.protect, s.allowOrigin)
	s.router.NoRoute(func(c *gin.Context) {
		s.fail(c, livestream.Errorf(livestream.CodeNotFound, "there is nothing at this address"))
	})
	s.router.NoMethod(func(c *gin.Context) {
		s.fail(c, livestream.Errorf(livestream.CodeMethodNotAllowed, "this address does not take %s", c.Request.Method))
	})
	documents(s.router)
	s.router.GET("/metrics", gin.WrapH(promhttp.HandlerFor(deps.Registry, promhttp.HandlerOpts{})))
	for _, path := range []string{"/media/archives/:id/*file", privateMedia + ":grant/archives/:id/*file"} {
		s.router.Match([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, path, s.serveMedia)
	}
	api := s.router.Group("", noStore, s.limitTime, s.authenticate, s.limitRate, s.chooseSource, s.validate)
	handlers := NewStrictHandlerWithOptions(s, []StrictMiddlewareFunc{s.noteWrite}, StrictGinServerOptions{
		RequestErrorHandlerFunc:  func(c *gin.Context, err error) { s.fail(c, invalid(err)) },
		HandlerErrorFunc:         s.fail,
		ResponseErrorHandlerFunc: s.fail,
	})
	RegisterHandlersWithOptions(api, handlers, GinServerOptions{
		ErrorHandler: func(c *gin.Context, err error, _ int) { s.fail(c, invalid(err)) },
	})
	return s, nil
}

// ServeHTTP answers a request. A HEAD is a GET whose body net/http keeps back; media
// files, which may be large, have their own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead && !strings.HasPrefix(r.URL.Path, "/media/") {
		r = r.WithContext(r.Context()) // w knows r as what it is
		r.Method = http.MethodGet
	}
	s.router.ServeHTTP(w, r)
}

// Drain tells load balancers to look elsewhere; requests are still served.
func (s *Server) Drain() { s.draining.Store(true) }
