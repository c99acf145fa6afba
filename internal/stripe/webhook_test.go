package stripe_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

const succeeded = `{"id":"evt_1","object":"event","type":"payment_intent.succeeded","created":1700000000,
	"data":{"object":{"id":"pi_1","object":"payment_intent","metadata":{"workflow_id":"payment/u/k","transaction_id":"t"}}}}`

func receiver(tb testing.TB, secrets ...string) *stripe.Webhooks {
	tb.Helper()
	webhooks, err := stripe.NewWebhooks(secrets)
	require.NoError(tb, err)
	return webhooks
}

func TestWebhookSaysWhatItIsAbout(t *testing.T) {
	t.Parallel()
	webhooks := receiver(t, secret)
	for name, c := range map[string]struct {
		object string
		want   livestream.StripeEvent
	}{
		"a PaymentIntent": {
			`{"id":"pi_1","object":"payment_intent","metadata":{"workflow_id":"payment/u/k"}}`,
			livestream.StripeEvent{Object: "payment_intent", PaymentIntentID: "pi_1", WorkflowID: "payment/u/k"},
		},
		"a charge of one": {
			`{"id":"ch_1","object":"charge","payment_intent":"pi_1","metadata":{"workflow_id":"payment/u/k"}}`,
			livestream.StripeEvent{Object: "charge", PaymentIntentID: "pi_1", WorkflowID: "payment/u/k"},
		},
		"a refund": {
			`{"id":"re_1","object":"refund","charge":"ch_1","payment_intent":"pi_1","metadata":{"workflow_id":"refund/r"}}`,
			livestream.StripeEvent{Object: "refund", RefundID: "re_1", PaymentIntentID: "pi_1", WorkflowID: "refund/r"},
		},
		"a dispute": {
			`{"id":"dp_1","object":"dispute","charge":"ch_1","payment_intent":"pi_1","metadata":{}}`,
			livestream.StripeEvent{Object: "dispute", DisputeID: "dp_1", PaymentIntentID: "pi_1"},
		},
		"somebody else's": {`{"id":"pi_2","object":"payment_intent","metadata":{}}`, livestream.StripeEvent{Object: "payment_intent", PaymentIntentID: "pi_2"}},
		"another thing":   {`{"id":"cus_1","object":"customer"}`, livestream.StripeEvent{Object: "customer"}},
		"odd metadata":    {`{"id":5,"object":"payment_intent","metadata":[1]}`, livestream.StripeEvent{Object: "payment_intent"}},
	} {
		body := []byte(`{"id":"evt_1","type":"some.type","created":1700000000,"data":{"object":` + c.object + `}}`)
		got, err := webhooks.ParseWebhook(body, stripesim.Sign(body, secret, time.Now()))
		require.NoError(t, err, name)
		c.want.ID, c.want.Type, c.want.CreatedAt, c.want.Payload = "evt_1", "some.type", time.Unix(1700000000, 0).UTC(), body
		require.Equal(t, c.want, got, name)
	}
}

func TestWebhookSecretsAreNotEmpty(t *testing.T) {
	t.Parallel()
	_, err := stripe.NewWebhooks([]string{"whsec_a", ""})
	require.Error(t, err, "anybody could sign with nothing")
}

func TestWebhookSignatures(t *testing.T) {
	t.Parallel()
	now, body := time.Now(), []byte(succeeded)
	sign := func(secret string, at time.Time) string { return stripesim.Sign(body, secret, at) }
	for name, c := range map[string]struct {
		secrets   []string
		signature string
		good      bool
	}{
		"ours":                        {[]string{"new"}, sign("new", now), true},
		"almost five minutes old":     {[]string{"new"}, sign("new", now.Add(-4*time.Minute)), true},
		"the old one in a rotation":   {[]string{"new", "old"}, sign("old", now), true},
		"the new one in a rotation":   {[]string{"new", "old"}, sign("new", now), true},
		"both of Stripe's signatures": {[]string{"new"}, sign("old", now) + "," + strings.Split(sign("new", now), ",")[1], true},
		"older than five minutes":     {[]string{"new"}, sign("new", now.Add(-5*time.Minute-time.Second)), false},
		"old, with both secrets":      {[]string{"new", "old"}, sign("old", now.Add(-6*time.Minute)), false},
		"another secret":              {[]string{"new"}, sign("old", now), false},
		"another body":                {[]string{"new"}, stripesim.Sign([]byte(succeeded+" "), "new", now), false},
		"another time":                {[]string{"new"}, strings.Replace(sign("new", now.Add(-time.Hour)), fmt.Sprint(now.Add(-time.Hour).Unix()), fmt.Sprint(now.Unix()), 1), false},
		"an unsigned scheme":          {[]string{"new"}, strings.Replace(sign("new", now), "v1=", "v0=", 1), false},
		"none":                        {[]string{"new"}, "", false},
		"nonsense":                    {[]string{"new"}, "t=x,v1=zz,=,,", false},
		"signed with nothing":         {[]string{"new"}, sign("", now), false},
		"no secret to check with":     {nil, sign("", now), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := receiver(t, c.secrets...).ParseWebhook(body, c.signature)
			if c.good {
				require.NoError(t, err)
				require.Equal(t, "payment/u/k", got.WorkflowID)
				return
			}
			require.Equal(t, livestream.CodeInvalidStripeSignature, livestream.CodeOf(err))
			require.Empty(t, got.ID)
		})
	}
}

// What is signed but is no event is refused like a bad signature.
func FuzzParseWebhook(f *testing.F) {
	for _, body := range []string{
		succeeded, "", "null", "[]", "{}", `{"id":"evt_1"}`, `{"id":"evt_1","data":null}`, `{"id":"evt_1","data":{}}`,
		`{"id":"evt_1","data":{"object":null}}`, `{"id":"evt_1","data":{"object":[]}}`, `{"id":1}`, `{"created":1e400}`,
	} {
		f.Add([]byte(body), "")
	}
	f.Add([]byte(succeeded), "t=1,v1=00")
	webhooks := receiver(f, secret)
	f.Fuzz(func(t *testing.T, body []byte, signature string) {
		_, err := webhooks.ParseWebhook(body, signature)
		require.Equal(t, livestream.CodeInvalidStripeSignature, livestream.CodeOf(err), "nobody guesses a signature")

		event, err := webhooks.ParseWebhook(body, stripesim.Sign(body, secret, time.Now()))
		if err != nil {
			require.Equal(t, livestream.CodeInvalidStripeSignature, livestream.CodeOf(err))
			return
		}
		require.NotEmpty(t, event.ID)
		require.True(t, json.Valid(event.Payload), "it is stored as JSON")
	})
}
