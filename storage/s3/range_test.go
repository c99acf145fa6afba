package s3

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What we pass on is one range that makes sense, and can be said again.
func FuzzIsRange(f *testing.F) {
	for _, seed := range []string{
		"bytes=0-1", "bytes=5-", "bytes=-5", "bytes=5-2", "bytes=-", "bytes=0-1,3-4", "bytes=999999999999999999-", "bytes=9999999999999999999-", "bytes= 0-1", "Bytes=0-1", "bytes=0-1\n", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if !isRange(header) {
			return
		}
		require.NotContains(t, header, ",")
		spec, ok := strings.CutPrefix(header, "bytes=")
		require.True(t, ok)
		first, last, ok := strings.Cut(spec, "-")
		require.True(t, ok)
		require.NotEmpty(t, first+last)
		var from, to int64
		for text, number := range map[string]*int64{first: &from, last: &to} {
			if text != "" {
				_, err := fmt.Sscanf(text, "%d", number)
				require.NoError(t, err)
				require.GreaterOrEqual(t, *number, int64(0))
			}
		}
		if first != "" && last != "" {
			require.LessOrEqual(t, from, to)
		}
	})
}
