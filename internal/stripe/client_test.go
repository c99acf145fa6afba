package stripe_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/stripe"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

const secret = "whsec_test"

// serve runs a handler as Stripe's API.
func serve(tb testing.TB, handler http.Handler) string {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return server.URL
}

// simulate runs a Stripe of the test's own.
func simulate(tb testing.TB) (*stripesim.Server, string) {
	tb.Helper()
	simulator, err := stripesim.New(stripesim.Config{})
	require.NoError(tb, err)
	address := serve(tb, simulator)
	tb.Cleanup(simulator.Close) // before the server's, which waits for its calls
	return simulator, address
}

func connect(tb testing.TB, address string) *stripe.Client {
	tb.Helper()
	client, err := stripe.New(stripe.Config{SecretKey: "sk_test_x", BaseURL: address})
	require.NoError(tb, err)
	return client
}

func newCharge() livestream.Charge {
	id := uuid.New()
	workflow := "payment/" + uuid.NewString() + "/tip-1"
	return livestream.Charge{
		Key: workflow + "/charge/0", TransactionID: id, WorkflowID: workflow, Amount: 500, Currency: "usd",
		Description: "tip " + id.String(),
	}
}

func TestNewValidates(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]stripe.Config{
		"no key":           {},
		"negative rate":    {SecretKey: "sk_test_x", CallsPerSecond: -1},
		"negative timeout": {SecretKey: "sk_test_x", Timeout: -1},
	} {
		_, err := stripe.New(config)
		require.Error(t, err, name)
	}
}

// opened is a payment that waits for its confirmation.
func opened(tb testing.TB, client *stripe.Client) livestream.PaymentIntent {
	tb.Helper()
	intent, err := client.CreateIntent(tb.Context(), newCharge())
	require.NoError(tb, err)
	require.Equal(tb, livestream.IntentRequiresPaymentMethod, intent.Status)
	return intent
}

func TestConfirmWithEachPaymentMethod(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]struct {
		status  livestream.PaymentIntentStatus
		failure string
		charges int
	}{
		"pm_card_visa":                            {livestream.IntentSucceeded, "", 1},
		"pm_card_authenticationRequired":          {livestream.IntentRequiresAction, "", 0},
		"pm_card_chargeDeclined":                  {livestream.IntentRequiresPaymentMethod, "generic_decline", 0},
		"pm_card_chargeDeclinedInsufficientFunds": {livestream.IntentRequiresPaymentMethod, "insufficient_funds", 0},
		"pm_card_chargeDeclinedExpiredCard":       {livestream.IntentRequiresPaymentMethod, "expired_card", 0},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			simulator, address := simulate(t)
			client := connect(t, address)
			open := opened(t, client)
			require.True(t, strings.HasPrefix(open.ClientSecret, open.ID))
			made, err := client.Confirm(t.Context(), open.ID, method, "confirm/0")
			require.NoError(t, err, "a decline is an answer")
			require.Equal(t, want.status, made.Status)
			require.Equal(t, int64(500), made.Amount)
			require.Equal(t, "usd", made.Currency)
			if want.failure == "" {
				require.Nil(t, made.Failure)
			} else {
				require.Equal(t, want.failure, made.Failure.Code)
				require.NotEmpty(t, made.Failure.Message)
			}
			require.Len(t, simulator.Charges(), want.charges)

			// Asked again, by its id and by its key, Stripe says the same.
			read, err := client.PaymentIntent(t.Context(), made.ID)
			require.NoError(t, err)
			require.Equal(t, made, read)
			again, err := client.Confirm(t.Context(), open.ID, method, "confirm/0")
			require.NoError(t, err)
			require.Equal(t, made, again)
			require.Len(t, simulator.Charges(), want.charges)
		})
	}
}

func TestRefusalsAreFinal(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	client := connect(t, address)
	_, err := client.Confirm(t.Context(), opened(t, client).ID, "pm_card_unknown", "confirm/0")
	require.Equal(t, livestream.Code("resource_missing"), livestream.CodeOf(err))

	charge := newCharge()
	_, err = client.CreateIntent(t.Context(), charge)
	require.NoError(t, err)
	charge.Amount++
	_, err = client.CreateIntent(t.Context(), charge)
	require.Equal(t, livestream.Code("idempotency_error"), livestream.CodeOf(err), "one key, another amount")
	_, err = client.PaymentIntent(t.Context(), "pi_none")
	require.Equal(t, livestream.Code("resource_missing"), livestream.CodeOf(err))
	require.Empty(t, simulator.Charges())
}

