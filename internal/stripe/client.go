// Package stripe is the guarded client of Stripe: every call has a timeout, goes
// through a circuit breaker and a rate limit, and ends in the domain's words. It
// never retries: that is the payment workflow's.
package stripe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
	stripesdk "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/dispute"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/refund"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Config says how Stripe is reached.
type Config struct {
	SecretKey string
	// BaseURL of the API; empty is Stripe's own.
	BaseURL string
	// Timeout of one call; default 5 s.
	Timeout time.Duration
	// Transport wraps what carries the calls, to measure them; nil leaves it as it is.
	Transport func(http.RoundTripper) http.RoundTripper
	// Breaker that the calls go through; nil is none.
	Breaker Breaker
	// Limiter that keeps the calls below what Stripe allows; nil is none.
	Limiter RateLimiter
	// CallsPerSecond that all processes together may make, with bursts of a quarter of
	// it, so that no second has more than five quarters; default 80. Stripe allows 100.
	CallsPerSecond int
}

// Breaker says when to leave Stripe alone.
type Breaker interface {
	// Allow lets a call through, whose result is to be told to done. When it does not,
	// done is nil, and another call may go through after retryAfter.
	Allow(ctx context.Context) (done func(livestream.CallResult), retryAfter time.Duration)
	// Away is how long it lets no call through; zero when one may go.
	Away(ctx context.Context) time.Duration
}

// RateLimiter counts calls, of all processes together.
type RateLimiter interface {
	Allow(ctx context.Context, limit livestream.RateLimit, key string) livestream.RateDecision
}

// Client talks to Stripe.
type Client struct {
	intents  paymentintent.Client
	refunds  refund.Client
	disputes dispute.Client
	timeout  time.Duration
	breaker  Breaker
	limiter  RateLimiter
	limit    livestream.RateLimit
}

// New makes a client; it connects on first use.
func New(config Config) (*Client, error) {
	if config.SecretKey == "" {
		return nil, errors.New("stripe: a secret key is needed")
	}
	if config.Timeout < 0 {
		return nil, fmt.Errorf("stripe: the timeout is %s", config.Timeout)
	}
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second
	}
	if config.CallsPerSecond < 0 {
		return nil, fmt.Errorf("stripe: the calls per second are %d", config.CallsPerSecond)
	}
	if config.CallsPerSecond == 0 {
		config.CallsPerSecond = 80
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns // it is but one host
	var carrier http.RoundTripper = transport
	if config.Transport != nil {
		carrier = config.Transport(carrier)
	}
	backend := &stripesdk.BackendConfig{
		// The deadline is each call's context, which has its body in it.
		HTTPClient:        &http.Client{Transport: carrier},
		MaxNetworkRetries: stripesdk.Int64(0),
		EnableTelemetry:   stripesdk.Bool(false),
		LeveledLogger:     &stripesdk.LeveledLogger{Level: stripesdk.LevelNull},
	}
	if config.BaseURL != "" {
		backend.URL = stripesdk.String(config.BaseURL)
	}
	api := stripesdk.GetBackendWithConfig(stripesdk.APIBackend, backend)
	return &Client{
		intents:  paymentintent.Client{B: api, Key: config.SecretKey},
		refunds:  refund.Client{B: api, Key: config.SecretKey},
		disputes: dispute.Client{B: api, Key: config.SecretKey},
		timeout:  config.Timeout,
		breaker:  config.Breaker,
		limiter:  config.Limiter,
		limit:    livestream.RateLimit{Name: "stripe", Rate: config.CallsPerSecond, Per: time.Second, Burst: max(config.CallsPerSecond/4, 1)},
	}, nil
}

// guarded makes one call within its timeout, when the breaker and the limit let it.
func guarded[T any](ctx context.Context, c *Client, call func(ctx context.Context) (T, error)) (out T, err error) {
	done, err := c.enter(ctx)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out, err = call(ctx)
	done(resultOf(err))
	return out, edge(err)
}

// Away is how long no call will be made, because too many failed; zero when one may
// be.
func (c *Client) Away(ctx context.Context) time.Duration {
	if c.breaker == nil {
		return 0
	}
	return c.breaker.Away(ctx)
}

// maxWait is how long a call waits for its turn under the rate limit: short beside a
// call's timeout, because somebody may wait for its answer.
const maxWait = time.Second

// enter waits for a call's turn. What it gives is to be told the call's result.
func (c *Client) enter(ctx context.Context) (func(livestream.CallResult), error) {
	done := func(livestream.CallResult) {}
	if c.breaker != nil {
		var wait time.Duration
		if done, wait = c.breaker.Allow(ctx); done == nil {
			return nil, busy(livestream.ErrCircuitOpen, wait)
		}
	}
	if err := c.takeTurn(ctx); err != nil {
		done(livestream.CallUnknown)
		return nil, err
	}
	return done, nil
}

func (c *Client) takeTurn(ctx context.Context) error {
	if c.limiter == nil {
		return nil
	}
	for latest := time.Now().Add(maxWait); ; {
		turn := c.limiter.Allow(ctx, c.limit, "")
		if turn.Allowed {
			return nil
		}
		// Those who wait for the same turn are spread, so that they do not all ask again
		// at once.
		wait := turn.RetryAfter + rand.N(100*time.Millisecond)
		if time.Now().Add(wait).After(latest) {
			return busy(errRateLimit, turn.RetryAfter)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errRateLimit = errors.New("we make no more calls than Stripe allows")

// busy is an unavailable whose call was not made.
func busy(cause error, retryAfter time.Duration) *livestream.Error {
	err := livestream.Unavailable("the payment provider", cause)
	err.RetryAfter = retryAfter
	return err
}

// pageSize is the most that Stripe lists at once.
const pageSize = 100

// listed makes one call for a page of a list.
func listed[From, To any](ctx context.Context, c *Client, after string, list func(page stripesdk.ListParams) *stripesdk.Iter, convert func(*From) To, id func(To) string) (items []To, next string, err error) {
	items, err = guarded(ctx, c, func(ctx context.Context) ([]To, error) {
		page := stripesdk.ListParams{Context: ctx, Limit: stripesdk.Int64(pageSize), Single: true}
		if after != "" {
			page.StartingAfter = stripesdk.String(after)
		}
		found := list(page)
		var items []To
		for found.Next() {
			items = append(items, convert(found.Current().(*From)))
		}
		if len(items) > 0 && found.Meta().HasMore {
			next = id(items[len(items)-1])
		}
		return items, found.Err()
	})
	return items, next, err
}

func between(from, to time.Time) *stripesdk.RangeQueryParams {
	return &stripesdk.RangeQueryParams{GreaterThanOrEqual: from.Unix(), LesserThan: to.Unix()}
}

// What we note on Stripe's objects, to find our way back from them.
const (
	metadataTransaction = "transaction_id"
	metadataWorkflow    = "workflow_id"
	metadataRefund      = "refund_id"
	metadataReason      = "reason"
)

// ourID is an id in an object's metadata; zero for an object that is not ours.
func ourID(metadata map[string]string, name string) uuid.UUID {
	id, err := uuid.Parse(metadata[name])
	if err != nil {
		return uuid.Nil
	}
	return id
}

// maxKey is how many characters Stripe takes for an idempotency key.
const maxKey = 255

// idempotencyKey is the key as it is sent. Ours hold a key that a client chose,
// which may be as long as Stripe's longest by itself.
func idempotencyKey(key string) string {
	if len(key) <= maxKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256/" + hex.EncodeToString(sum[:])
}
