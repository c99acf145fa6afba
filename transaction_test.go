package livestream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestPlatformFee(t *testing.T) {
	t.Parallel()
	for amount, want := range map[int64]int64{
		livestream.MinTipAmount: 5, 59: 5, 60: 6, 99: 9, 500: 50, 501: 50, livestream.MaxTipAmount: 9_999_999,
	} {
		fee := livestream.PlatformFee(amount)
		require.Equal(t, want, fee, "%d", amount)
		require.GreaterOrEqual(t, (amount-fee)*100, amount*(100-livestream.PlatformFeePercent), "the creator gets what was promised")
	}
}

func TestFinalTransactions(t *testing.T) {
	t.Parallel()
	for status, want := range map[livestream.TransactionStatus]bool{
		livestream.TransactionQueued: false, livestream.TransactionRequiresAction: false, livestream.TransactionProcessing: false,
		livestream.TransactionSucceeded: true, livestream.TransactionFailed: true, livestream.TransactionCanceled: true, livestream.TransactionRefunded: true,
		"": false,
	} {
		require.Equal(t, want, status.Final(), "%q", status)
	}
}
