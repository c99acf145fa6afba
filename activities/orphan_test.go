package activities

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// A name is an id in one form alone: another spelling of somebody's id is nobody's.
func FuzzIDOf(f *testing.F) {
	id := "018f3b1e-0000-7000-8000-0000000000ab"
	for _, seed := range []string{id, strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), id + "0", id[:35], "", uuid.Nil.String()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id, ok := idOf(name)
		require.Equal(t, ok, id.String() == name && len(name) == 36 && strings.ToLower(name) == name || ok && name == uuid.Nil.String())
		if ok {
			again, ok := idOf(id.String())
			require.True(t, ok)
			require.Equal(t, id, again)
		}
	})
}
