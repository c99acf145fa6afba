// Package stripe is the guarded client of Stripe: every call has a timeout, goes
// through a circuit breaker, and ends in the domain's words. It never retries:
// that is the payment workflow's.
package stripe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/sony/gobreaker/v2"
	stripesdk "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/dispute"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/refund"
)

// Config says how Stripe is reached.
type Config struct {
	SecretKey string
	// BaseURL of the API; empty is Stripe's own.
	BaseURL string
	// WebhookSecrets that sign events: the current one, and the last one while it is
	// rotated out.
	WebhookSecrets []string
	// Timeout of one call; default 5 s.
	Timeout time.Duration
	// Transport wraps what carries the calls, to measure them; nil leaves it as it is.
	Transport func(http.RoundTripper) http.RoundTripper
}

// Client talks to Stripe.
type Client struct {
	intents  paymentintent.Client
	refunds  refund.Client
	disputes dispute.Client
	secrets  []string
	timeout  time.Duration
	breaker  *gobreaker.CircuitBreaker[any]
}

// The breaker opens when a tenth of at least breakerMinimum calls within
// breakerWindow failed, and lets single calls try again after breakerPause.
const (
	breakerWindow  = 30 * time.Second
	breakerMinimum = 20
	breakerRate    = 0.1
	breakerPause   = 10 * time.Second
)

// New makes a client; it connects on first use.
func New(config Config) (*Client, error) { return newClient(config, breakerPause) }

func newClient(config Config, pause time.Duration) (*Client, error) {
	if config.SecretKey == "" {
		return nil, errors.New("stripe: a secret key is needed")
	}
	if slices.Contains(config.WebhookSecrets, "") {
		return nil, errors.New("stripe: a webhook secret is empty, and anybody could sign with it")
	}
	if config.Timeout < 0 {
		return nil, fmt.Errorf("stripe: the timeout is %s", config.Timeout)
	}
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second
	}
	var carrier http.RoundTripper = http.DefaultTransport.(*http.Transport).Clone()
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
		secrets:  config.WebhookSecrets,
		timeout:  config.Timeout,
		breaker: gobreaker.NewCircuitBreaker[any](gobreaker.Settings{
			Name: "stripe", Interval: breakerWindow, BucketPeriod: breakerWindow / 10, Timeout: pause,
			ReadyToTrip: func(c gobreaker.Counts) bool {
				done := c.TotalSuccesses + c.TotalFailures
				return done >= breakerMinimum && float64(c.TotalFailures) >= breakerRate*float64(done)
			},
			IsSuccessful: func(err error) bool { return !failing(err) },
			// A caller that gave up says nothing of Stripe.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		}),
	}, nil
}

// guarded makes one call within its timeout and through the breaker.
func guarded[T any](ctx context.Context, c *Client, call func(ctx context.Context) (T, error)) (out T, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, err = c.breaker.Execute(func() (any, error) {
		out, err = call(ctx)
		return nil, err
	})
	return out, edge(err)
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
