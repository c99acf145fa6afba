package auth

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPasswords(t *testing.T) {
	t.Parallel()
	p := NewPasswords()
	hash, err := p.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), "the cost that is asked for: %s", hash)
	for _, c := range []struct {
		password, hash string
		want           bool
	}{
		{"correct horse battery", hash, true},
		{"wrong horse battery", hash, false},
		{"correct horse battery ", hash, false},
		{"", hash, false},
		{"correct horse battery", "", false},
		{"", "", false},
	} {
		got, err := p.Verify(t.Context(), c.password, c.hash)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%q", c.password)
	}
	again, err := p.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	require.NotEqual(t, hash, again, "each has its own salt")
}

func TestStoredPasswordOfAnotherForm(t *testing.T) {
	t.Parallel()
	p := NewPasswords()
	for _, hash := range []string{
		"correct horse", "$2a$10$abcdefghijklmnopqrstuv", argonPrefix, argonPrefix + "c2FsdA", argonPrefix + "?$?", argonPrefix + "c2FsdA$?",
	} {
		ok, err := p.Verify(t.Context(), "correct horse", hash)
		require.Error(t, err, hash)
		require.False(t, ok)
	}
	// A key that was cut off fits nothing, and least of all everything.
	ok, err := p.Verify(t.Context(), "correct horse", argonPrefix+"c2FsdA$")
	require.NoError(t, err)
	require.False(t, ok)
}

// Hashes wait for one another rather than taking the machine, and a caller that
// left does not wait.
func TestPasswordsWaitTheirTurn(t *testing.T) {
	t.Parallel()
	p := NewPasswords()
	for range runtime.GOMAXPROCS(0) {
		p.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() { _, err := p.Hash(ctx, "correct horse"); waits <- err }()
	select {
	case err := <-waits:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	cancel()
	require.ErrorIs(t, <-waits, context.Canceled)
	for range runtime.GOMAXPROCS(0) {
		<-p.slots
	}
	_, err := p.Verify(ctx, "correct horse", "")
	require.ErrorIs(t, err, context.Canceled, "nobody is there to hear it")

	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			_, err := p.Hash(t.Context(), "correct horse")
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Empty(t, p.slots, "each gives its place back")
}
