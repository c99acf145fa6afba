package webpush_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/webpush"
	"github.com/livestream-pro/livestream-pro/internal/webpush/webpushtest"
)

func keyFile(t *testing.T, key any) string {
	t.Helper()
	content, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: content}), 0o600))
	return file
}

func newKeys(t *testing.T) webpush.Keys {
	t.Helper()
	keys, err := webpush.LoadKeys(webpushtest.KeyFile(t))
	require.NoError(t, err)
	return keys
}

// scene is a sender and a service that it may reach.
type scene struct {
	*webpushtest.Service
	*webpush.Sender
	config   webpush.Config
	registry *prometheus.Registry
}

func newScene(t *testing.T, change func(*webpush.Config)) *scene {
	t.Helper()
	s := &scene{Service: webpushtest.New(t), registry: prometheus.NewRegistry()}
	s.config = webpush.Config{
		Keys: newKeys(t), Contact: "mailto:operator@example.com", AllowLoopback: true, Roots: webpushtest.Roots(s.Service), Registry: s.registry,
	}
	if change != nil {
		change(&s.config)
	}
	var err error
	s.Sender, err = webpush.New(s.config)
	require.NoError(t, err)
	return s
}

func (s *scene) browser(t *testing.T) *webpushtest.Browser {
	return s.Subscribe(t, s.config.Keys.Public)
}

func (s *scene) count(t *testing.T, result livestream.PushResult) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if family.GetName() == "web_pushes_total" && label.GetValue() == string(result) {
					return metric.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// due is a notice for a browser.
func (s *scene) due(t *testing.T, b *webpushtest.Browser) livestream.DuePush {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	return livestream.DuePush{
		Subscription: livestream.PushSubscription{Endpoint: b.Endpoint, Key: b.Key(), Secret: b.Secret(), ServerKey: s.config.Keys.Public},
		Notification: livestream.Notification{ID: id, Type: livestream.NotifyStreamLive, CreatedAt: time.Now(), Data: json.RawMessage(`{"title": "<First> light"}`)},
	}
}

func (s *scene) send(t *testing.T, push livestream.DuePush) (livestream.PushResult, time.Duration, error) {
	t.Helper()
	return s.Send(t.Context(), push)
}

func TestBrowserReadsWhatIsSent(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	b := s.browser(t)
	push := s.due(t, b)
	for range 2 { // the second one is the same to the service, and to the page
		result, _, err := s.send(t, push)
		require.NoError(t, err)
		require.Equal(t, livestream.PushSent, result)
	}
	require.Empty(t, s.Refused())
	got := b.Got()
	require.Len(t, got, 2)
	for _, m := range got {
		require.Equal(t, push.Notification.ID, m.ID)
		require.Equal(t, "stream_live", m.Type)
		require.JSONEq(t, string(push.Notification.Data), string(m.Data))
		require.Equal(t, "high", m.Header.Get("Urgency"))
		require.Equal(t, base64.RawURLEncoding.EncodeToString(push.Notification.ID[:]), m.Header.Get("Topic"))
		require.LessOrEqual(t, len(m.Header.Get("Topic")), 32, "more is refused")
		ttl, err := strconv.Atoi(m.Header.Get("TTL"))
		require.NoError(t, err)
		require.InDelta(t, 3600, ttl, 60)
	}
	require.EqualValues(t, 2, s.count(t, livestream.PushSent))
	require.Equal(t, 1, testutil.CollectAndCount(s.registry, "web_push_duration_seconds"))
}

// The length says nothing of what is in it, and the longest fits.
func TestMessagesHaveOneLength(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	b := s.browser(t)
	for _, message := range []string{"", strings.Repeat("\u0001", 255), strings.Repeat("🎉", 255), strings.Repeat("<", 255)} {
		push := s.due(t, b)
		push.Notification.Type = livestream.NotifyTipReceived
		data, err := json.Marshal(map[string]any{
			"transaction_id": uuid.New(), "user_id": uuid.New(), "amount": livestream.MaxTipAmount, "currency": "usd", "message": message,
		})
		require.NoError(t, err)
		push.Notification.Data = data
		result, _, err := s.send(t, push)
		require.NoError(t, err)
		require.Equal(t, livestream.PushSent, result)
	}
	got := b.Got()
	require.Len(t, got, 4)
	for _, m := range got {
		require.Equal(t, got[0].Size, m.Size)
	}
}

func TestWhatServicesAnswer(t *testing.T) {
	t.Parallel()
	status := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if len(header) > 0 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(status)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   livestream.PushResult
		wait   time.Duration
	}{
		"taken":                     {status(http.StatusAccepted), livestream.PushSent, 0},
		"unknown":                   {status(http.StatusNotFound), livestream.PushDead, 0},
		"gone":                      {status(http.StatusGone), livestream.PushDead, 0},
		"busy":                      {status(http.StatusTooManyRequests, "Retry-After", "7"), livestream.PushLater, 7 * time.Second},
		"busy for very long":        {status(http.StatusTooManyRequests, "Retry-After", "86400"), livestream.PushLater, 2 * time.Minute},
		"busy for no known time":    {status(http.StatusTooManyRequests, "Retry-After", "-1"), livestream.PushLater, time.Second},
		"away":                      {status(http.StatusServiceUnavailable, "Retry-After", "3"), livestream.PushLater, 3 * time.Second},
		"failing":                   {status(http.StatusInternalServerError), livestream.PushLater, time.Second},
		"our fault":                 {status(http.StatusBadRequest), livestream.PushFailed, 0},
		"not our subscription":      {status(http.StatusForbidden), livestream.PushFailed, 0},
		"too large":                 {status(http.StatusRequestEntityTooLarge), livestream.PushFailed, 0},
		"cut":                       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, livestream.PushLater, time.Second},
		"an answer without an end":  {endless, livestream.PushSent, 0},
		"a header without an end":   {manyHeaders, livestream.PushLater, time.Second},
		"redirect is not followed":  {status(http.StatusTemporaryRedirect, "Location", "https://127.0.0.1:1/"), livestream.PushFailed, 0},
		"redirect, in another form": {status(http.StatusMovedPermanently, "Location", "/send/other"), livestream.PushFailed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			b := s.browser(t)
			b.Answer = c.answer
			result, wait, err := s.send(t, s.due(t, b))
			require.Equal(t, c.want, result, "%v", err)
			require.Equal(t, c.wait, wait)
			require.Equal(t, 1, b.Tries())
			require.EqualValues(t, 1, s.count(t, c.want))
			if err != nil {
				require.NotContains(t, err.Error(), "/send/", "the endpoint is the browser's secret")
			}
		})
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusCreated)
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

