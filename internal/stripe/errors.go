package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	stripesdk "github.com/stripe/stripe-go/v76"

	livestream "github.com/livestream-pro/livestream-pro"
)

// resultOf is what a call says of Stripe. A caller that gave up says nothing.
func resultOf(err error) livestream.CallResult {
	switch {
	case errors.Is(err, context.Canceled):
		return livestream.CallUnknown
	case failing(err):
		return livestream.CallFailed
	}
	return livestream.CallOK
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

// repeated says whether Stripe gave an error of its own once more, which it does for a
// day to the same key. The request that it answered so first is over then. The first
// such answer does not say that: a proxy's may come while Stripe still works.
func repeated(e *stripesdk.Error) bool {
	return e.HTTPStatusCode >= http.StatusInternalServerError && e.LastResponse != nil && e.LastResponse.Header.Get("Idempotent-Replayed") == "true"
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
		if errors.As(err, &e) && repeated(e) {
			unavailable.Err = fmt.Errorf("%w: %w", livestream.ErrStripeFailed, err)
		}
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
	switch {
	case code != "":
	case e.Param == "currency" || e.Param == "amount": // the payer's choice, which Stripe does not take
		code = livestream.Code("invalid_" + e.Param)
	default:
		code = livestream.Code(e.Type)
	}
	return &livestream.Error{Code: code, Message: e.Msg, Err: err}
}
