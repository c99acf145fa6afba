package livestream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestFormatMoney(t *testing.T) {
	t.Parallel()
	for want, amount := range map[string]struct {
		minor    int64
		currency string
	}{
		"5.00 USD": {500, "usd"}, "0.07 EUR": {7, "eur"}, "-12.34 GBP": {-1234, "gbp"}, "500 JPY": {500, "jpy"}, "50 KRW": {50, "krw"}, "1.234 KWD": {1234, "kwd"},
	} {
		require.Equal(t, want, livestream.FormatMoney(amount.minor, amount.currency))
	}
}

func TestFeeShare(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 0, livestream.FeeShare(99, 1, 999))
	require.EqualValues(t, 33, livestream.FeeShare(99, 333, 999))
	require.EqualValues(t, 99, livestream.FeeShare(99, 999, 999))
	const most = livestream.MaxTipAmount
	require.EqualValues(t, livestream.PlatformFee(most), livestream.FeeShare(livestream.PlatformFee(most), most, most), "it does not overflow")
}
