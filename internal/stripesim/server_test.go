package stripesim_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func TestPaymentMethods(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]struct {
		http    int
		status  string
		code    string
		decline string
		charged bool
	}{
		"":                               {200, "requires_payment_method", "", "", false},
		"pm_card_visa":                   {200, "succeeded", "", "", true},
		"pm_card_mastercard":             {200, "succeeded", "", "", true},
		"pm_card_authenticationRequired": {200, "requires_action", "", "", false},
		"pm_card_chargeDeclined":         {402, "requires_payment_method", "card_declined", "generic_decline", false},
		"pm_card_chargeDeclinedInsufficientFunds": {402, "requires_payment_method", "card_declined", "insufficient_funds", false},
		"pm_card_chargeDeclinedExpiredCard":       {402, "requires_payment_method", "expired_card", "", false},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			simulator, address := start(t, stripesim.Config{})
			a := post(t, address+"/v1/payment_intents", "k", payment(method))
			require.Equal(t, want.http, a.status, a.body)
			idField := "id"
			if want.code != "" {
				idField = "error.payment_intent.id"
				require.Equal(t, "card_error", a.field(t, "error.type"))
				require.Equal(t, want.code, a.field(t, "error.code"))
				require.Equal(t, want.decline, a.field(t, "error.decline_code"))
			}
			now := get(t, address+"/v1/payment_intents/"+a.field(t, idField))
			require.Equal(t, want.status, now.field(t, "status"))
			require.Equal(t, want.charged, len(simulator.Charges()) == 1)
			if want.code != "" {
				require.Equal(t, want.code, now.field(t, "last_payment_error.code"))
			}
		})
	}
}

// What a client does that confirms by itself: declined, another card, and then
// it is paid for good.
func TestStatesOfAPaymentIntent(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	created := post(t, address+"/v1/payment_intents", "k", payment(""))
	intent := address + "/v1/payment_intents/" + created.field(t, "id")
	require.True(t, strings.HasPrefix(created.field(t, "client_secret"), created.field(t, "id")+"_secret_"))

	none := post(t, intent+"/confirm", "", nil)
	require.Equal(t, 400, none.status, "there is nothing to confirm it with")
	declined := post(t, intent+"/confirm", "", url.Values{"payment_method": {"pm_card_chargeDeclined"}})
	require.Equal(t, 402, declined.status)
	paid := post(t, intent+"/confirm", "", url.Values{"payment_method": {"pm_card_visa"}})
	require.Equal(t, "succeeded", paid.field(t, "status"))
	require.Empty(t, paid.field(t, "last_payment_error"))
	for _, step := range []string{"/confirm", "/cancel"} {
		late := post(t, intent+step, "", nil)
		require.Equal(t, 400, late.status)
		require.Equal(t, "payment_intent_unexpected_state", late.field(t, "error.code"))
	}
	require.Len(t, simulator.Charges(), 1)

	other := address + "/v1/payment_intents/" + post(t, address+"/v1/payment_intents", "k2", payment("")).field(t, "id")
	require.Equal(t, "canceled", post(t, other+"/cancel", "", nil).field(t, "status"))
	require.Equal(t, 400, post(t, other+"/confirm", "", url.Values{"payment_method": {"pm_card_visa"}}).status)
	require.Len(t, simulator.Charges(), 1)
}

