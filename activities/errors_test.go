package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// busy is a Stripe that is away, and says for how long.
type busy struct {
	activities.PaymentProvider
	retryAfter time.Duration
}

func (b busy) CreateIntent(context.Context, livestream.Charge) (livestream.PaymentIntent, error) {
	err := livestream.Unavailable("the payment provider", nil)
	err.RetryAfter = b.retryAfter
	return livestream.PaymentIntent{}, err
}

func (b busy) PaymentIntent(context.Context, string) (livestream.PaymentIntent, error) {
	return b.CreateIntent(context.Background(), livestream.Charge{})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ asked, least, most time.Duration }{
		"not said":         {0, 0, 2 * time.Second}, // the step's own pause, half of it to one and a half
		"a second":         {time.Second, time.Second, 1500 * time.Millisecond},
		"two seconds":      {2 * time.Second, 2 * time.Second, 3 * time.Second},
		"half a minute":    {30 * time.Second, 30 * time.Second, 45 * time.Second},
		"an hour, bounded": {time.Hour, time.Minute, 90 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := &activities.Transactions{Stripe: busy{retryAfter: c.asked}}
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment()
			env.RegisterActivity(steps)
			pause := func(step any, args ...any) (pause time.Duration, elsewhere bool) {
				_, err := env.ExecuteActivity(step, args...)
				var app *temporal.ApplicationError
				require.ErrorAs(t, err, &app)
				require.Equal(t, "unavailable", app.Type())
				return app.NextRetryDelay(), app.NonRetryable()
			}
			for range 20 { // chance spreads it
				spread, elsewhere := pause(steps.CreateIntent, livestream.NewTransaction{}, "key")
				require.Equal(t, c.asked > 2*time.Second, elsewhere, "the payer does not wait for that")
				require.GreaterOrEqual(t, spread, c.least)
				require.LessOrEqual(t, spread, c.most)
			}
			asked, elsewhere := pause(steps.Look, livestream.NewTransaction{}.ID, "pi_1")
			require.Equal(t, min(c.asked, time.Minute), asked)
			require.False(t, elsewhere)
		})
	}
}
