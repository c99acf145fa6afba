package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Subprotocol is what client and server speak.
const Subprotocol = "livestream.v1"

// Codes of an error event.
const (
	codeRateLimited   = "rate_limited"
	codeSlowMode      = "slow_mode"
	codeBanned        = "banned"
	codeFollowersOnly = "followers_only"
	codeBlockedTerm   = "blocked_term"
	codeTooLong       = "too_long"
	codeEmpty         = "empty"
	codeReadOnly      = "read_only"
	codeMalformed     = "malformed"
	codeUnavailable   = "unavailable"
)

// farewell is why a connection is closed, and with which status. 1001 is the
// protocol's own; 4001 tells a client to come back with ?since=, 4003 not to.
type farewell struct {
	code   string
	status int
}

var (
	byeDraining    = farewell{"draining", 1001}
	byeSlow        = farewell{"too_slow", 4001}
	byeResync      = farewell{"resync", 4001}
	byeUnavailable = farewell{codeUnavailable, 4001}
	byeLoggedOut   = farewell{"logged_out", 4003}
	byeBanned      = farewell{codeBanned, 4003}
)

// frame is what travels to a client: events, in order.
func frame(events ...json.RawMessage) []byte {
	size := len(`{"events":[]}`) + len(events)
	for _, e := range events {
		size += len(e)
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	b.WriteString(`{"events":[`)
	for i, e := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// event encodes one of this package's own events.
func event(v any) json.RawMessage {
	content, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of this package
	}
	return content
}

type welcome struct {
	Type         string `json:"type"`
	ConnectionID string `json:"connection_id"`
	ResumeFrom   int64  `json:"resume_from"`
	// Epoch goes with ResumeFrom: a client that comes back may pass both.
	Epoch     string    `json:"epoch,omitempty"`
	Recovered bool      `json:"recovered"`
	Gap       bool      `json:"gap"`
	Settings  *settings `json:"settings,omitempty"`
}

// settings are a chat's modes. BlockedTerms is nil for those who do not moderate.
type settings struct {
	livestream.ChatSettings
	BlockedTerms *[]string `json:"blocked_terms,omitempty"`
}

// head is what a node must know of an event.
type head struct {
	ID        int64                    `json:"id"`
	Type      livestream.ChatEventType `json:"type"`
	Status    livestream.StreamStatus  `json:"status"`
	UserID    uuid.UUID                `json:"user_id"`
	MessageID int64                    `json:"message_id"`
}

// headOf reads an event's head. A message, which most are, is told by its first
// bytes: they are written by one script, as {"id":1,"type":"message",…
func headOf(event string) (head, error) {
	if rest, ok := strings.CutPrefix(event, `{"id":`); ok {
		if i := strings.IndexByte(rest, ','); i > 0 && strings.HasPrefix(rest[i:], `,"type":"message",`) {
			if id, err := strconv.ParseInt(rest[:i], 10, 64); err == nil {
				return head{ID: id, Type: livestream.ChatMessage}, nil
			}
		}
	}
	var h head
	err := json.Unmarshal([]byte(event), &h)
	return h, err
}

type errorEvent struct {
	Type       string  `json:"type"`
	Code       string  `json:"code"`
	Detail     string  `json:"detail"`
	Nonce      string  `json:"nonce,omitempty"`
	RetryAfter float64 `json:"retry_after,omitempty"` // seconds
}

type byeEvent struct {
	Type             string `json:"type"`
	Code             string `json:"code"`
	ReconnectAfterMS int64  `json:"reconnect_after_ms"`
}

type viewerCountEvent struct {
	Type  string `json:"type"`
	Count int64  `json:"count"`
}

type notificationEvent struct {
	Type         string           `json:"type"`
	ID           int64            `json:"id"`
	Notification notificationBody `json:"notification"`
}

type notificationBody struct {
	ID        string                      `json:"id"`
	Type      livestream.NotificationType `json:"type"`
	Read      bool                        `json:"read"`
	CreatedAt time.Time                   `json:"created_at"`
	Data      json.RawMessage             `json:"data"`
}

// message is what a client sends.
type message struct {
	Type  string `json:"type"`
	Text  string `json:"text"`
	Nonce string `json:"nonce"`
}

const maxNonce = 64

// parseMessage reads a client's frame. The text comes out normalised and without
// blanks around it; refusal is what to answer instead.
func parseMessage(content []byte) (m message, refusal *errorEvent) {
	refuse := func(code, detail string) (message, *errorEvent) {
		return m, &errorEvent{Type: "error", Code: code, Detail: detail, Nonce: m.Nonce}
	}
	if !utf8.Valid(content) {
		return refuse(codeMalformed, "a frame is UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&m)
	if err == nil {
		if _, err = decoder.Token(); err == io.EOF { //nolint:errorlint // it is the decoder's own
			err = nil
		} else {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		m.Nonce = ""
		return refuse(codeMalformed, `a frame is one JSON object: {"type":"message","text":"…","nonce":"…"}`)
	}
	if len(m.Nonce) > maxNonce || strings.ContainsFunc(m.Nonce, func(r rune) bool { return r <= ' ' || r > '~' }) {
		m.Nonce = ""
		return refuse(codeMalformed, "a nonce is up to 64 printable characters")
	}
	if m.Type != "message" {
		return refuse(codeMalformed, "the type is not known")
	}
	m.Text = strings.TrimSpace(norm.NFC.String(m.Text))
	if m.Text == "" {
		return refuse(codeEmpty, "a message has text")
	}
	if utf8.RuneCountInString(m.Text) > livestream.MaxChatText {
		return refuse(codeTooLong, "a message has up to 500 characters")
	}
	if strings.ContainsFunc(m.Text, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		return refuse(codeMalformed, "a message has no control characters")
	}
	return m, nil
}