func manyHeaders(w http.ResponseWriter, _ *http.Request) {
	for i := range 100 {
		w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("x", 1000))
	}
	w.WriteHeader(http.StatusCreated)
}

func TestASlowServiceIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(c *webpush.Config) { c.Timeout = 200 * time.Millisecond })
	b := s.browser(t)
	asked := make(chan struct{}, 1)
	b.Answer = func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done() // not before the client goes away
	}
	result, wait, err := s.send(t, s.due(t, b))
	require.ErrorContains(t, err, "deadline exceeded")
	require.Equal(t, livestream.PushLater, result)
	require.Equal(t, time.Second, wait, "nor is it asked again at once")
	<-asked
}

// A service that asks for a rest is not asked again before it is over, for no
// browser; others are.
func TestAServiceRests(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	busy, other := s.browser(t), s.browser(t)
	busy.Answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	_, _, _ = s.send(t, s.due(t, busy))
	result, wait, err := s.send(t, s.due(t, other))
	require.NoError(t, err)
	require.Equal(t, livestream.PushLater, result)
	require.Positive(t, wait)
	require.Zero(t, other.Tries())
	elsewhere := webpushtest.New(t)
	b := elsewhere.Subscribe(t, s.config.Keys.Public)
	result, _, err = s.send(t, s.due(t, b))
	require.NoError(t, err, "it has the same certificate")
	require.Equal(t, livestream.PushSent, result)
	require.Eventually(t, func() bool {
		result, _, _ := s.Send(t.Context(), s.due(t, other))
		return result == livestream.PushSent
	}, 10*time.Second, 50*time.Millisecond)
}

// A service that fails without saying for how long rests ever longer, and from the
// beginning once it has worked.
func TestAServiceThatFailsRests(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	b, other := s.browser(t), s.browser(t)
	fails := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	b.Answer = fails
	asked := func(tries int) (rest time.Duration) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, rest, _ = s.send(t, s.due(t, b))
			return b.Tries() == tries
		}, 10*time.Second, 20*time.Millisecond)
		return rest
	}
	require.Equal(t, time.Second, asked(1))
	result, wait, err := s.send(t, s.due(t, other))
	require.NoError(t, err)
	require.Equal(t, livestream.PushLater, result)
	require.Positive(t, wait)
	require.Zero(t, other.Tries(), "the host rests, for all its browsers")
	require.Equal(t, 2*time.Second, asked(2))
	b.Answer = nil
	require.Zero(t, asked(3))
	b.Answer = fails
	require.Equal(t, time.Second, asked(4))
}

