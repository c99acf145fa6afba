package testenv

import (
	"context"
	"net/url"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// Proxy stands between a test and a real server, and can be cut.
type Proxy struct {
	tb    testing.TB
	proxy *toxiproxy.Proxy
}

// NewProxy gives a proxy before the server of that URL, and the URL that leads
// through it.
func NewProxy(tb testing.TB, address string) (*Proxy, string) {
	tb.Helper()
	u, err := url.Parse(address)
	require.NoError(tb, err)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{tb: tb, proxy: toxiproxy.NewProxy(server, "test", "127.0.0.1:0", u.Host)}
	p.Restore()
	tb.Cleanup(p.proxy.Stop)
	u.Host = p.proxy.Listen
	return p, u.String()
}

// Cut closes all connections and refuses new ones.
func (p *Proxy) Cut() { p.proxy.Stop() }

// To leads to another server from the next Restore on.
func (p *Proxy) To(address string) { p.proxy.Upstream = address }

// Restore lets connections through again.
func (p *Proxy) Restore() {
	p.tb.Helper()
	require.NoError(p.tb, p.proxy.Start())
}

// Freeze lets nothing through, and keeps connections open: a server that hangs, or
// a network that swallows.
func (p *Proxy) Freeze() {
	p.tb.Helper()
	for _, toxic := range []string{
		`{"name": "up", "type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}`,
		`{"name": "down", "type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`,
	} {
		_, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
		require.NoError(p.tb, err)
	}
}

// Thaw ends Freeze, and the connections that were frozen.
func (p *Proxy) Thaw() {
	p.Cut()
	p.proxy.Toxics.ResetToxics(context.Background())
	p.Restore()
}
