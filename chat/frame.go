package chat

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// Kinds of frames, see section 5.2 of RFC 6455.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

// encode makes a frame as a server sends it: whole, and without a mask. It is the
// same for everybody who gets it.
func encode(op byte, payload []byte) []byte {
	header := [10]byte{0x80 | op}
	size := 2
	switch n := len(payload); {
	case n < 126:
		header[1] = byte(n)
	case n < 1<<16:
		header[1], size = 126, 4
		binary.BigEndian.PutUint16(header[2:], uint16(n))
	default:
		header[1], size = 127, 10
		binary.BigEndian.PutUint64(header[2:], uint64(n))
	}
	out := make([]byte, 0, size+len(payload))
	return append(append(out, header[:size]...), payload...)
}

// writeTimeout is how long a client may let a frame wait that it is not reading.
const writeTimeout = 10 * time.Second

var errOverflow = errors.New("the client reads too slowly")

// outlet is the writing side of a connection. What the socket takes at once is
// written by whoever has it, without a goroutine; the rest waits in a queue, which
// one goroutine empties for as long as there is something in it.
type outlet struct {
	conn  net.Conn
	raw   syscall.RawConn // nil for a connection that is no socket
	limit int             // bytes that may wait

	mu       sync.Mutex
	queue    [][]byte
	waiting  int  // bytes in the queue
	draining bool // drain runs
	closing  bool
	broken   bool

	// What try writes, and what came of it: here, so that a write allocates nothing.
	frame []byte
	wrote int
	err   error
	try   func(fd uintptr)
}

func newOutlet(conn net.Conn, limit int) *outlet {
	o := &outlet{conn: conn, limit: limit}
	if socket, ok := conn.(syscall.Conn); ok {
		o.raw, _ = socket.SyscallConn() // without it, all is written from the queue
	}
	o.try = o.writeNow
	return o
}

// writeNow is called with a socket that does not block. It never waits, and so has
// no use for what the runtime does before a write that may: deadlines and a lock.
func (o *outlet) writeNow(fd uintptr) {
	for {
		o.wrote, o.err = syscall.Write(int(fd), o.frame)
		if o.err != syscall.EINTR { //nolint:errorlint // the system call returns the value itself
			return
		}
	}
}

// write sends a frame after those before it. errOverflow says that too much waits:
// the frame was not taken.
func (o *outlet) write(frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writeLocked(frame, o.limit)
}

func (o *outlet) writeLocked(frame []byte, limit int) error {
	if o.broken || o.closing {
		return net.ErrClosed
	}
	if o.waiting == 0 && o.raw != nil {
		o.frame, o.wrote, o.err = frame, 0, nil
		if err := o.raw.Control(o.try); err != nil {
			o.err = err
		}
		o.frame = nil
		if o.err != nil && o.err != syscall.EAGAIN { //nolint:errorlint // as above
			o.broken = true
			o.conn.Close()
			return o.err
		}
		if frame = frame[max(o.wrote, 0):]; len(frame) == 0 {
			return nil
		}
	} else if o.waiting+len(frame) > limit {
		return errOverflow
	}
	o.queue = append(o.queue, frame)
	o.waiting += len(frame)
	if !o.draining {
		o.draining = true
		go o.drain()
	}
	return nil
}

// finish sends last frames behind all that waits, and closes the connection when
// they are written. Nothing can be written after it.
func (o *outlet) finish(frames ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, frame := range frames {
		_ = o.writeLocked(frame, o.limit+1<<16) // a connection that is broken needs none
	}
	if o.closing || o.broken {
		return
	}
	o.closing = true
	if !o.draining {
		o.hangUp()
	}
}

// hangUp ends our side: the client reads what was written, then the end. A client
// that does not hang up in turn is cut off when nobody hears of it any more.
func (o *outlet) hangUp() {
	if half, ok := o.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = o.conn.SetReadDeadline(time.Now().Add(closeTimeout)) // it is closed, or will be
		return
	}
	o.conn.Close()
}

// closeTimeout is how long a client may take to hang up.
const closeTimeout = 2 * time.Second

// drain writes the queue until it is empty.
func (o *outlet) drain() {
	for {
		o.mu.Lock()
		if len(o.queue) == 0 || o.broken {
			if o.closing && !o.broken {
				o.hangUp()
			}
			o.queue, o.draining = nil, false
			o.mu.Unlock()
			return
		}
		frame := o.queue[0]
		o.mu.Unlock()
		_ = o.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // the write says what is wrong
		_, err := o.conn.Write(frame)
		o.mu.Lock()
		o.waiting -= len(frame)
		o.queue[0] = nil
		o.queue = o.queue[1:]
		if err != nil {
			o.broken = true
			o.conn.Close()
		}
		o.mu.Unlock()
	}
}
