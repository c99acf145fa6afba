package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/olahol/melody"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/clients/go/chat"
)

// benchText makes a message's event about as long as a chat's are.
var benchText = strings.Repeat("x", 200)

// talk lets one member speak in each stream at times that are set beforehand,
// whether or not answers have come. A message's nonce is the time when it was due.
func (b *benchChat) talk(ctx context.Context, nodes []*benchProcess, streams []uuid.UUID, rate int) (int64, error) {
	const speakers = 4 // of one stream, so that one connection is not the limit
	var (
		running sync.WaitGroup
		sent    atomic.Int64
		failed  atomic.Int64
	)
	ctx, cancel := context.WithTimeout(ctx, b.Duration+15*time.Second)
	defer cancel()
	began := time.Now().Add(2 * time.Second)
	for i, stream := range streams {
		owner := b.owners[i]
		if len(streams) == 1 {
			owner = b.owners[len(b.owners)-1]
		}
		for s := range min(speakers, rate) {
			node := nodes[(i+s)%len(nodes)].address
			client, err := chat.New(chat.Config{Address: func(ctx context.Context) (string, error) {
				if len(nodes) == 1 {
					return "ws://" + node + "/ws/" + stream.String() + "?speaker=1", nil
				}
				ticket, err := b.tickets.Issue(ctx, livestream.Ticket{
					Purpose: livestream.TicketChat, StreamID: stream, Identity: livestream.Identity{UserID: owner.ID, Role: owner.Role, FamilyID: owner.ID},
				})
				return "ws://" + node + "/ws/streams/" + stream.String() + "/chat?ticket=" + url.QueryEscape(ticket), err
			}})
			if err != nil {
				return 0, err
			}
			life, hangUp := context.WithCancel(ctx)
			go func() { _ = client.Run(life) }()
			running.Go(func() {
				defer hangUp()
				var messages sync.WaitGroup
				every := time.Second * time.Duration(min(speakers, rate)) / time.Duration(rate)
				first := began.Add(every * time.Duration(s) / speakers).Add(every * time.Duration(i) / time.Duration(len(streams)))
				for due := first; due.Before(began.Add(b.Duration)); due = due.Add(every) {
					time.Sleep(time.Until(due))
					messages.Go(func() {
						if err := client.SendNonce(ctx, benchText, strconv.FormatInt(due.UnixNano(), 10)); err != nil {
							if failed.Add(1) == 1 {
								fmt.Println("a message was not taken:", err)
							}
							return
						}
						sent.Add(1)
					})
				}
				messages.Wait()
			})
		}
	}
	running.Wait()
	if n := failed.Load(); n > 0 {
		fmt.Println(n, "messages were not taken")
	}
	return sent.Load(), nil
}

// generatorOrders are where a generator connects to, and from which address.
type generatorOrders struct {
	Source  string            `json:"source"`
	Targets []generatorTarget `json:"targets"`
}

type generatorTarget struct {
	Address string `json:"address"`
	Path    string `json:"path"`
}

// generatorReport is what viewers got since they were asked last.
type generatorReport struct {
	Deliveries int64     `json:"deliveries"`
	Lost       int64     `json:"lost"`
	Doubled    int64     `json:"doubled"`
	Times      histogram `json:"times"`
}

// histogram counts times in steps of about 3 %.
type histogram [64 * 32]int64

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 32))
	top := bits.Len64(n) - 6
	return top*32 + int(n>>top)&31
}

func (h *histogram) add(other histogram) {
	for i, n := range other {
		h[i] += n
	}
}

// at is a quantile, in milliseconds.
func (h *histogram) at(q float64) float64 {
	var all int64
	for _, n := range h {
		all += n
	}
	left := max(int64(q*float64(all)), 1)
	for i, n := range h {
		if left -= n; n > 0 && left <= 0 {
			top := i / 32
			return float64(uint64(32+i%32)<<top) / 1e6
		}
	}
	return 0
}

// generatorCmd is viewers in a process of their own. It is told what to do on its
// standard input, and answers on its standard output.
type generatorCmd struct {
	Number int `arg:""`

	deliveries, lost, doubled, again atomic.Int64
	times                            [64 * 32]atomic.Int64
}

// Run obeys until its input ends.
func (c *generatorCmd) Run(ctx context.Context) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	if !in.Scan() {
		return in.Err()
	}
	var orders generatorOrders
	if err := json.Unmarshal(in.Bytes(), &orders); err != nil {
		return err
	}
	fmt.Println("ready")
	for in.Scan() {
		switch in.Text() {
		case "connect":
			fmt.Println(c.connect(ctx, orders))
		case "reset":
			c.report()
			fmt.Println("ok")
		case "report":
			content, err := json.Marshal(c.report())
			if err != nil {
				return err
			}
			fmt.Println(string(content))
		}
	}
	return in.Err()
}

func (c *generatorCmd) report() (r generatorReport) {
	r.Deliveries, r.Lost, r.Doubled = c.deliveries.Swap(0), c.lost.Swap(0), c.doubled.Swap(0)
	for i := range c.times {
		r.Times[i] = c.times[i].Swap(0)
	}
	return r
}

// dialing is how many connections a generator opens at once.
const dialing = 64

// connect opens all connections, and says how many there are once all have been
// welcomed.
func (c *generatorCmd) connect(ctx context.Context, orders generatorOrders) string {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(orders.Source)}, Timeout: 30 * time.Second}
	var (
		welcomed sync.WaitGroup
		failed   atomic.Pointer[error]
		next     atomic.Int64
		workers  sync.WaitGroup
	)
	for range dialing {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(orders.Targets) {
					return
				}
				welcomed.Add(1)
				for try := 0; ; try++ {
					err := c.view(ctx, dialer, orders.Targets[i], welcomed.Done)
					if err == nil {
						break
					}
					if try == 10 {
						failed.Store(&err)
						return
					}
					c.again.Add(1)
					time.Sleep(time.Second) // what Retry-After says at least
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return (*err).Error()
	}
	welcomed.Wait()
	if n := c.again.Load(); n > 0 {
		fmt.Fprintln(os.Stderr, n, "connections were tried again")
	}
	return strconv.Itoa(len(orders.Targets))
}

