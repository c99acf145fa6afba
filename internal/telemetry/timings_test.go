package telemetry_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// slow takes as long as the request says. These times are what is measured, by the
// clock of synctest: nobody waits for them.
type slow struct{}

func (slow) RoundTrip(r *http.Request) (*http.Response, error) {
	takes, err := time.ParseDuration(r.URL.Host)
	if err != nil {
		return nil, err
	}
	time.Sleep(takes)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

func TestCallsSideBySideCountOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		external, err := telemetry.NewExternal(prometheus.NewRegistry(), noop.NewTracerProvider())
		require.NoError(t, err)
		client := &http.Client{Transport: external.Transport("s3")(slow{})}
		ctx := telemetry.WithTimings(t.Context())
		var calls sync.WaitGroup
		call := func(after time.Duration, takes string) {
			calls.Add(1)
			go func() {
				defer calls.Done()
				time.Sleep(after)
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+takes, nil)
				if err != nil {
					panic(err)
				}
				if response, err := client.Do(request); err == nil {
					response.Body.Close()
				}
			}()
		}
		call(0, "100ms")
		call(50*time.Millisecond, "100ms") // overlaps the first
		call(80*time.Millisecond, "10ms")  // lies within both
		call(time.Second, "30ms")          // comes after a pause that belongs to nobody

		time.Sleep(120 * time.Millisecond)
		require.Equal(t, telemetry.Timings{External: 120 * time.Millisecond}, telemetry.TimingsOf(ctx), "calls under way count so far")
		calls.Wait()
		require.Equal(t, telemetry.Timings{External: 180 * time.Millisecond}, telemetry.TimingsOf(ctx))
	})
}

func TestNothingIsTimedOutsideARequest(t *testing.T) {
	t.Parallel()
	require.Zero(t, telemetry.TimingsOf(context.Background()))
	external, err := telemetry.NewExternal(prometheus.NewRegistry(), noop.NewTracerProvider())
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://1ns", nil)
	require.NoError(t, err)
	response, err := external.Transport("s3")(slow{}).RoundTrip(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Zero(t, telemetry.TimingsOf(request.Context()))
}

// What one request does is not another's.
func TestRequestsAreTimedApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		external, err := telemetry.NewExternal(prometheus.NewRegistry(), noop.NewTracerProvider())
		require.NoError(t, err)
		one, other := telemetry.WithTimings(t.Context()), telemetry.WithTimings(t.Context())
		request, err := http.NewRequestWithContext(one, http.MethodGet, "http://1s", nil)
		require.NoError(t, err)
		response, err := external.Transport("s3")(slow{}).RoundTrip(request)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, time.Second, telemetry.TimingsOf(one).External)
		require.Zero(t, telemetry.TimingsOf(other))
	})
}
