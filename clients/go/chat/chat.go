// Package chat is a client of a stream's chat. It stays connected: it comes back
// after a cut, a restart or a deploy with growing pauses, gets what it missed, sends
// again what was not acknowledged, and drops what comes twice.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

// Event is one event of the chat. JSON is the whole of it.
type Event struct {
	ID   int64 // 0 for welcome, error, viewer_count and bye
	Type string
	JSON json.RawMessage
}

// Refused says why a message was not taken, by the code of the error event.
type Refused struct {
	Code       string        `json:"code"`
	Detail     string        `json:"detail"`
	RetryAfter time.Duration `json:"-"`
}

func (r *Refused) Error() string { return r.Code + ": " + r.Detail }

// Config says where the chat is and who hears it; a zero value is the default.
type Config struct {
	// Address gives the WebSocket's address for each connection, with a fresh ticket
	// for a member: POST /api/ws-tickets answers with it. It is needed.
	Address func(ctx context.Context) (string, error)
	// Event gets the events in order, each once, one at a time.
	Event func(Event)
	// Connected is told of each welcome. gap says that events may be missing before
	// what follows.
	Connected func(gap bool)
	// MinPause and MaxPause bound the pauses between attempts, which double and of
	// which each is shortened by chance; defaults 250 ms and 10 s.
	MinPause, MaxPause time.Duration
	// Silence is how long a connection may say nothing, not even a ping; default 75 s,
	// for a server that pings each 30 s.
	Silence time.Duration
	// Dialer opens connections; nil is one with a handshake timeout of 10 s.
	Dialer *websocket.Dialer
	// Since resumes after an event that an earlier client has seen; 0 joins at the end.
	Since int64
}

// Client is a connection to one chat that lasts. Its methods may be called from
// anywhere.
type Client struct {
	config Config

	mu      sync.Mutex
	conn    *websocket.Conn // nil while there is none
	last    int64
	epoch   string
	began   bool // there was a welcome
	pending map[string]*pending
	order   []*pending
}

// pending is a message that was not acknowledged yet.
type pending struct {
	nonce, text string
	done        chan error
}

// ErrEnded is what Run gives when the server says not to come back.
var ErrEnded = errors.New("the server closed the connection for good")

// closeForGood is the status of a connection that must not be opened again: its
// login has ended, or its member was banned.
const closeForGood = 4003

// New makes a client; Run connects it.
func New(config Config) (*Client, error) {
	if config.Address == nil {
		return nil, errors.New("chat: Config.Address is needed")
	}
	if config.MinPause == 0 {
		config.MinPause = 250 * time.Millisecond
	}
	if config.MaxPause == 0 {
		config.MaxPause = 10 * time.Second
	}
	if config.Silence == 0 {
		config.Silence = 75 * time.Second
	}
	if config.Event == nil {
		config.Event = func(Event) {}
	}
	if config.Connected == nil {
		config.Connected = func(bool) {}
	}
	if config.Dialer == nil {
		config.Dialer = &websocket.Dialer{HandshakeTimeout: 10 * time.Second}
	}
	dialer := *config.Dialer
	dialer.Subprotocols = []string{"livestream.v1"}
	config.Dialer = &dialer
	return &Client{config: config, last: config.Since, began: config.Since > 0, pending: map[string]*pending{}}, nil
}

