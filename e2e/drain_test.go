package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// M5: a load balancer sees that the API drains before it is gone.
func TestTheAPIDrainsInSight(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0)
	api := devstack.NewRole(s.env, s.env.Dir, "api", strings.TrimPrefix(s.env.APIURL, "http://"), []string{"api"}, "DRAIN_NOTICE=3s")
	require.NoError(t, api.Launch(s.ctx))
	t.Cleanup(api.Kill)
	status := func(path string) int {
		response, err := http.Get(s.env.APIURL + path)
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, status("/health"))
	began := time.Now()
	require.NoError(t, syscall.Kill(api.Pid(), syscall.SIGTERM))
	s.until("/health says that it drains", func() bool { return status("/health") == http.StatusServiceUnavailable })
	require.Equal(t, http.StatusOK, status("/api/streams"), "new requests are still served")
	s.until("it has ended", func() bool {
		select {
		case <-api.Done():
			return true
		default:
			return false
		}
	})
	require.Greater(t, time.Since(began), 2*time.Second)
}
