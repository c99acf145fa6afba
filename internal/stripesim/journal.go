package stripesim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// The journal has one line a change: what it is, and what it is now.
type line struct {
	Kind  string          `json:"kind"`
	Value json.RawMessage `json:"value"`
}

// replay takes up a journal's state and goes on writing at its end. A last line
// that was cut off by a crash is forgotten.
func (s *Server) replay(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	decoder := json.NewDecoder(f)
	good := int64(0)
	for {
		var l line
		err := decoder.Decode(&l)
		if err == nil {
			err = s.apply(l)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
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

func (s *Server) apply(l line) error {
	switch l.Kind {
	case "intent":
		var i Intent
		if err := json.Unmarshal(l.Value, &i); err != nil {
			return err
		}
		if _, ok := s.intents[i.ID]; !ok {
			s.order = append(s.order, i.ID)
		}
		s.intents[i.ID] = &i
	case "answer":
		var a answer
		if err := json.Unmarshal(l.Value, &a); err != nil {
			return err
		}
		s.answers[a.Key] = &a
	case "event":
		var e event
		if err := json.Unmarshal(l.Value, &e); err != nil {
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

// save writes a change down.
func (s *Server) save(kind string, value any) {
	if s.journal == nil {
		return
	}
	content, err := json.Marshal(value)
	if err != nil {
		panic(err) // plain structs of this package
	}
	content, err = json.Marshal(line{Kind: kind, Value: content})
	if err != nil {
		panic(err)
	}
	if _, err := s.journal.Write(append(content, '\n')); err != nil {
		panic(fmt.Errorf("stripesim: write the journal: %w", err)) // better dead than forgetful
	}
}
