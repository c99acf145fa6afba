// Package webpush tells browsers of notifications, by the services that their makers
// run: encrypted (RFC 8291), signed (RFC 8292), over connections that lead nowhere
// inside. It knows neither subscriptions' storage nor workflows.
package webpush

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/SherClockHolmes/webpush-go"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Config says how browsers are told.
type Config struct {
	Keys Keys
	// Contact is whom the services write to when something is wrong: "mailto:" and an
	// address, or an https address. Some take nothing without.
	Contact string
	// PerSecond is how many messages this process sends in a second. Zero is 200.
	PerSecond int
	// Timeout is what a message may take, connecting included. Zero is 5 s.
	Timeout time.Duration
	// AllowLoopback has messages sent to this machine too, and to any port: for tests and
	// development.
	AllowLoopback bool
	// Roots are who may have signed the services' certificates; nil for the system's.
	Roots    *x509.CertPool
	Registry prometheus.Registerer
}

// Sender sends messages. It remembers which services have asked to be left alone for a
// while, or fail, and leaves them alone.
type Sender struct {
	config  Config
	client  *http.Client
	limiter *rate.Limiter
	results *prometheus.CounterVec
	seconds prometheus.Histogram

	mu    sync.Mutex
	rests map[string]rest // by host
}

// rest is how long a host is left alone.
type rest struct {
	until    time.Time
	failures int // in a row, of which it did not say how long it wants to be left alone
}

// recordSize is the length that each message is brought to, so that it says nothing of
// what is in it. The longest notification fits.
const recordSize = 2048

// A service that fails without saying for how long is left alone for firstRest, and for
// twice as long with each further failure; none for longer than maxRest, whatever it
// asks for.
const (
	firstRest = time.Second
	maxRest   = 2 * time.Minute
)