// view opens one connection and reads it in the background. A library would cost
// more than what is measured: two CPUs have both sides of 50,000 connections.
func (c *generatorCmd) view(ctx context.Context, dialer net.Dialer, target generatorTarget, welcomed func()) error {
	conn, err := dialer.DialContext(ctx, "tcp", target.Address)
	if err != nil {
		return err
	}
	request := "GET " + target.Path + " HTTP/1.1\r\nHost: " + target.Address +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: livestream.v1\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	// The answer's header and what may follow it at once.
	buffer, filled := make([]byte, 2048), 0
	for {
		n, err := conn.Read(buffer[filled:])
		filled += n
		if end := bytes.Index(buffer[:filled], []byte("\r\n\r\n")); end >= 0 {
			if !bytes.HasPrefix(buffer, []byte("HTTP/1.1 101")) {
				conn.Close()
				return fmt.Errorf("refused: %s", buffer[:filled])
			}
			filled = copy(buffer, buffer[end+4:filled])
			break
		}
		if err != nil {
			return err
		}
	}
	go func() {
		v := viewer{generator: c, welcomed: welcomed}
		if err := v.read(conn, buffer, filled); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			c.lost.Add(1)
		}
	}()
	return nil
}

type viewer struct {
	generator *generatorCmd
	welcomed  func()
	last      int64
}

// read takes frames apart until the connection ends.
func (v *viewer) read(conn net.Conn, buffer []byte, filled int) error {
	defer conn.Close()
	for {
		used := 0
		for {
			op, payload, size := frameIn(buffer[used:filled])
			if size == 0 || used+size > filled {
				if size > len(buffer) {
					buffer = append(make([]byte, 0, 2*size), buffer...)[:2*size]
				}
				break
			}
			used += size
			switch op {
			case 1:
				v.events(payload)
			case 8:
				return io.EOF
			case 9: // a pong without a payload, masked with zeros
				if _, err := conn.Write([]byte{0x8A, 0x80, 0, 0, 0, 0}); err != nil {
					return err
				}
			}
		}
		filled = copy(buffer, buffer[used:filled])
		n, err := conn.Read(buffer[filled:])
		if err != nil {
			return err
		}
		filled += n
	}
}

// frameIn gives the first frame in what was read; size is 0 when not even its
// header is there.
func frameIn(b []byte) (op byte, payload []byte, size int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	header, length := 2, int(b[1]&0x7f)
	switch length {
	case 126:
		header = 4
		if len(b) < header {
			return 0, nil, 0
		}
		length = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		header = 10
		if len(b) < header {
			return 0, nil, 0
		}
		length = int(binary.BigEndian.Uint64(b[2:]))
	}
	size = header + length
	if len(b) >= size {
		payload = b[header:size]
	}
	return b[0] & 0x0f, payload, size
}

var (
	idField    = []byte(`{"id":`)
	nonceField = []byte(`"nonce":"`)
	fromField  = []byte(`"resume_from":`)
)

// events notes when each message came, and whether one is missing before it.
func (v *viewer) events(payload []byte) {
	if v.welcomed != nil {
		if i := bytes.Index(payload, fromField); i >= 0 {
			v.last = numberAt(payload[i+len(fromField):])
		}
		v.welcomed()
		v.welcomed = nil
	}
	now, c := time.Now().UnixNano(), v.generator
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
		if i = bytes.Index(payload, nonceField); i < 0 {
			continue
		}
		payload = payload[i+len(nonceField):]
		c.times[bucketOf(time.Duration(now-numberAt(payload)))].Add(1)
		c.deliveries.Add(1)
	}
}

func numberAt(b []byte) (n int64) {
	for _, digit := range b {
		if digit < '0' || digit > '9' {
			return n
		}
		n = 10*n + int64(digit-'0')
	}
	return n
}

// melodyCmd is the baseline: melody as its documentation has it, one for all
// streams, with BroadcastFilter.
type melodyCmd struct {
	Address string `arg:""`
}

// Run serves until it is killed.
func (c *melodyCmd) Run(ctx context.Context) error {
	m := melody.New()
	var (
		mu   sync.Mutex // so that ids are in order
		last int64
	)
	m.HandleConnect(func(s *melody.Session) {
		_ = s.Write([]byte(`{"events":[{"type":"welcome","resume_from":0,"recovered":false}]}`))
	})
	m.HandleMessage(func(s *melody.Session, content []byte) {
		var message struct{ Text, Nonce string }
		if json.Unmarshal(content, &message) != nil {
			return
		}
		path := s.Request.URL.Path
		mu.Lock()
		defer mu.Unlock()
		last++
		event := fmt.Sprintf(`{"events":[{"id":%d,"type":"message","user":{"id":%q,"username":"speaker","display_name":"speaker","roles":["owner"]},"text":%q,"sent_at":%q,"nonce":%q}]}`,
			last, uuid.Nil, message.Text, time.Now().Format(time.RFC3339Nano), message.Nonce)
		_ = m.BroadcastFilter([]byte(event), func(other *melody.Session) bool { return other.Request.URL.Path == path })
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/ws/", func(w http.ResponseWriter, r *http.Request) { _ = m.HandleRequest(w, r) })
	mux.Handle("/metrics", promhttp.Handler())
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}
