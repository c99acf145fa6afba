package chat_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// clientFrame is a frame with all that a client may choose of it.
func clientFrame(head byte, masked bool, payload []byte) []byte {
	b, mask := []byte{head}, byte(0)
	if masked {
		mask = 0x80
	}
	if n := len(payload); n < 126 {
		b = append(b, mask|byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	}
	if masked {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

// What no client of ours sends ends the connection that sends it, and no other. It is
// never said in the chat.
func TestFramesThatBreakTheProtocol(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream, member := w.stream(t).ID, w.member(t)
	bystander := w.chat(t, n, stream, nil)
	said := []byte(`{"type":"message","text":"said by an attacker"}`)
	const final, text, ping = 0x80, 0x1, 0x9
	half := bytes.Repeat([]byte(" "), 5<<10)
	for name, attack := range map[string]struct {
		frames []byte
		status int
	}{
		"not masked":                 {clientFrame(final|text, false, said), 1002},
		"a reserved bit":             {clientFrame(final|0x40|text, true, said), 1002},
		"an unknown kind":            {clientFrame(final|0x3, true, said), 1002},
		"nothing that it continues":  {clientFrame(final, true, said), 1002},
		"a long ping":                {clientFrame(final|ping, true, half[:200]), 1002},
		"a ping in pieces":           {clientFrame(ping, true, nil), 1002},
		"too long in pieces":         {append(clientFrame(text, true, half), clientFrame(final, true, half)...), 1009},
		"a length beyond all memory": {append([]byte{final | text, 0x80 | 127}, bytes.Repeat([]byte{0x7f}, 12)...), 1009},
	} {
		t.Run(name, func(t *testing.T) {
			ticket := w.ticket(t, member, livestream.TicketChat, stream)
			conn, reader := handshaken(t, n, "/ws/streams/"+stream.String()+"/chat?ticket="+url.QueryEscape(ticket))
			_, err := conn.Write(attack.frames)
			require.NoError(t, err)
			content, err := io.ReadAll(reader) // up to the end, which comes
			require.NoError(t, err)
			closing := binary.BigEndian.AppendUint16(nil, uint16(attack.status))
			require.True(t, bytes.Contains(content, closing), "closed with %d: %q", attack.status, content)
		})
	}
	w.append(t, stream, "1")
	require.Equal(t, []string{"1"}, bystander.texts(0, 1))
}

// A client that speaks before it was answered might be a page that makes a proxy pass
// on what it wants: it is cut off.
func TestNobodySpeaksBeforeTheHandshakeIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t).ID
	conn := dialled(t, n)
	_, err := fmt.Fprintf(conn, "%s%s", handshakeOf("/ws/streams/"+stream.String()+"/chat"), clientFrame(0x81, true, []byte(`{"type":"message","text":"early"}`)))
	require.NoError(t, err)
	content, _ := io.ReadAll(conn) // it may be cut off with what it wrote unread
	require.Empty(t, string(content))
	w.chat(t, n, stream, nil)
}

// A connection that came in and cannot be served is told when to come back.
func TestWhoComesWhileRedisIsAwayComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, redisURL := testenv.NewProxy(t, w.redisURL)
	n := w.nodeAt(t, fast, redisURL, nil)
	stream := w.stream(t).ID
	w.chat(t, n, stream, nil) // the room is there
	proxy.Cut()
	opened, err := client.Dial(w.ctx, n.address("/ws/streams/"+stream.String()+"/chat", url.Values{"since": {"0"}}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = opened.Close() })
	bye := (&socket{Socket: opened, tb: t}).closed()
	require.Equal(t, "unavailable", bye.Code)
	require.Positive(t, bye.ReconnectAfterMS)
	proxy.Restore()
	require.True(t, w.chat(t, n, stream, nil, "since", "0").welcome.Recovered)
}

func handshakeOf(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
}

func dialled(t *testing.T, n *node) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.http.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// handshaken is a WebSocket without a library.
func handshaken(t *testing.T, n *node, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn := dialled(t, n)
	_, err := io.WriteString(conn, handshakeOf(path))
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	return conn, reader
}
