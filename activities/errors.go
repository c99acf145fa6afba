package activities

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	livestream "github.com/livestream-pro/livestream-pro"
)

// ErrRecordingRejected is the type of the error that a recording which cannot
// become an archive gives; its details are a livestream.Failure.
const ErrRecordingRejected = "recording_rejected"

// ErrStripeFailed is the type of the error that says that Stripe answered with an
// error of its own, which it repeats under that key.
const ErrStripeFailed = "stripe_failed"

// patience is how long a step waits for a peer by itself. Where the peer asks for
// more, who scheduled the step is told, and does something else meanwhile.
const patience = 2 * time.Second

// edge turns an error into what Temporal should make of it. It is called last,
// on the way out of an activity: wrapping what it returned would make a final
// error retryable again.
//
// An error with a code is final, because asking again gives the same answer;
// its type in Temporal is the code. One that says "unavailable" is retried, after
// the time that it names. Everything else is retried by the step's own policy.
func edge(err error) error {
	if err == nil {
		return nil
	}
	if media := (*livestream.MediaError)(nil); errors.As(err, &media) {
		return temporal.NewApplicationErrorWithOptions(media.Failure.Message, ErrRecordingRejected, temporal.ApplicationErrorOptions{
			NonRetryable: true, Cause: media.Err, Details: []any{media.Failure},
		})
	}
	var e *livestream.Error
	if !errors.As(err, &e) || e.Code == livestream.CodeInternal {
		return err
	}
	options := temporal.ApplicationErrorOptions{Cause: e.Err}
	if e.Code == livestream.CodeUnavailable {
		options.NextRetryDelay = retryDelay(e)
	} else {
		options.NonRetryable = true
	}
	return temporal.NewApplicationErrorWithOptions(e.Message, string(e.Code), options)
}

// unless leaves out an error of that code, where it says that there is nothing
// to do.
func unless(err error, code livestream.Code) error {
	if livestream.CodeOf(err) == code {
		return nil
	}
	return err
}

// edgeSpread is edge for a peer that many steps wait for at once: when they try
// again is spread by chance, from half the pause to one and a half, so that they do
// not all come back together; never sooner than the peer asked for.
func edgeSpread(ctx context.Context, err error) error {
	err = edge(err)
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.NonRetryable() {
		return err
	}
	kind := app.Type()
	if errors.Is(app.Unwrap(), livestream.ErrStripeFailed) {
		kind = ErrStripeFailed
	}
	pause, least := app.NextRetryDelay(), app.NextRetryDelay()
	if info := activity.GetInfo(ctx); pause == 0 && info.RetryPolicy != nil {
		backoff := math.Pow(info.RetryPolicy.BackoffCoefficient, float64(info.Attempt-1))
		pause = time.Duration(float64(info.RetryPolicy.InitialInterval) * backoff)
		least = pause / 2
	}
	return temporal.NewApplicationErrorWithOptions(app.Message(), kind, temporal.ApplicationErrorOptions{
		Cause: app.Unwrap(), NextRetryDelay: least + rand.N(pause*3/2-least+1), NonRetryable: least > patience,
	})
}

// comeBack ends an attempt that has to wait. The next one begins after that time, with
// the heartbeat of this one; until then no worker is busy with it.
func comeBack(why string, wait time.Duration) error {
	return temporal.NewApplicationErrorWithOptions(why, "waiting", temporal.ApplicationErrorOptions{
		NextRetryDelay: wait, Category: temporal.ApplicationErrorCategoryBenign, // it is neither logged nor counted as a failure
	})
}

// retryDelay keeps what a peer asked for within reason; zero leaves it to the
// step's policy.
func retryDelay(e *livestream.Error) time.Duration {
	return min(e.RetryAfter, time.Minute)
}