func TestCancel(t *testing.T) {
	t.Parallel()
	_, address := simulate(t)
	client := connect(t, address)
	open := opened(t, client)
	for range 2 {
		canceled, err := client.Cancel(t.Context(), open.ID, "cancel "+open.ID)
		require.NoError(t, err)
		require.Equal(t, livestream.IntentCanceled, canceled.Status)
	}
	_, paid := confirmed(t, client, "pm_card_visa")
	_, err := client.Cancel(t.Context(), paid.ID, "cancel "+paid.ID)
	require.Equal(t, livestream.Code("payment_intent_unexpected_state"), livestream.CodeOf(err), "the payer was faster")
}

// An answer that was lost is read, or given again.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults  stripesim.Faults
		charges int  // once the answer is lost
		kept    bool // the key's answer stays an error
	}{
		"500 before": {stripesim.Faults{ErrorBefore: 1}, 0, true},
		"500 after":  {stripesim.Faults{ErrorAfter: 1}, 1, true},
		"cut before": {stripesim.Faults{CutBefore: 1}, 0, false},
		"cut after":  {stripesim.Faults{CutAfter: 1}, 1, false},
		"too many":   {stripesim.Faults{RateLimited: 1}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulator, address := simulate(t)
			client := connect(t, address)
			open := opened(t, client)
			confirm := func(key string) (livestream.PaymentIntent, error) {
				return client.Confirm(t.Context(), open.ID, "pm_card_visa", key)
			}
			simulator.SetFaults(c.faults)
			_, err := confirm("confirm/0")
			require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
			require.NotErrorIs(t, err, livestream.ErrStripeFailed, "the first such answer may be a proxy's")
			require.Len(t, simulator.Charges(), c.charges)
			simulator.SetFaults(stripesim.Faults{})

			now, err := client.PaymentIntent(t.Context(), open.ID)
			require.NoError(t, err)
			require.Equal(t, c.charges == 1, now.Status == livestream.IntentSucceeded)
			again, err := confirm("confirm/0")
			if !c.kept {
				require.NoError(t, err)
				require.Equal(t, livestream.IntentSucceeded, again.Status)
				require.Len(t, simulator.Charges(), 1)
				return
			}
			require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
			require.ErrorIs(t, err, livestream.ErrStripeFailed, "Stripe repeats a 500 for a day")
			_, err = confirm("confirm/1")
			require.Equal(t, c.charges == 1, livestream.CodeOf(err) == "payment_intent_unexpected_state", "another key charges no second time")
			require.Len(t, simulator.Charges(), 1)
		})
	}
}

func TestKeyLongerThanStripeTakes(t *testing.T) {
	t.Parallel()
	_, address := simulate(t)
	client := connect(t, address)
	charge := newCharge()
	charge.WorkflowID = "payment/" + uuid.NewString() + "/" + strings.Repeat("k", livestream.MaxIdempotencyID)
	charge.Key = charge.WorkflowID + "/create/0"
	first, err := client.CreateIntent(t.Context(), charge)
	require.NoError(t, err)
	again, err := client.CreateIntent(t.Context(), charge)
	require.NoError(t, err)
	require.Equal(t, first, again)
	other := charge
	other.Key = charge.WorkflowID + "/create/1"
	next, err := client.CreateIntent(t.Context(), other)
	require.NoError(t, err)
	require.NotEqual(t, first.ID, next.ID, "keys that differ at their end are not the same")
}

