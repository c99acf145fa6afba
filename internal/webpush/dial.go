package webpush

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"code.dny.dev/ssrf"
)

// dialer connects to the addresses of the internet alone. Endpoints come from users,
// and what their names stand for is known, and may change, when they are dialled: so
// that each address is looked at then, just before its connection is made. An address
// of IPv4 in the clothes of IPv6 is refused whatever it is, and so is any port but 443: push
// services have no other, and what listens elsewhere is none.
//
// With loopback this machine may be dialled too, and any port, for tests and development.
func dialer(loopback bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	options := []ssrf.Option{ssrf.WithPorts(443)}
	if loopback {
		options = append(options, ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.0/8")), ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("::1/128")))
	}
	d := &net.Dialer{Timeout: 3 * time.Second, Control: ssrf.New(options...).Safe}
	return d.DialContext
}

// refused says whether an error is the dialer's refusal.
func refused(err error) bool {
	return errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedPort) || errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrInvalidHostPort)
}
