package webpush_test

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/webpush"
)

// Addresses that a user must not have us connect to. That nothing was dialled shows in
// the result: what cannot be reached is put off, what is refused has failed for good.
func TestAddressesInsideAreRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(c *webpush.Config) { c.AllowLoopback = false })
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
		"192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"[::]", "[::1]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "[fd12:3456:789a::1]", "[ff02::1]", "[2001:db8::1]", "[2001::1]",
		"[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]",
		"[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::]", "[2002:a00:1::1]", "[100::1]", "[3fff::1]",
		"localhost", // a name, whose address the resolver gives when it is dialled
	} {
		for _, port := range []string{"", ":80", ":6379"} {
			b := s.browser(t)
			push := s.due(t, b)
			push.Subscription.Endpoint = "https://" + host + port + "/send/x"
			result, wait, err := s.send(t, push)
			require.ErrorContains(t, err, "no address of the internet", "%s%s", host, port)
			require.Equal(t, livestream.PushFailed, result, "%s%s", host, port)
			require.Zero(t, wait)
		}
	}
}

// Other ports are not dialled, wherever they are.
func TestOtherPortsAreRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(c *webpush.Config) { c.AllowLoopback = false })
	for _, address := range []string{"1.1.1.1:22", "1.1.1.1:80", "1.1.1.1:8443", "[2606:4700::1111]:80", "[2606:4700::1111]:65535"} {
		push := s.due(t, s.browser(t))
		push.Subscription.Endpoint = "https://" + address + "/send/x"
		require.Error(t, push.Subscription.Validate(false), address)
		require.NoError(t, push.Subscription.Validate(true), address)
		result, _, err := s.send(t, push)
		require.ErrorContains(t, err, "at port 443", address)
		require.Equal(t, livestream.PushFailed, result, address)
	}
}

// Without TLS nothing is sent, whatever the address.
func TestOnlyHTTPSIsSpoken(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	var asked atomic.Bool
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	plain := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }), ReadHeaderTimeout: time.Second}
	go plain.Serve(listener)
	t.Cleanup(func() { plain.Close() })
	for _, scheme := range []string{"http", "ftp", "file", ""} {
		push := s.due(t, s.browser(t))
		push.Subscription.Endpoint = scheme + "://" + listener.Addr().String() + "/"
		result, _, err := s.send(t, push)
		require.Error(t, err, scheme)
		require.Equal(t, livestream.PushFailed, result, scheme)
	}
	require.False(t, asked.Load())
}

// A name that stood for an address of the internet when it was given, and stands for
// one inside when it is dialled.
func TestANameThatChangesItsMind(t *testing.T) {
	t.Parallel()
	service := newScene(t, nil)
	strict := newScene(t, func(c *webpush.Config) { c.AllowLoopback, c.Roots = false, service.config.Roots })
	b := service.browser(t)
	push := strict.due(t, b)
	push.Subscription.Endpoint = "https://localhost/send/x"
	require.NoError(t, push.Subscription.Validate(true), "it is a name")
	result, _, err := strict.send(t, push)
	require.ErrorContains(t, err, "no address of the internet")
	require.Equal(t, livestream.PushFailed, result)
	require.Zero(t, b.Tries())
}

// A proxy would dial whatever it is told to.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	var asked atomic.Bool
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Store(true)
		w.WriteHeader(http.StatusBadGateway)
	}), ReadHeaderTimeout: time.Second}
	go proxy.Serve(listener)
	t.Cleanup(func() { proxy.Close() })
	t.Setenv("HTTPS_PROXY", "http://"+listener.Addr().String())
	s := newScene(t, func(c *webpush.Config) { c.AllowLoopback = false })
	push := s.due(t, s.browser(t))
	push.Subscription.Endpoint = "https://10.0.0.1/send/x" // loopback would not be proxied anyway
	result, _, err := s.send(t, push)
	require.Error(t, err)
	require.Equal(t, livestream.PushFailed, result)
	require.False(t, asked.Load())
}
