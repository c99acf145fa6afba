package livestream_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

// A notification's key begins with its type: two types about one thing do not
// take each other's place in an inbox.
func TestNotificationKeys(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("018f3b1e-0000-7000-8000-000000000001")
	require.Equal(t, "stream_live:"+id.String(), livestream.StreamLiveKey(id))
	require.Equal(t, "tip_received:"+id.String(), livestream.TipReceivedKey(id))
	require.Equal(t, "new_follower:"+id.String(), livestream.NewFollowerKey(id))
	require.Equal(t, "archive_ready:"+id.String(), livestream.ArchiveReadyKey(id))
}