func TestCustomerAuthenticates(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{`{"succeed":true}`: "succeeded", `{"succeed":false}`: "requires_payment_method"} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			in := newInbox(t)
			_, address := start(t, stripesim.Config{WebhookURL: in.URL})
			id := post(t, address+"/v1/payment_intents", "k", payment("pm_card_authenticationRequired")).field(t, "id")
			authenticate := func() int {
				response, err := http.Post(address+"/_sim/payment_intents/"+id+"/authenticate", "application/json", strings.NewReader(answer))
				require.NoError(t, err)
				defer response.Body.Close()
				return response.StatusCode
			}
			require.Equal(t, http.StatusOK, authenticate())
			require.Equal(t, http.StatusConflict, authenticate(), "once is all that the bank asks")
			require.Equal(t, want, get(t, address+"/v1/payment_intents/"+id).field(t, "status"))
			kind := map[string]string{"succeeded": "payment_intent.succeeded", "requires_payment_method": "payment_intent.payment_failed"}[want]
			eventually(t, func() bool { return len(in.of(kind)) == 1 }, kind)
		})
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	with := func(name, value string) url.Values {
		form := payment("pm_card_visa")
		form.Set(name, value)
		return form
	}
	for name, form := range map[string]url.Values{
		"no amount":              with("amount", ""),
		"no money":               with("amount", "0"),
		"amount with a tail":     with("amount", "500x"),
		"currency in upper case": with("currency", "USD"),
		"too much money":         with("amount", "100000000"),
		"unknown payment method": with("payment_method", "pm_card_unknown"),
		"unknown parameter":      with("amonut", "500"),
	} {
		a := post(t, address+"/v1/payment_intents", "one key for all", form)
		require.Equal(t, 400, a.status, name)
		require.Equal(t, "invalid_request_error", a.field(t, "error.type"), name)
	}
	require.Empty(t, simulator.Charges())
	require.Equal(t, 200, post(t, address+"/v1/payment_intents", "one key for all", payment("pm_card_visa")).status,
		"a request that was not begun leaves its key free")

	require.Equal(t, 404, get(t, address+"/v1/payment_intents/pi_none").status)
	response, err := http.PostForm(address+"/v1/payment_intents", payment("pm_card_visa"))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, 401, response.StatusCode, "without a key of the API")
	long := post(t, address+"/v1/payment_intents", strings.Repeat("k", 256), payment("pm_card_visa"))
	require.Equal(t, 400, long.status)
	require.Equal(t, "idempotency_error", long.field(t, "error.type"))
}

func TestSameKeyGivesTheFirstAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		form    url.Values
		faults  stripesim.Faults
		status  int
		charges int
	}{
		"paid":             {payment("pm_card_visa"), stripesim.Faults{}, 200, 1},
		"declined":         {payment("pm_card_chargeDeclined"), stripesim.Faults{}, 402, 0},
		"500 before":       {payment("pm_card_visa"), stripesim.Faults{ErrorBefore: 1}, 500, 0},
		"500 after":        {payment("pm_card_visa"), stripesim.Faults{ErrorAfter: 1}, 500, 1},
		"created and kept": {payment(""), stripesim.Faults{}, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulator, address := start(t, stripesim.Config{})
			simulator.SetFaults(c.faults)
			first := post(t, address+"/v1/payment_intents", "k", c.form)
			require.Equal(t, c.status, first.status)
			require.False(t, first.replayed)
			simulator.SetFaults(stripesim.Faults{})
			again := post(t, address+"/v1/payment_intents", "k", c.form)
			require.True(t, again.replayed)
			require.Equal(t, first.status, again.status)
			require.Equal(t, first.body, again.body)
			require.Len(t, simulator.Charges(), c.charges)

			changed := url.Values{"amount": {"501"}, "currency": {"usd"}}
			other := post(t, address+"/v1/payment_intents", "k", changed)
			require.Equal(t, 400, other.status)
			require.Equal(t, "idempotency_error", other.field(t, "error.type"))
			elsewhere := post(t, address+"/v1/payment_intents/pi_x/cancel", "k", c.form)
			require.Equal(t, 400, elsewhere.status, "another path is another request")
			require.Len(t, simulator.Charges(), c.charges)
		})
	}
}

func TestWithoutAKeyEachIsItsOwn(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	for range 2 {
		require.Equal(t, 200, post(t, address+"/v1/payment_intents", "", payment("pm_card_visa")).status)
	}
	require.Len(t, simulator.Charges(), 2)
}