// Run stays connected until ctx ends, or the server says that it is for good.
func (c *Client) Run(ctx context.Context) error {
	pause := c.config.MinPause
	for {
		welcomed, wait, err := c.connect(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrEnded) {
			return err
		}
		if welcomed {
			pause = c.config.MinPause
		}
		if wait == 0 {
			wait = pause/2 + rand.N(pause/2+1)
			pause = min(2*pause, c.config.MaxPause)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connect opens one connection and reads it to its end. wait is what the server
// asked for.
func (c *Client) connect(ctx context.Context) (welcomed bool, wait time.Duration, err error) {
	address, err := c.config.Address(ctx)
	if err != nil {
		return false, 0, err
	}
	if address, err = c.resuming(address); err != nil {
		return false, 0, err
	}
	conn, response, err := c.config.Dialer.DialContext(ctx, address, nil)
	if err != nil {
		if response != nil {
			response.Body.Close()
			if response.StatusCode == http.StatusServiceUnavailable || response.StatusCode == http.StatusTooManyRequests {
				if seconds, e := strconv.Atoi(response.Header.Get("Retry-After")); e == nil {
					wait = time.Duration(seconds)*time.Second + rand.N(c.config.MinPause)
				}
			}
		}
		return false, wait, fmt.Errorf("open the chat: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		stop()
		c.mu.Lock()
		c.conn = nil
		c.mu.Unlock()
		conn.Close()
	}()
	alive := func() error { return conn.SetReadDeadline(time.Now().Add(c.config.Silence)) }
	answer := conn.PingHandler()
	conn.SetPingHandler(func(data string) error { return errors.Join(alive(), answer(data)) })
	for {
		if err := alive(); err != nil {
			return welcomed, wait, err
		}
		_, content, err := conn.ReadMessage()
		if err != nil {
			if websocket.IsCloseError(err, closeForGood) {
				err = ErrEnded
			}
			return welcomed, wait, err
		}
		var frame struct {
			Events []json.RawMessage `json:"events"`
		}
		if err := json.Unmarshal(content, &frame); err != nil {
			return welcomed, wait, fmt.Errorf("read a frame: %w", err)
		}
		for _, raw := range frame.Events {
			var e envelope
			if err := json.Unmarshal(raw, &e); err != nil {
				return welcomed, wait, fmt.Errorf("read an event: %w", err)
			}
			switch e.Type {
			case "welcome":
				welcomed = true
				c.welcome(conn, e)
			case "bye":
				wait = time.Duration(e.ReconnectAfterMS) * time.Millisecond
			}
			c.take(Event{ID: e.ID, Type: e.Type, JSON: raw}, e)
		}
	}
}

// envelope is what a client must know of an event.
type envelope struct {
	ID               int64   `json:"id"`
	Type             string  `json:"type"`
	Nonce            string  `json:"nonce"`
	Code             string  `json:"code"`
	Detail           string  `json:"detail"`
	RetryAfter       float64 `json:"retry_after"`
	ResumeFrom       int64   `json:"resume_from"`
	Epoch            string  `json:"epoch"`
	Recovered        bool    `json:"recovered"`
	Gap              bool    `json:"gap"`
	ReconnectAfterMS int64   `json:"reconnect_after_ms"`
}

// resuming adds to an address from where to go on.
func (c *Client) resuming(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("chat: the address cannot be read") // it has a ticket
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began {
		return address, nil
	}
	query := u.Query()
	query.Set("since", strconv.FormatInt(c.last, 10))
	if c.epoch != "" {
		query.Set("epoch", c.epoch)
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// welcome takes a new connection into use, and sends what was not acknowledged.
func (c *Client) welcome(conn *websocket.Conn, e envelope) {
	c.mu.Lock()
	if !c.began || !e.Recovered {
		c.last = e.ResumeFrom
	}
	gap := c.began && !e.Recovered
	c.began, c.epoch, c.conn = true, e.Epoch, conn
	for _, p := range c.order {
		c.write(p)
	}
	c.mu.Unlock()
	c.config.Connected(gap)
}

// take hands an event on, once, and settles the message that it is about.
func (c *Client) take(event Event, e envelope) {
	c.mu.Lock()
	if e.Nonce != "" && (e.Type == "message" || e.Type == "error") {
		c.settle(e)
	}
	again := e.ID > 0 && e.ID <= c.last
	c.last = max(c.last, e.ID)
	c.mu.Unlock()
	if !again {
		c.config.Event(event)
	}
}

// settle runs under the lock. A message that could not be taken at the moment is
// sent again.
func (c *Client) settle(e envelope) {
	p := c.pending[e.Nonce]
	if p == nil {
		return
	}
	retry := time.Duration(e.RetryAfter * float64(time.Second))
	if e.Type == "error" && e.Code == "unavailable" {
		time.AfterFunc(retry, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.pending[e.Nonce] == p {
				c.write(p)
			}
		})
		return
	}
	c.forget(p)
	if e.Type == "error" {
		p.done <- &Refused{Code: e.Code, Detail: e.Detail, RetryAfter: retry}
	} else {
		p.done <- nil
	}
}

func (c *Client) forget(p *pending) {
	delete(c.pending, p.nonce)
	for i, other := range c.order {
		if other == p {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}

// writeTimeout is how long a server may take to read.
const writeTimeout = 10 * time.Second

// write sends a message, if there is a connection; what is lost with it is sent on
// the next one. It runs under the lock.
func (c *Client) write(p *pending) {
	if c.conn == nil {
		return
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // the write says what is wrong
	if err := c.conn.WriteJSON(map[string]string{"type": "message", "text": p.text, "nonce": p.nonce}); err != nil {
		c.conn.Close() // its reader notices
		c.conn = nil
	}
}

// Send says something, and waits until the chat has it: through as many connections
// as that takes. A *Refused says why it does not take it.
func (c *Client) Send(ctx context.Context, text string) error {
	return c.SendNonce(ctx, text, uuid.NewString())
}

// SendNonce is Send with a nonce of one's own, which makes a message that is sent
// again by another client the same one: up to 64 printable characters.
func (c *Client) SendNonce(ctx context.Context, text, nonce string) error {
	p := &pending{nonce: nonce, text: text, done: make(chan error, 1)}
	c.mu.Lock()
	if c.pending[nonce] != nil {
		c.mu.Unlock()
		return errors.New("chat: a message with this nonce is under way")
	}
	c.pending[nonce] = p
	c.order = append(c.order, p)
	c.write(p)
	c.mu.Unlock()
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.forget(p)
		return ctx.Err()
	}
}

// Last is the id of the last event that was seen, to resume from with another
// client.
func (c *Client) Last() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