// answering is a Stripe that always gives one answer.
func answering(status int, header http.Header, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func TestWhatIsWorthTryingAgain(t *testing.T) {
	t.Parallel()
	const problem = `{"error":{"type":"invalid_request_error","message":"No."}}`
	for name, c := range map[string]struct {
		status int
		body   string
		again  bool
	}{
		"bad request":             {400, problem, false},
		"wrong secret key":        {401, problem, true}, // until the operator has put it right
		"secret key not allowed":  {403, problem, true},
		"not found":               {404, problem, false},
		"key is in use":           {409, problem, true},
		"too many":                {429, problem, true},
		"server error":            {500, problem, true},
		"a gateway's page":        {502, "<html>Bad Gateway</html>", true},
		"a proxy's refusal":       {407, "<html>Proxy</html>", true},
		"an answer that is no PI": {200, "<html>Welcome</html>", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, serve(t, answering(c.status, nil, c.body)))
			_, err := client.CreateIntent(t.Context(), newCharge())
			require.Error(t, err)
			require.Equal(t, c.again, livestream.CodeOf(err) == livestream.CodeUnavailable, "%v", err)
			require.NotEqual(t, livestream.CodeInternal, livestream.CodeOf(err))
		})
	}
}

func TestRetryAfterIsHanded(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"17": 17 * time.Second, "1": time.Second, "-5": 0, "soon": 0} {
		client := connect(t, serve(t, answering(429, http.Header{"Retry-After": {value}}, `{"error":{"type":"invalid_request_error","code":"rate_limit"}}`)))
		_, err := client.PaymentIntent(t.Context(), "pi_x")
		var unavailable *livestream.Error
		require.ErrorAs(t, err, &unavailable)
		require.Equal(t, want, unavailable.RetryAfter, value)
	}
}

// The timeout bounds the whole call, wherever the peer hangs.
func TestTimeoutBoundsTheWholeCall(t *testing.T) {
	t.Parallel()
	hang := func(after func(w http.ResponseWriter)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // before that a server does not see that its client left
			after(w)
			<-r.Context().Done()
		})
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // its backlog takes connections that nobody serves
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	for name, address := range map[string]string{
		"before the answer": serve(t, hang(func(http.ResponseWriter) {})),
		"in its body": serve(t, hang(func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"id":`))
			w.(http.Flusher).Flush()
		})),
		"before anything": "http://" + silent.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := stripe.New(stripe.Config{SecretKey: "sk_test_x", BaseURL: address, Timeout: 100 * time.Millisecond})
			require.NoError(t, err)
			// A call that outlived its timeout would end with the test's deadline.
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for call, do := range map[string]func() error{
				"create":  func() error { _, err := client.CreateIntent(ctx, newCharge()); return err },
				"confirm": func() error { _, err := client.Confirm(ctx, "pi_x", "pm_card_visa", "k"); return err },
				"read":    func() error { _, err := client.PaymentIntent(ctx, "pi_x"); return err },
				"cancel":  func() error { _, err := client.Cancel(ctx, "pi_x", "k"); return err },
				"refund":  func() error { _, err := client.Refund(ctx, refundOf(newCharge(), "pi_x", 1)); return err },
				"list":    func() error { _, _, err := client.ListIntents(ctx, time.Now(), time.Now(), ""); return err },
			} {
				require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(do()), call)
				require.NoError(t, ctx.Err(), call)
			}
		})
	}
}

func TestCancelledCallSaysSo(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	simulator.SetFaults(stripesim.Faults{LatencyMS: 60_000})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client, done := connect(t, address), make(chan error, 1)
	go func() { _, err := client.CreateIntent(ctx, newCharge()); done <- err }()
	require.Eventually(t, func() bool { return simulator.Requests() > 0 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestRequestSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	type request struct {
		header http.Header
		form   url.Values
	}
	seen := make(chan request, 1)
	client := connect(t, serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		seen <- request{r.Header, r.Form}
	})))
	charge := newCharge()
	_, _ = client.CreateIntent(t.Context(), charge) // what it asks is looked at, not the answer
	got := <-seen
	require.Equal(t, charge.Key, got.header.Get("Idempotency-Key"))
	require.Equal(t, "Bearer sk_test_x", got.header.Get("Authorization"))
	require.Equal(t, url.Values{
		"amount": {"500"}, "currency": {"usd"}, "description": {charge.Description},
		"automatic_payment_methods[enabled]": {"true"}, "automatic_payment_methods[allow_redirects]": {"never"},
		"metadata[transaction_id]": {charge.TransactionID.String()}, "metadata[workflow_id]": {charge.WorkflowID},
	}, got.form, "the same each time, or Stripe refuses its key")
}
