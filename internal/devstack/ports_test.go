package devstack

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestATakenPortIsToldBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	free := func() int {
		listener, err := listenAnywhere(t.Context())
		require.NoError(t, err)
		defer listener.Close()
		return listener.Addr().(*net.TCPAddr).Port
	}
	for _, c := range []struct {
		what, variable string
		set            func(*Ports, int)
	}{
		{"the API", "API_PORT", func(p *Ports, port int) { p.API = port }},
		{"chat", "CHAT_PORT", func(p *Ports, port int) { p.Chat = port }},
		{"Temporal's UI", "TEMPORAL_UI_PORT", func(p *Ports, port int) { p.TemporalUI = port }},
		{"Postgres", "POSTGRES_PORT", func(p *Ports, port int) { p.Postgres = port }},
	} {
		taken, err := listenAnywhere(t.Context())
		require.NoError(t, err)
		ports := Ports{
			API: free(), Chat: free(), Temporal: free(), TemporalUI: free(), Postgres: free(), Redis: free(), S3: free(), Stripe: free(), Worker: free(),
		}
		port := taken.Addr().(*net.TCPAddr).Port
		c.set(&ports, port)
		_, err = claim(t.Context(), Options{Ports: ports, ChatNodes: 1})
		require.EqualError(t, err, fmt.Sprintf("port %d, for %s, is taken; stop what listens there, or choose another one in the environment: %s=%d",
			port, c.what, c.variable, port+1000))
		require.NoError(t, taken.Close())
	}
}

func TestTestStacksTakePortsThatDiffer(t *testing.T) {
	t.Parallel()
	p, err := claim(t.Context(), Options{Test: true, Replicas: 2, ChatNodes: 2})
	require.NoError(t, err)
	seen := map[int]bool{}
	for _, port := range append(append([]int{p.api, p.temporal, p.temporalUI, p.postgres, p.redis, p.s3, p.stripe, p.worker, p.transcode}, p.chat...), p.replicas...) {
		require.NotZero(t, port)
		require.False(t, seen[port], "port %d is given twice", port)
		seen[port] = true
	}
}
