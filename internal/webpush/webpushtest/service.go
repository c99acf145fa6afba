// Package webpushtest is a push service for tests: it takes messages as that of a
// browser's maker does, and reads them as the browser would.
package webpushtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// Service is a push service.
type Service struct {
	*httptest.Server

	mu       sync.Mutex
	browsers map[string]*Browser // by the path of their endpoint
	refused  []error
}

// New starts a service.
func New(tb testing.TB) *Service {
	s := &Service{browsers: map[string]*Browser{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Server.EnableHTTP2 = true
	s.Server.StartTLS()
	tb.Cleanup(s.Server.Close)
	return s
}

// Roots are who has signed its certificate.
func Roots(s *Service) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// RootsFile is a file with them, for a process.
func RootsFile(tb testing.TB, s *Service) string {
	file := filepath.Join(tb.TempDir(), "roots.pem")
	require.NoError(tb, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return file
}

// KeyFile is a file with a new key of a server.
func KeyFile(tb testing.TB) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	content, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(tb, err)
	file := filepath.Join(tb.TempDir(), "key.pem")
	require.NoError(tb, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: content}), 0o600))
	return file
}

// Message is what a browser got.
type Message struct {
	ID      uuid.UUID       `json:"id"`
	Type    string          `json:"type"`
	Data    json.RawMessage `json:"data"`
	Created string          `json:"created_at"`

	Size   int         `json:"-"` // of the encrypted body
	Header http.Header `json:"-"`
}

// Browser is one that has subscribed at the service.
type Browser struct {
	Endpoint string
	// Server is the public key of the server that it subscribed with.
	Server string
	// Answer, if there is one, answers instead of the service.
	Answer http.HandlerFunc

	service *Service
	key     *ecdh.PrivateKey
	secret  []byte
	got     []Message
	tries   int
}

// Subscribe makes a browser that subscribes with a server's public key.
func (s *Service) Subscribe(tb testing.TB, serverKey string) *Browser {
	tb.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(tb, err)
	b := &Browser{service: s, Server: serverKey, key: key, secret: make([]byte, 16)}
	_, _ = rand.Read(b.secret)
	path := "/send/" + uuid.NewString()
	b.Endpoint = s.URL + path
	s.mu.Lock()
	defer s.mu.Unlock()
	s.browsers[path] = b
	return b
}

// JSON is the subscription as a browser writes it.
func (b *Browser) JSON() map[string]any {
	return map[string]any{"endpoint": b.Endpoint, "expirationTime": nil, "keys": map[string]any{
		"p256dh": base64.RawURLEncoding.EncodeToString(b.Key()), "auth": base64.RawURLEncoding.EncodeToString(b.secret),
	}}
}

// Key is the browser's public key, and Secret what it shares besides.
func (b *Browser) Key() []byte    { return b.key.PublicKey().Bytes() }
func (b *Browser) Secret() []byte { return b.secret }

// Got is what it got so far, and Tries how often it was asked to take something.
func (b *Browser) Got() []Message {
	b.service.mu.Lock()
	defer b.service.mu.Unlock()
	return append([]Message(nil), b.got...)
}

func (b *Browser) Tries() int {
	b.service.mu.Lock()
	defer b.service.mu.Unlock()
	return b.tries
}

// Refused are the messages that no browser could have read, and why.
func (s *Service) Refused() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]error(nil), s.refused...)
}

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	b := s.browsers[r.URL.Path]
	if b != nil {
		b.tries++
	}
	s.mu.Unlock()
	if b == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if b.Answer != nil {
		b.Answer(w, r)
		return
	}
	message, err := b.read(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, errBrokenOff) {
		return
	}
	if err != nil {
		s.refused = append(s.refused, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.got = append(b.got, message)
	w.WriteHeader(http.StatusCreated)
}

// errBrokenOff says that the sender went away on the way, as one that is killed does.
var errBrokenOff = errors.New("the message broke off")

// read does what the service and then the browser do: it looks at who has signed, and
// decrypts.
func (b *Browser) read(r *http.Request) (Message, error) {
	m := Message{Header: r.Header}
	if r.Method != http.MethodPost || r.Header.Get("Content-Encoding") != "aes128gcm" || r.Header.Get("TTL") == "" {
		return m, fmt.Errorf("%s with %v", r.Method, r.Header)
	}
	if err := b.verify(r.Header.Get("Authorization")); err != nil {
		return m, fmt.Errorf("authorization: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 4097))
	if err != nil {
		return m, fmt.Errorf("%w: %w", errBrokenOff, err)
	}
	if m.Size = len(body); m.Size > 4096 {
		return m, errors.New("more than services take")
	}
	content, err := b.decrypt(body)
	if err != nil {
		return m, fmt.Errorf("decrypt: %w", err)
	}
	return m, json.Unmarshal(content, &m)
}

// verify checks a VAPID header, see RFC 8292.
func (b *Browser) verify(header string) error {
	fields, ok := strings.CutPrefix(header, "vapid ")
	if !ok {
		return errors.New("is not VAPID")
	}
	values := map[string]string{}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		values[name] = value
	}
	if values["k"] != b.Server {
		return errors.New("another key than that of the subscription")
	}
	point, err := base64.RawURLEncoding.DecodeString(values["k"])
	if err != nil {
		return err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return err
	}
	token, err := jwt.Parse(values["t"], func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(b.service.URL), jwt.WithExpirationRequired())
	if err != nil {
		return err
	}
	if subject, err := token.Claims.GetSubject(); err != nil || !strings.HasPrefix(subject, "mailto:") || strings.Count(subject, "mailto:") > 1 {
		return fmt.Errorf("the contact is %q", subject)
	}
	return nil
}

// decrypt opens a message of one record, see RFC 8291 and 8188.
func (b *Browser) decrypt(body []byte) ([]byte, error) {
	const head = 16 + 4 + 1
	if len(body) < head || len(body) < head+int(body[20]) {
		return nil, errors.New("too short")
	}
	salt, size, id, sealed := body[:16], binary.BigEndian.Uint32(body[16:20]), body[head:head+int(body[20])], body[head+int(body[20]):]
	if int(size) < len(sealed) {
		return nil, errors.New("more than one record")
	}
	sender, err := ecdh.P256().NewPublicKey(id)
	if err != nil {
		return nil, err
	}
	shared, err := b.key.ECDH(sender)
	if err != nil {
		return nil, err
	}
	info := "WebPush: info\x00" + string(b.Key()) + string(id)
	secret, err := hkdf.Key(sha256.New, shared, b.secret, info, 32)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	open, err := gcm.Open(nil, nonce, sealed, nil)
	if err != nil {
		return nil, err
	}
	content := strings.TrimRight(string(open), "\x00")
	content, last := strings.CutSuffix(content, "\x02")
	if !last {
		return nil, errors.New("the last record has no end")
	}
	return []byte(content), nil
}
