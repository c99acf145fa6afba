package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dialing is how many connections a generator opens at once.
	dialing = 64
	// dialPause is before a connection that was refused is tried again, which is what
	// Retry-After says at least; dialTries is how often.
	dialPause = time.Second
	dialTries = 10
	// largestFrame is more than a node sends at once.
	largestFrame = 1 << 20
)

// audience is a generator's viewers. One thread opens and reads them all: two CPUs
// have both sides of 50,000 connections, and a goroutine for each, woken for each
// frame, costs more than the writing that is measured.
type audience struct {
	counts  *viewerCounts
	source  netip.Addr
	poll    int
	viewers []*viewer // by descriptor
	buffer  []byte
}

// viewer is one connection. A library would cost more than what is measured.
type viewer struct {
	target   generatorTarget
	tries    int
	fd       int
	upgraded bool
	welcomed bool
	rest     []byte // of a frame that has not come whole
	last     int64
	skip     int // from a message's id to its nonce, in the last one
}

// watch opens all connections, says so once each has been welcomed, and reads them
// until the process ends. A connection that breaks after its welcome is lost.
func (c *viewerCounts) watch(orders generatorOrders, connected func(int)) error {
	source, err := netip.ParseAddr(orders.Source)
	if err != nil {
		return err
	}
	a := &audience{counts: c, source: source, buffer: make([]byte, largestFrame)}
	if a.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("watch sockets: %w", err)
	}
	waiting := make([]*viewer, 0, len(orders.Targets))
	for _, target := range orders.Targets {
		waiting = append(waiting, &viewer{target: target})
	}
	var refused []*viewer // to be tried again
	again := time.NewTicker(dialPause)
	defer again.Stop()
	events := make([]unix.EpollEvent, 512)
	for underway, welcomed, retried := 0, 0, 0; ; {
		for ; len(waiting) > 0 && underway < dialing; waiting = waiting[1:] {
			if err := a.dial(waiting[0]); err != nil {
				return err
			}
			underway++
		}
		n, err := unix.EpollWait(a.poll, events, int(dialPause.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for sockets: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			v := a.viewers[e.Fd]
			was := v.welcomed
			err := a.read(v)
			switch {
			case err != nil && v.welcomed:
				c.lost.Add(1)
				a.hangUp(v)
			case err != nil:
				a.hangUp(v)
				if underway--; v.tries == dialTries {
					return err
				}
				refused = append(refused, v)
				retried++
			case v.welcomed && !was:
				underway--
				if welcomed++; welcomed == len(orders.Targets) {
					if retried > 0 {
						fmt.Fprintln(os.Stderr, retried, "connections were tried again")
					}
					connected(welcomed)
				}
			}
		}
		select {
		case <-again.C:
			waiting, refused = append(waiting, refused...), nil
		default:
		}
	}
}

// dial connects and asks for the upgrade. On loopback neither waits.
func (a *audience) dial(v *viewer) error {
	to, err := netip.ParseAddrPort(v.target.Address)
	if err != nil {
		return err
	}
	v.tries++
	v.upgraded, v.rest, v.last = false, nil, 0
	if v.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	request := "GET " + v.target.Path + " HTTP/1.1\r\nHost: " + v.target.Address +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: livestream.v1\r\n\r\n"
	// The port is chosen when it is known where to: ports of one address are too few
	// for all nodes.
	err = unix.SetsockoptInt(v.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err == nil {
		err = unix.Bind(v.fd, &unix.SockaddrInet4{Addr: a.source.As4()})
	}
	if err == nil {
		err = unix.Connect(v.fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	}
	if err == nil {
		_, err = unix.Write(v.fd, []byte(request))
	}
	if err == nil {
		err = unix.SetNonblock(v.fd, true)
	}
	if err == nil {
		a.viewers = append(a.viewers, make([]*viewer, max(0, v.fd+1-len(a.viewers)))...)
		a.viewers[v.fd] = v
		// Edges are enough: what has come is read whole.
		err = unix.EpollCtl(a.poll, unix.EPOLL_CTL_ADD, v.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(v.fd)})
	}
	if err != nil {
		_ = unix.Close(v.fd) // it was only read from
		return fmt.Errorf("connect to %s: %w", v.target.Address, err)
	}
	return nil
}

func (a *audience) hangUp(v *viewer) {
	a.viewers[v.fd] = nil
	_ = unix.Close(v.fd) // it was only read from
}

// read takes what has come apart.
func (a *audience) read(v *viewer) error {
	filled := copy(a.buffer, v.rest)
	n, err := unix.Read(v.fd, a.buffer[filled:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n <= 0:
		return io.EOF
	}
	content := a.buffer[:filled+n]
	if !v.upgraded {
		if end := bytes.Index(content, []byte("\r\n\r\n")); end >= 0 {
			if !bytes.HasPrefix(content, []byte("HTTP/1.1 101")) {
				return fmt.Errorf("refused: %s", content)
			}
			v.upgraded, content = true, content[end+4:]
		}
	}
	for v.upgraded {
		op, payload, size := frameIn(content)
		if size == 0 || size > len(content) {
			break
		}
		content = content[size:]
		switch op {
		case 1:
			v.events(payload, a.counts)
		case 8:
			return io.EOF
		case 9: // a pong without a payload, masked with zeros
			if _, err := unix.Write(v.fd, []byte{0x8A, 0x80, 0, 0, 0, 0}); err != nil {
				return err
			}
		}
	}
	v.rest = append(v.rest[:0], content...)
	return nil
}

// events notes when each message came, and whether one is missing before it.
func (v *viewer) events(payload []byte, c *viewerCounts) {
	if !v.welcomed {
		if i := bytes.Index(payload, fromField); i >= 0 {
			v.last = numberAt(payload[i+len(fromField):])
		}
		v.welcomed = true
	}
	now := time.Now().UnixNano()
	for {
		i := bytes.Index(payload, idField)
		if i < 0 {
			return
		}
		payload = payload[i+len(idField):]
		if payload[0] == '"' {
			continue // a member's id
		}
		id := numberAt(payload)
		switch {
		case id <= v.last:
			c.doubled.Add(1)
		case v.last > 0 && id > v.last+1:
			c.lost.Add(id - v.last - 1)
		}
		v.last = max(v.last, id)
		// Messages are about the same, and looking for the field would cost as much as
		// reading from the socket.
		if v.skip >= len(payload) || !bytes.HasPrefix(payload[v.skip:], nonceField) {
			if v.skip = bytes.Index(payload, nonceField); v.skip < 0 {
				v.skip = 0
				continue
			}
		}
		payload = payload[v.skip+len(nonceField):]
		c.times[bucketOf(time.Duration(now-numberAt(payload)))].Add(1)
		c.deliveries.Add(1)
	}
}
