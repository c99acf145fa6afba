package livestream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestKnownCurrency(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"usd", "eur", "jpy", "kwd", "xof", "zmw"} {
		require.True(t, livestream.KnownCurrency(code), code)
	}
	for _, code := range []string{"zzz", "USD", "xxx", "xau", "xts", "dem", "", "us", "usd "} {
		require.False(t, livestream.KnownCurrency(code), code)
	}
}
