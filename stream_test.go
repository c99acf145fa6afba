package livestream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestActiveStreamsOccupyTheirCreator(t *testing.T) {
	t.Parallel()
	for status, want := range map[livestream.StreamStatus]bool{
		livestream.StreamStarting: true, livestream.StreamLive: true, livestream.StreamReconnecting: true,
		livestream.StreamEnding: false, livestream.StreamEnded: false, "": false,
	} {
		require.Equal(t, want, status.Active(), "%q", status)
	}
}