// Who goes away in the middle says nothing of the service.
func TestAServiceDoesNotRestForAWorkerThatStops(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	b, other := s.browser(t), s.browser(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.Answer = func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	result, _, err := s.Send(ctx, s.due(t, b))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, livestream.PushLater, result)
	result, _, err = s.send(t, s.due(t, other))
	require.NoError(t, err)
	require.Equal(t, livestream.PushSent, result)
}

func TestWhatIsTooLateIsNotSent(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	b := s.browser(t)
	for kind, keep := range map[livestream.NotificationType]time.Duration{
		livestream.NotifyStreamLive: time.Hour, livestream.NotifyTipReceived: 24 * time.Hour,
		livestream.NotifyNewFollower: 24 * time.Hour, livestream.NotifyArchiveReady: 24 * time.Hour,
	} {
		push := s.due(t, b)
		push.Notification.Type, push.Notification.CreatedAt = kind, time.Now().Add(-keep)
		result, _, err := s.send(t, push)
		require.NoError(t, err)
		require.Equal(t, livestream.PushExpired, result, kind)
		push.Notification.CreatedAt = time.Now().Add(-keep + time.Minute)
		result, _, err = s.send(t, push)
		require.NoError(t, err)
		require.Equal(t, livestream.PushSent, result, kind)
	}
	for _, m := range b.Got() {
		ttl, err := strconv.Atoi(m.Header.Get("TTL"))
		require.NoError(t, err)
		require.LessOrEqual(t, ttl, 60, "only as long as it is of use")
	}
}

// A browser is pushed to with the key that it subscribed with, for as long as we have
// it.
func TestKeysAreReplaced(t *testing.T) {
	t.Parallel()
	old, current := webpushtest.KeyFile(t), webpushtest.KeyFile(t)
	before, err := webpush.LoadKeys(old)
	require.NoError(t, err)
	both, err := webpush.LoadKeys(current, old)
	require.NoError(t, err)
	require.NotEqual(t, before.Public, both.Public)
	s := newScene(t, func(c *webpush.Config) { c.Keys = both })
	for _, key := range []string{before.Public, both.Public} {
		b := s.Subscribe(t, key)
		push := s.due(t, b)
		push.Subscription.ServerKey = key
		result, _, err := s.send(t, push)
		require.NoError(t, err)
		require.Equal(t, livestream.PushSent, result)
	}
	b := s.Subscribe(t, newKeys(t).Public)
	push := s.due(t, b)
	push.Subscription.ServerKey = newKeys(t).Public
	result, _, err := s.send(t, push)
	require.ErrorContains(t, err, "not ours")
	require.Equal(t, livestream.PushFailed, result)
	require.Zero(t, b.Tries())
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	_, wrong, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("no key"), 0o600))
	for file, message := range map[string]string{
		keyFile(t, wrong): "not of P-256", keyFile(t, p384): "not of P-256", text: "not PEM", text + "x": "no such file",
	} {
		_, err := webpush.LoadKeys(file)
		require.ErrorContains(t, err, message)
		_, err = webpush.LoadKeys(webpushtest.KeyFile(t), file)
		require.ErrorContains(t, err, message)
	}
	for _, contact := range []string{"", "operator@example.com", "mailto:", "http://example.com"} {
		_, err := webpush.New(webpush.Config{Keys: newKeys(t), Contact: contact, Registry: prometheus.NewRegistry()})
		require.ErrorContains(t, err, "contact", contact)
	}
}

func TestSendingHasARate(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(c *webpush.Config) { c.PerSecond = 1 })
	b := s.browser(t)
	result, _, err := s.send(t, s.due(t, b))
	require.NoError(t, err)
	require.Equal(t, livestream.PushSent, result)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	result, _, err = s.Send(ctx, s.due(t, b))
	require.Error(t, err, "the next one's turn is later")
	require.Equal(t, livestream.PushLater, result)
	require.Equal(t, 1, b.Tries())
}
