package stripesim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// childJournal makes this test program a simulator in a process of its own, which
// can be killed.
const childJournal = "STRIPESIM_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if journal := os.Getenv(childJournal); journal != "" {
		fmt.Fprintln(os.Stderr, serveAlone(journal, os.Getenv("STRIPESIM_TEST_WEBHOOKS")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveAlone prints its address and serves until it is killed.
func serveAlone(journal, webhooks string) error {
	simulator, err := stripesim.New(stripesim.Config{WebhookURL: webhooks, WebhookSecret: secret, Journal: journal})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	return http.Serve(listener, simulator)
}

const secret = "whsec_test"

// start serves a simulator over HTTP until the test ends.
func start(tb testing.TB, config stripesim.Config) (*stripesim.Server, string) {
	tb.Helper()
	config.WebhookSecret = secret
	simulator, err := stripesim.New(config)
	require.NoError(tb, err)
	server := httptest.NewServer(simulator)
	tb.Cleanup(func() {
		simulator.Close()
		server.Close()
	})
	return simulator, server.URL
}

// answer is what came back.
type answer struct {
	status   int
	replayed bool
	body     string
}

// field digs in the body.
func (a answer) field(tb testing.TB, path string) string {
	tb.Helper()
	var value any
	require.NoError(tb, json.Unmarshal([]byte(a.body), &value), a.body)
	for _, key := range strings.Split(path, ".") {
		object, ok := value.(map[string]any)
		require.True(tb, ok, "%s in %s", path, a.body)
		value = object[key]
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

// send calls the API; an error is a connection that was cut.
func send(method, address, key string, form url.Values) (answer, error) {
	return sendWithin(20*time.Second, method, address, key, form)
}

func sendWithin(patience time.Duration, method, address, key string, form url.Values) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	// Go's client sends again what has a key and can be read again; here each cut
	// connection is to be seen.
	request.GetBody = nil
	request.Close = true
	request.Header.Set("Authorization", "Bearer sk_test_x")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, replayed: response.Header.Get("Idempotent-Replayed") == "true", body: string(body)}, err
}

func post(tb testing.TB, address, key string, form url.Values) answer {
	tb.Helper()
	a, err := send(http.MethodPost, address, key, form)
	require.NoError(tb, err)
	return a
}

func get(tb testing.TB, address string) answer {
	tb.Helper()
	a, err := send(http.MethodGet, address, "", nil)
	require.NoError(tb, err)
	return a
}

// payment is a PaymentIntent that is confirmed at once.
func payment(method string) url.Values {
	form := url.Values{"amount": {"500"}, "currency": {"usd"}, "metadata[transaction_id]": {"t1"}}
	if method != "" {
		form.Set("payment_method", method)
		form.Set("confirm", "true")
	}
	return form
}

// received is an event that was delivered.
type received struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		Object struct {
			ID       string            `json:"id"`
			Amount   int64             `json:"amount"`
			Status   string            `json:"status"`
			Metadata map[string]string `json:"metadata"`
		} `json:"object"`
	} `json:"data"`
	signature string
	body      []byte
}

// inbox takes webhooks.
type inbox struct {
	URL string

	mu     sync.Mutex
	events []received
	refuse bool
	tries  int
}

func newInbox(tb testing.TB) *inbox {
	tb.Helper()
	in := &inbox{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		e := received{signature: r.Header.Get("Stripe-Signature"), body: body}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.tries++
		if err != nil || in.refuse || json.Unmarshal(body, &e) != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		in.events = append(in.events, e)
	}))
	tb.Cleanup(server.Close)
	in.URL = server.URL
	return in
}

func (in *inbox) setRefuse(refuse bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.refuse = refuse
}

func (in *inbox) attempts() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.tries
}

// of gives the events of a type, in the order in which they came.
func (in *inbox) of(kind string) []received {
	in.mu.Lock()
	defer in.mu.Unlock()
	var found []received
	for _, e := range in.events {
		if e.Type == kind {
			found = append(found, e)
		}
	}
	return found
}

func eventually(tb testing.TB, condition func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, condition, 30*time.Second, 10*time.Millisecond, what)
}

// paid makes a payment and gives its PaymentIntent's id.
func paid(tb testing.TB, address, method string) string {
	tb.Helper()
	a := post(tb, address+"/v1/payment_intents", "", payment(method))
	require.Equal(tb, "succeeded", a.field(tb, "status"), a.body)
	return a.field(tb, "id")
}

// list gives the ids on a page, and whether there is more.
func list(tb testing.TB, address string) (ids []string, more bool) {
	tb.Helper()
	a := get(tb, address)
	require.Equal(tb, 200, a.status, a.body)
	var page struct {
		Data []struct{ ID string }
		More bool `json:"has_more"`
	}
	require.NoError(tb, json.Unmarshal([]byte(a.body), &page))
	for _, o := range page.Data {
		ids = append(ids, o.ID)
	}
	return ids, page.More
}
