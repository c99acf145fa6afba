package stripesim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// change is what one thing became.
type change struct {
	Kind  string          `json:"kind"`
	Value json.RawMessage `json:"value"`
}

// replay takes up a journal's state and goes on writing at its end. A last line
// that was cut off by a crash is forgotten: nobody was told of it.
func (s *Server) replay(file string) (err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // what went wrong before matters
		}
	}()
	decoder := json.NewDecoder(f)
	good := int64(0)
	for {
		var line []change
		err := decoder.Decode(&line)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		for i := 0; err == nil && i < len(line); i++ {
			err = s.apply(line[i])
		}
		if err != nil {
			return fmt.Errorf("read the journal %s: %w", file, err)
		}
		good = decoder.InputOffset()
	}
	if err := f.Truncate(good); err != nil {
		return fmt.Errorf("cut the journal: %w", err)
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("end of the journal: %w", err)
	}
	if good > 0 {
		if _, err := f.WriteString("\n"); err != nil {
			return fmt.Errorf("write the journal: %w", err)
		}
	}
	s.journal = f
	return nil
}

func (s *Server) apply(c change) error {
	switch c.Kind {
	case "intent":
		return restore(c.Value, &s.intents)
	case "charge":
		return restore(c.Value, &s.charges)
	case "refund":
		return restore(c.Value, &s.refunds)
	case "dispute":
		return restore(c.Value, &s.disputes)
	case "answer":
		var a answer
		if err := json.Unmarshal(c.Value, &a); err != nil {
			return err
		}
		s.answers[a.Key] = &a
	case "event":
		var e event
		if err := json.Unmarshal(c.Value, &e); err != nil {
			return err
		}
		if e.Done {
			delete(s.events, e.ID)
		} else {
			s.events[e.ID] = &e
		}
	}
	return nil
}

func restore[T object](value json.RawMessage, to *shelf[T]) error {
	var o T
	if err := json.Unmarshal(value, &o); err != nil {
		return err
	}
	to.put(o)
	return nil
}

// note adds a change to the line that commit writes.
func (s *Server) note(kind string, value any) {
	content, err := json.Marshal(value)
	if err != nil {
		panic(err) // plain structs of this package
	}
	s.line = append(s.line, change{Kind: kind, Value: content})
}

// commit writes down all that was noted since the last one, as one line, so that
// a PaymentIntent, its events and the answer are remembered together or not at
// all. No answer and no event goes out before. It is not synced to the disk: a
// killed process leaves its writes behind, and a machine that loses its power is
// not what this is for.
func (s *Server) commit() {
	line, outbox := s.line, s.outbox
	s.line, s.outbox = nil, nil
	if s.journal != nil && len(line) > 0 {
		content, err := json.Marshal(line)
		if err != nil {
			panic(err) // plain structs of this package
		}
		if _, err := s.journal.Write(append(content, '\n')); err != nil {
			s.cancel() // better silent than forgetful
			panic(fmt.Errorf("stripesim: write the journal: %w", err))
		}
	}
	for _, e := range outbox {
		s.send(e)
	}
}
