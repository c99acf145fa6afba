package livestream

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// Limits of a page of a list.
const (
	DefaultPageLimit = 20
	MaxPageLimit     = 100
)

// Page asks for one page of a list.
type Page struct {
	Limit int // 1 to MaxPageLimit
	After *Cursor
}

// List is one page. Next is nil on the last one.
type List[T any] struct {
	Data []T
	Next *Cursor
}

// Cursor is a place in a list: the sort key of the last row that was given.
// Lists that sort by a number use Number, those that sort by time use Time;
// ID breaks ties.
type Cursor struct {
	Time   time.Time // microseconds are kept
	Number int64
	ID     uuid.UUID
}

const cursorSize = 1 + 8 + 8 + 16
const cursorVersion = 1

// String is the opaque form that clients pass back.
func (c Cursor) String() string {
	b := make([]byte, cursorSize)
	b[0] = cursorVersion
	var micros int64
	if !c.Time.IsZero() {
		micros = c.Time.UnixMicro()
	}
	binary.BigEndian.PutUint64(b[1:], uint64(micros))
	binary.BigEndian.PutUint64(b[9:], uint64(c.Number))
	copy(b[17:], c.ID[:])
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor reads what String wrote; CodeInvalidRequest otherwise.
func ParseCursor(s string) (*Cursor, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != cursorSize || b[0] != cursorVersion {
		return nil, Invalid("cursor", "is not one that this API gave")
	}
	c := &Cursor{Number: int64(binary.BigEndian.Uint64(b[9:]))}
	micros := int64(binary.BigEndian.Uint64(b[1:]))
	if micros < 0 || micros > maxCursorMicros {
		return nil, Invalid("cursor", "is not one that this API gave")
	}
	if micros != 0 {
		c.Time = time.UnixMicro(micros).UTC()
	}
	copy(c.ID[:], b[17:])
	if c.String() != s { // base64 overlooks line breaks
		return nil, Invalid("cursor", "is not one that this API gave")
	}
	return c, nil
}

// maxCursorMicros is the end of the year 9999, which Postgres and RFC 3339 hold.
const maxCursorMicros = 253402300799999999