// New makes a sender.
func New(config Config) (*Sender, error) {
	contact, err := url.Parse(config.Contact)
	if err != nil || contact.Scheme != "https" && (contact.Scheme != "mailto" || !strings.Contains(contact.Opaque, "@")) {
		return nil, fmt.Errorf("the contact of the pushes is %q: it is mailto:somebody@example.com or an https address", config.Contact)
	}
	if config.PerSecond == 0 {
		config.PerSecond = 200
	}
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second
	}
	s := &Sender{
		config: config,
		client: &http.Client{
			Timeout: config.Timeout,
			// No proxy of the environment: it would dial whatever it is asked to.
			Transport: &http.Transport{
				DialContext: dialer(config.AllowLoopback), ForceAttemptHTTP2: true,
				TLSClientConfig:     &tls.Config{RootCAs: config.Roots, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout: 3 * time.Second, MaxResponseHeaderBytes: 16 << 10,
				MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		limiter: rate.NewLimiter(rate.Limit(config.PerSecond), max(1, config.PerSecond/10)),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "web_pushes_total",
			Help: "Attempts to tell a browser, by result: sent, dead (it is subscribed no longer), expired (too late to be of use), later (its service is busy or away), failed (it would be refused again).",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "web_push_duration_seconds",
			Help:    "Time that the services of browsers take for a message.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		rests: map[string]rest{},
	}
	for _, collector := range []prometheus.Collector{s.results, s.seconds} {
		if err := config.Registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register the pushes' metrics: %w", err)
		}
	}
	return s, nil
}

// delivery is how a service should treat a kind of notification: how long it keeps it
// for a browser that is off, counted from what is told of, and whether it wakes a
// device that saves its battery.
type delivery struct {
	keep    time.Duration
	urgency webpush.Urgency
}

var deliveries = map[livestream.NotificationType]delivery{
	livestream.NotifyStreamLive:   {time.Hour, webpush.UrgencyHigh},
	livestream.NotifyTipReceived:  {24 * time.Hour, webpush.UrgencyNormal},
	livestream.NotifyNewFollower:  {24 * time.Hour, webpush.UrgencyLow},
	livestream.NotifyArchiveReady: {24 * time.Hour, webpush.UrgencyLow},
}

// message is what a page's service worker gets: a notification as in the inbox.
type message struct {
	ID        uuid.UUID                   `json:"id"`
	Type      livestream.NotificationType `json:"type"`
	CreatedAt time.Time                   `json:"created_at"`
	Data      json.RawMessage             `json:"data"`
}

// Send tells one browser. With PushLater goes how long to wait before trying again; an
// error says why it was not sent, for the log alone.
func (s *Sender) Send(ctx context.Context, push livestream.DuePush) (livestream.PushResult, time.Duration, error) {
	result, wait, err := s.send(ctx, push)
	s.results.WithLabelValues(string(result)).Inc()
	return result, wait, err
}

func (s *Sender) send(ctx context.Context, push livestream.DuePush) (livestream.PushResult, time.Duration, error) {
	subscription, n := push.Subscription, push.Notification
	private, known := s.config.Keys.private[subscription.ServerKey]
	if !known {
		return livestream.PushFailed, 0, errors.New("it subscribed with a key that is not ours any more")
	}
	how := deliveries[n.Type]
	left := time.Until(n.CreatedAt.Add(how.keep))
	if left <= 0 {
		return livestream.PushExpired, 0, nil
	}
	address, err := url.Parse(subscription.Endpoint)
	if err != nil || address.Scheme != "https" {
		return livestream.PushFailed, 0, errors.New("its endpoint is no https address")
	}
	if left := s.resting(address.Host); left > 0 {
		return livestream.PushLater, left, nil
	}
	content, err := json.Marshal(message{n.ID, n.Type, n.CreatedAt, n.Data})
	if err != nil {
		return livestream.PushFailed, 0, err
	}
	if err := s.limiter.Wait(ctx); err != nil {
		return livestream.PushLater, 0, err
	}
	began := time.Now()
	response, err := webpush.SendNotificationWithContext(ctx, content, &webpush.Subscription{
		Endpoint: subscription.Endpoint,
		Keys:     webpush.Keys{P256dh: base64.RawURLEncoding.EncodeToString(subscription.Key), Auth: base64.RawURLEncoding.EncodeToString(subscription.Secret)},
	}, &webpush.Options{
		HTTPClient: s.client, RecordSize: recordSize, Subscriber: strings.TrimPrefix(s.config.Contact, "mailto:"),
		// A message that waits at the service is replaced by a second one of the same.
		Topic: base64.RawURLEncoding.EncodeToString(n.ID[:]), TTL: int(left.Seconds()), Urgency: how.urgency,
		VAPIDPublicKey: subscription.ServerKey, VAPIDPrivateKey: private,
	})
	s.seconds.Observe(time.Since(began).Seconds())
	if err != nil {
		result, err := classify(err)
		if result != livestream.PushLater || ctx.Err() != nil { // who goes away says nothing of the service
			return result, 0, err
		}
		return result, s.leave(address.Host, 0), err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // the connection is used again
	status := response.StatusCode
	if status == http.StatusTooManyRequests || status >= 500 {
		return livestream.PushLater, s.leave(address.Host, retryAfter(response.Header.Get("Retry-After"))), fmt.Errorf("%s answered %d", address.Hostname(), status)
	}
	s.works(address.Host)
	switch {
	case status >= 200 && status < 300:
		return livestream.PushSent, 0, nil
	case status == http.StatusNotFound || status == http.StatusGone:
		return livestream.PushDead, 0, nil
	default: // a redirect is one too
		return livestream.PushFailed, 0, fmt.Errorf("%s answered %d", address.Hostname(), status)
	}
}

// classify says what became of a message that got no answer. What cannot be encrypted
// or must not be dialled stays so; services may be away for a while.
func classify(err error) (livestream.PushResult, error) {
	var unanswered *url.Error
	if !errors.As(err, &unanswered) {
		return livestream.PushFailed, err
	}
	if refused(err) {
		return livestream.PushFailed, errors.New("its endpoint leads to no address of the internet at port 443")
	}
	// The endpoint is in the error, and is a secret of the browser's.
	return livestream.PushLater, unanswered.Err
}

// resting is how long a host is to be left alone still.
func (s *Sender) resting(host string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.rests[host].until)
}

// leave leaves a host alone for the time that it asks for, or as long as is good for one
// that fails and says nothing, and gives how long that is. Those that have rested are
// forgotten now and then.
func (s *Sender) leave(host string, asked time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, r := time.Now(), s.rests[host]
	switch {
	case asked > 0:
	case now.Before(r.until): // what fails at the same time is one failure
		return r.until.Sub(now)
	default:
		asked = min(firstRest<<min(r.failures, 10), maxRest)
		r.failures++
	}
	if len(s.rests) >= 1000 {
		maps.DeleteFunc(s.rests, func(_ string, r rest) bool { return r.until.Before(now) })
	}
	if until := now.Add(asked); until.After(r.until) {
		r.until = until
	}
	s.rests[host] = r
	return r.until.Sub(now)
}

// works forgets the failures of a host that answers, if it was not asked to be left
// alone meanwhile.
func (s *Sender) works(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.rests[host]; ok && time.Now().After(r.until) {
		delete(s.rests, host)
	}
}

// retryAfter reads seconds or a date; zero when there is neither.
func retryAfter(text string) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return max(0, min(wait, maxRest))
}
