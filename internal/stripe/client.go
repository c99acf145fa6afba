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
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/sony/gobreaker/v2"
	stripesdk "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/webhook"

	livestream "github.com/livestream-pro/livestream-pro"
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
	intents paymentintent.Client
	secrets []string
	timeout time.Duration
	breaker *gobreaker.CircuitBreaker[*stripesdk.PaymentIntent]
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
	return &Client{
		intents: paymentintent.Client{B: stripesdk.GetBackendWithConfig(stripesdk.APIBackend, backend), Key: config.SecretKey},
		secrets: config.WebhookSecrets,
		timeout: config.Timeout,
		breaker: gobreaker.NewCircuitBreaker[*stripesdk.PaymentIntent](gobreaker.Settings{
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

// Charge asks for a payment. With a payment method it is confirmed at once; a
// decline is not an error but the PaymentIntent's Failure. The key makes Stripe
// do it once, however often it is asked.
//
// Errors: unavailable, which may be tried again; others are final.
func (c *Client) Charge(ctx context.Context, charge livestream.Charge) (livestream.PaymentIntent, error) {
	params := &stripesdk.PaymentIntentParams{
		Amount: stripesdk.Int64(charge.Amount), Currency: stripesdk.String(charge.Currency), Description: stripesdk.String(charge.Description),
		AutomaticPaymentMethods: &stripesdk.PaymentIntentAutomaticPaymentMethodsParams{
			Enabled: stripesdk.Bool(true), AllowRedirects: stripesdk.String("never"),
		},
	}
	params.AddMetadata(metadataTransaction, charge.TransactionID.String())
	params.AddMetadata(metadataWorkflow, charge.WorkflowID)
	if charge.PaymentMethod != "" {
		params.PaymentMethod = stripesdk.String(charge.PaymentMethod)
		params.Confirm = stripesdk.Bool(true)
	}
	params.SetIdempotencyKey(idempotencyKey(charge.Key))
	return c.call(ctx, &params.Params, func() (*stripesdk.PaymentIntent, error) {
		intent, err := c.intents.New(params)
		return intentOf(intent, err)
	})
}

// What we note on Stripe's objects, to find our way back from them.
const (
	metadataTransaction = "transaction_id"
	metadataWorkflow    = "workflow_id"
)

// PaymentIntent reads where a payment is.
//
// Errors: unavailable; others are final.
func (c *Client) PaymentIntent(ctx context.Context, id string) (livestream.PaymentIntent, error) {
	params := &stripesdk.PaymentIntentParams{}
	return c.call(ctx, &params.Params, func() (*stripesdk.PaymentIntent, error) { return c.intents.Get(id, params) })
}

// FindCharge looks for the PaymentIntent of a transaction, whose answer may have
// been lost; nil when there is none. Of several it is the one that took money,
// else the newest.
//
// Stripe's search lags behind by up to a minute, and by up to an hour while Stripe has
// an outage: nil does not prove that nothing was charged. Charging after it is safe under the key of the attempt whose
// answer was lost, and under another key only when that attempt is older.
//
// Errors: unavailable; others are final.
func (c *Client) FindCharge(ctx context.Context, transactionID uuid.UUID) (*livestream.PaymentIntent, error) {
	params := &stripesdk.PaymentIntentSearchParams{}
	params.Query = fmt.Sprintf("metadata['%s']:'%s'", metadataTransaction, transactionID)
	params.Single = true
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	params.Context = ctx
	intent, err := c.breaker.Execute(func() (*stripesdk.PaymentIntent, error) {
		var best *stripesdk.PaymentIntent
		found := c.intents.Search(params)
		for found.Next() { // newest first
			if intent := found.PaymentIntent(); best == nil || intent.Status == stripesdk.PaymentIntentStatusSucceeded {
				best = intent
			}
		}
		return best, found.Err()
	})
	if err != nil || intent == nil {
		return nil, edge(err)
	}
	out := convert(intent)
	return &out, nil
}

// Cancel gives up a payment that is not paid.
//
// Errors: unavailable; others are final.
func (c *Client) Cancel(ctx context.Context, id, key string) (livestream.PaymentIntent, error) {
	params := &stripesdk.PaymentIntentCancelParams{}
	params.SetIdempotencyKey(idempotencyKey(key))
	return c.call(ctx, &params.Params, func() (*stripesdk.PaymentIntent, error) { return c.intents.Cancel(id, params) })
}

func (c *Client) call(ctx context.Context, params *stripesdk.Params, do func() (*stripesdk.PaymentIntent, error)) (livestream.PaymentIntent, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	params.Context = ctx
	intent, err := c.breaker.Execute(do)
	if err != nil {
		return livestream.PaymentIntent{}, edge(err)
	}
	return convert(intent), nil
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

// intentOf takes a decline for the answer that it is: the error carries the
// PaymentIntent.
func intentOf(intent *stripesdk.PaymentIntent, err error) (*stripesdk.PaymentIntent, error) {
	var e *stripesdk.Error
	if errors.As(err, &e) && e.Type == stripesdk.ErrorTypeCard && e.PaymentIntent != nil {
		return e.PaymentIntent, nil
	}
	return intent, err
}

func convert(intent *stripesdk.PaymentIntent) livestream.PaymentIntent {
	out := livestream.PaymentIntent{
		ID: intent.ID, ClientSecret: intent.ClientSecret, Status: livestream.PaymentIntentStatus(intent.Status),
		Amount: intent.Amount, Currency: string(intent.Currency),
	}
	if last := intent.LastPaymentError; last != nil {
		out.Failure = &livestream.Failure{Code: string(last.DeclineCode), Message: last.Msg}
		if out.Failure.Code == "" {
			out.Failure.Code = string(last.Code)
		}
	}
	return out
}

// failing says whether Stripe was not reached, failed by itself or had too much
// to do, which is what opens the breaker.
func failing(err error) bool {
	if err == nil {
		return false
	}
	var e *stripesdk.Error
	if !errors.As(err, &e) {
		return true
	}
	return e.HTTPStatusCode >= 500 || e.HTTPStatusCode == http.StatusTooManyRequests
}

// retryable says whether asking again may help. A call under a key that another
// one still works on gets that one's answer later. And a secret key that Stripe
// does not take is ours to put right: payments wait for it.
func retryable(err error) bool {
	if failing(err) {
		return true
	}
	var e *stripesdk.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.HTTPStatusCode {
	case http.StatusConflict, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}

// edge turns Stripe's errors into the domain's.
func edge(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if retryable(err) {
		unavailable := livestream.Unavailable("the payment provider", err)
		var e *stripesdk.Error
		if errors.As(err, &e) && e.LastResponse != nil {
			if seconds, err := strconv.Atoi(e.LastResponse.Header.Get("Retry-After")); err == nil && seconds > 0 {
				unavailable.RetryAfter = time.Duration(seconds) * time.Second
			}
		}
		return unavailable
	}
	var e *stripesdk.Error
	errors.As(err, &e)
	code := livestream.Code(e.Code)
	if code == "" {
		code = livestream.Code(e.Type)
	}
	return &livestream.Error{Code: code, Message: e.Msg, Err: err}
}

// ParseWebhook verifies an event's signature, which must not be older than five
// minutes.
//
// Errors: invalid_signature.
func (c *Client) ParseWebhook(body []byte, signature string) (livestream.StripeEvent, error) {
	var (
		event stripesdk.Event
		err   = errors.New("there is no webhook secret")
	)
	for _, secret := range c.secrets {
		event, err = webhook.ConstructEventWithOptions(body, signature, secret, webhook.ConstructEventOptions{
			Tolerance: webhook.DefaultTolerance, IgnoreAPIVersionMismatch: true,
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return livestream.StripeEvent{}, &livestream.Error{Code: livestream.CodeInvalidStripeSignature, Message: "the signature does not fit, or is too old", Err: err}
	}
	out := livestream.StripeEvent{ID: event.ID, Type: string(event.Type), CreatedAt: time.Unix(event.Created, 0).UTC(), Payload: body}
	if event.ID == "" || event.Data == nil {
		return out, livestream.Errorf(livestream.CodeInvalidStripeSignature, "this is not an event")
	}
	text := func(keys ...string) string {
		var value any = event.Data.Object
		for _, key := range keys {
			object, _ := value.(map[string]any)
			value = object[key]
		}
		s, _ := value.(string)
		return s
	}
	out.WorkflowID = text("metadata", metadataWorkflow)
	if text("object") == "payment_intent" {
		out.PaymentIntentID = text("id")
	} else {
		out.PaymentIntentID = text("payment_intent")
	}
	return out, nil
}
