package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Event is one event of a WebSocket.
type Event struct {
	ID   int64           `json:"id"`
	Type string          `json:"type"`
	JSON json.RawMessage `json:"-"`
}

// Decode reads the event's fields into v.
func (e Event) Decode(v any) error {
	if err := json.Unmarshal(e.JSON, v); err != nil {
		return fmt.Errorf("read a %s event: %w", e.Type, err)
	}
	return nil
}

// Socket is an open WebSocket, read in the background, so that a wait that is
// given up loses nothing.
type Socket struct {
	conn   *websocket.Conn
	events chan Event
	done   chan struct{}
	once   sync.Once
	err    error // why events was closed
}

// socketBuffer is how many events may wait to be read.
const socketBuffer = 4096

// Dial opens a WebSocket. A refused upgrade is a *Problem.
func Dial(ctx context.Context, address string) (*Socket, error) {
	dialer := websocket.Dialer{Subprotocols: []string{"livestream.v1"}, HandshakeTimeout: 10 * time.Second}
	conn, response, err := dialer.DialContext(ctx, address, nil)
	if err != nil {
		if response == nil {
			return nil, fmt.Errorf("open a WebSocket: %w", err)
		}
		defer response.Body.Close()
		problem := &Problem{Status: response.StatusCode, RetryAfter: response.Header.Get("Retry-After")}
		if content, err := io.ReadAll(io.LimitReader(response.Body, 64<<10)); err == nil {
			_ = json.Unmarshal(content, problem) // the status alone says enough
		}
		return nil, fmt.Errorf("open a WebSocket: %w", problem)
	}
	s := &Socket{conn: conn, events: make(chan Event, socketBuffer), done: make(chan struct{})}
	go s.read()
	return s, nil
}

func (s *Socket) read() {
	defer close(s.events)
	for {
		_, content, err := s.conn.ReadMessage()
		if err != nil {
			s.err = err
			return
		}
		var frame struct {
			Events []json.RawMessage `json:"events"`
		}
		if err := json.Unmarshal(content, &frame); err != nil {
			s.err = fmt.Errorf("read a frame: %w", err)
			return
		}
		for _, raw := range frame.Events {
			event := Event{JSON: raw}
			if err := json.Unmarshal(raw, &event); err != nil {
				s.err = fmt.Errorf("read an event: %w", err)
				return
			}
			event.JSON = raw
			select {
			case s.events <- event:
			case <-s.done:
				return
			}
		}
	}
}

// Next waits for the next event. After the end of the connection it gives what
// ended it.
func (s *Socket) Next(ctx context.Context) (Event, error) {
	select {
	case event, ok := <-s.events:
		if !ok {
			if s.err == nil {
				return Event{}, errors.New("the WebSocket is closed")
			}
			return Event{}, fmt.Errorf("the WebSocket ended: %w", s.err)
		}
		return event, nil
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
}

// Send writes v as JSON; one at a time.
func (s *Socket) Send(ctx context.Context, v any) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("write to a WebSocket: %w", err)
	}
	if err := s.conn.WriteJSON(v); err != nil {
		return fmt.Errorf("write to a WebSocket: %w", err)
	}
	return nil
}

// Close hangs up.
func (s *Socket) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.conn.Close()
}
