package chat

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hasty is a socket whose deadlines come twenty times sooner.
type hasty struct {
	*net.TCPConn
	latest atomic.Int64
}

func (h *hasty) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() {
		t = time.Now().Add(time.Until(t) / 20)
		h.latest.Store(t.UnixNano())
	}
	return h.TCPConn.SetWriteDeadline(t)
}

// A client that was slow once is written to for as long as it stays: the deadline of
// what it let wait is not that of what comes after.
func TestADeadlineEndsWithTheQueue(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	accepted, err := listener.Accept()
	require.NoError(t, err)
	conn := &hasty{TCPConn: accepted.(*net.TCPConn)}
	defer conn.Close()

	out := newOutlet(conn, 64<<20)
	idle := func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		return !out.draining
	}
	frame, sent := bytes.Repeat([]byte("x"), 64<<10), 0
	for idle() {
		require.NoError(t, out.write(frame))
		sent += len(frame)
	}
	_, err = io.CopyN(io.Discard, client, int64(sent))
	require.NoError(t, err)
	require.Eventually(t, idle, 10*time.Second, time.Millisecond)
	past := time.Unix(0, conn.latest.Load())
	require.Eventually(t, func() bool { return time.Now().After(past) }, 10*time.Second, 10*time.Millisecond)

	require.NoError(t, out.write([]byte("later")))
	got := make([]byte, len("later"))
	_, err = io.ReadFull(client, got)
	require.NoError(t, err)
	require.Equal(t, "later", string(got))
}