// While the first call of a key is worked on, the others are turned away, and all
// of them together charge once.
func TestConcurrentCallsOfAKey(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	simulator.SetFaults(stripesim.Faults{LatencyMS: 300})
	const calls = 8
	var (
		wg      sync.WaitGroup
		answers [calls]answer
		errs    [calls]error
	)
	for i := range calls {
		wg.Go(func() {
			answers[i], errs[i] = send(http.MethodPost, address+"/v1/payment_intents", "k", payment("pm_card_visa"))
		})
	}
	wg.Wait()
	first, busy := 0, 0
	for i, a := range answers {
		require.NoError(t, errs[i])
		switch {
		case a.status == http.StatusConflict:
			require.Equal(t, "idempotency_key_in_use", a.field(t, "error.code"))
			busy++
		case !a.replayed:
			first++
		}
	}
	require.Equal(t, 1, first)
	require.Positive(t, busy)
	require.Len(t, simulator.Charges(), 1)
	require.True(t, post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa")).replayed)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults  stripesim.Faults
		status  int // 0: the connection is cut
		charges int
	}{
		"500 before":  {stripesim.Faults{ErrorBefore: 1}, 500, 0},
		"500 after":   {stripesim.Faults{ErrorAfter: 1}, 500, 1},
		"too many":    {stripesim.Faults{RateLimited: 1}, 429, 0},
		"cut before":  {stripesim.Faults{CutBefore: 1}, 0, 0},
		"cut after":   {stripesim.Faults{CutAfter: 1}, 0, 1},
		"hang before": {stripesim.Faults{HangBefore: 1}, 0, 0},
		"hang after":  {stripesim.Faults{HangAfter: 1}, 0, 1},
		"just slower": {stripesim.Faults{LatencyMS: 20}, 200, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulator, address := start(t, stripesim.Config{})
			simulator.SetFaults(c.faults)
			patience := 20 * time.Second
			if c.faults.HangBefore+c.faults.HangAfter > 0 {
				patience = 300 * time.Millisecond
			}
			a, err := sendWithin(patience, http.MethodPost, address+"/v1/payment_intents", "k", payment("pm_card_visa"))
			if c.status == 0 {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
				require.Equal(t, c.status, a.status)
			}
			require.Len(t, simulator.Charges(), c.charges)
			simulator.SetFaults(stripesim.Faults{})
			again := post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa"))
			if c.status == 500 {
				require.Equal(t, 500, again.status, "it stays the answer of its key")
			} else {
				require.Equal(t, 200, again.status)
				require.Len(t, simulator.Charges(), 1, "the money is taken once in the end")
			}
		})
	}
}

// A client's patience means nothing to Stripe: what it began it finishes.
func TestSlowCallIsDoneForAClientThatLeft(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	simulator.SetFaults(stripesim.Faults{LatencyMS: 300})
	client := http.Client{Timeout: 50 * time.Millisecond}
	request, err := http.NewRequest(http.MethodPost, address+"/v1/payment_intents", strings.NewReader(payment("pm_card_visa").Encode()))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer sk_test_x")
	request.Header.Set("Idempotency-Key", "k")
	_, err = client.Do(request) //nolint:bodyclose // there is no answer
	require.Error(t, err)
	eventually(t, func() bool { return len(simulator.Charges()) == 1 }, "the charge is made")
}

func TestFaultsAreSetOverHTTP(t *testing.T) {
	t.Parallel()
	_, address := start(t, stripesim.Config{})
	set := func(body string) int {
		response, err := http.Post(address+"/_sim/faults", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, 400, set(`{"latency":5}`), "a misspelt fault is not overlooked")
	require.Equal(t, 200, set(`{"rate_limited":1}`))
	require.Equal(t, 429, get(t, address+"/v1/payment_intents/pi_x").status)
	require.Equal(t, 200, set(`{}`))
	require.Equal(t, 404, get(t, address+"/v1/payment_intents/pi_x").status)
}

func TestTooManyCallsInASecond(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	simulator.SetFaults(stripesim.Faults{CallsPerSecond: 5})
	taken, refused := 0, 0
	for refused == 0 {
		switch a := get(t, address+"/v1/payment_intents"); a.status {
		case http.StatusOK:
			taken++
		case http.StatusTooManyRequests:
			refused++
		}
	}
	require.GreaterOrEqual(t, taken, 5)
	require.GreaterOrEqual(t, simulator.BusiestSecond(), 6)
	require.Equal(t, fmt.Sprint(taken+refused), get(t, address+"/_sim/stats").field(t, "requests"))
	eventually(t, func() bool { return get(t, address+"/v1/payment_intents").status == http.StatusOK }, "a second later")
}
