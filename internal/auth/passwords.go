package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Argon2id's cost: 19 MiB, two passes, one lane, as OWASP recommends.
const (
	argonMemory  = 19 * 1024
	argonTime    = 2
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
)

// Passwords hashes passwords, few at a time, so that a wave of logins takes
// neither the memory nor the processors from everything else.
type Passwords struct {
	slots chan struct{}
	none  string
}

// NewPasswords allows one hash a processor at a time.
func NewPasswords() *Passwords {
	p := &Passwords{slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	p.none = encode(make([]byte, argonSalt), make([]byte, argonKey))
	return p
}

// Hash makes what is stored of a password.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // it never fails; see crypto/rand
	key, err := p.derive(ctx, password, salt)
	if err != nil {
		return "", err
	}
	return encode(salt, key), nil
}

// Verify says whether a password is the one of a hash. An empty hash is that of
// nobody, and costs the same.
func (p *Passwords) Verify(ctx context.Context, password, hash string) (bool, error) {
	known := hash != ""
	if !known {
		hash = p.none
	}
	salt, want, err := decode(hash)
	if err != nil {
		return false, err
	}
	got, err := p.derive(ctx, password, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}

func (p *Passwords) derive(ctx context.Context, password string, salt []byte) ([]byte, error) {
	if ctx.Err() != nil { // select would choose by chance
		return nil, fmt.Errorf("wait to hash a password: %w", ctx.Err())
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to hash a password: %w", ctx.Err())
	}
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey), nil
}

var argonPrefix = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, argonMemory, argonTime, argonThreads)

func encode(salt, key []byte) string {
	return argonPrefix + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(key)
}

func decode(hash string) (salt, key []byte, err error) {
	rest, ok := strings.CutPrefix(hash, argonPrefix)
	saltText, keyText, found := strings.Cut(rest, "$")
	if !ok || !found {
		return nil, nil, fmt.Errorf("a stored password has another form than %s…", argonPrefix)
	}
	if salt, err = base64.RawStdEncoding.DecodeString(saltText); err != nil {
		return nil, nil, fmt.Errorf("a stored password's salt: %w", err)
	}
	if key, err = base64.RawStdEncoding.DecodeString(keyText); err != nil {
		return nil, nil, fmt.Errorf("a stored password's key: %w", err)
	}
	return salt, key, nil
}
