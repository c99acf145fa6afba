package chat

import (
	"bufio"
	"encoding/base64"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// hijacked is a connection that was taken from net/http: whoever upgrades it gets
// it once more. net/http's goroutine, its request and its buffers of 8 KB are
// gone by then.
type hijacked struct {
	conn   *quiet
	header http.Header
}

// quiet is a connection as melody has it. Once it is silenced, what melody writes
// goes nowhere, and what it closes stays open: writing is the outlet's, and closing
// too. So melody's writer can be told that it is over, which saves its goroutine and
// its ticker, while its reader goes on.
type quiet struct {
	net.Conn
	silenced atomic.Bool
}

func (q *quiet) Write(b []byte) (int, error) {
	if q.silenced.Load() {
		return len(b), nil
	}
	return q.Conn.Write(b)
}

func (q *quiet) SetWriteDeadline(t time.Time) error {
	if q.silenced.Load() {
		return nil
	}
	return q.Conn.SetWriteDeadline(t)
}

func (q *quiet) Close() error {
	if q.silenced.Load() {
		return nil
	}
	return q.Conn.Close()
}

func (h *hijacked) Header() http.Header         { return h.header }
func (h *hijacked) Write(b []byte) (int, error) { return h.conn.Write(b) }
func (h *hijacked) WriteHeader(int)             {}

// Hijack gives buffers as small as they can be: the upgrader writes its answer from
// one, and has its own to read.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, 16), bufio.NewWriterSize(h.conn, 512)), nil
}

// handshakeHeaders are those that an upgrade reads.
var handshakeHeaders = []string{"Connection", "Upgrade", "Sec-Websocket-Version", "Sec-Websocket-Key", "Sec-Websocket-Protocol"}

// handshake checks what the upgrader would, while the client can still be answered,
// and gives a request that is no larger than the upgrade needs.
func handshake(r *http.Request) (*http.Request, string) {
	if !websocket.IsWebSocketUpgrade(r) {
		return nil, "this address is for WebSockets"
	}
	if r.Method != http.MethodGet || r.Header.Get("Sec-Websocket-Version") != "13" {
		return nil, "WebSockets of version 13 are spoken here"
	}
	if key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key")); err != nil || len(key) != 16 {
		return nil, "Sec-WebSocket-Key is 16 bytes in base64"
	}
	small := &http.Request{Method: http.MethodGet, Header: make(http.Header, len(handshakeHeaders))}
	for _, name := range handshakeHeaders {
		if values := r.Header[name]; len(values) > 0 {
			small.Header[name] = values
		}
	}
	return small, ""
}
