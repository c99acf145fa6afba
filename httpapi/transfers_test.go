package httpapi

import (
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestTransfersOfOneAddressLeaveOthersTheirs(t *testing.T) {
	t.Parallel()
	sending := newTransfers(3, 2)
	first, err := sending.begin("a")
	require.NoError(t, err)
	_, err = sending.begin("a")
	require.NoError(t, err)
	_, err = sending.begin("a")
	require.Equal(t, livestream.CodeRateLimited, livestream.CodeOf(err))
	last, err := sending.begin("b")
	require.NoError(t, err)
	_, err = sending.begin("c")
	require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(err))
	first()
	last()
	require.Equal(t, map[string]int{"a": 1}, sending.to, "nothing is kept of those that are done")
	_, err = sending.begin("a")
	require.NoError(t, err)
}

// deadlines is a connection that notes them.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// Who takes a byte now and then gets on, and not for ever.
func TestTransferHasADeadlineAsAWhole(t *testing.T) {
	t.Parallel()
	connection := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	var _ http.ResponseWriter = connection
	sent := newPatient(connection, 64<<10)
	whole := time.Until(sent.end)
	require.InDelta(t, mediaPause+2*time.Second, whole, float64(time.Second))
	_, err := sent.Write([]byte("x"))
	require.NoError(t, err)
	require.True(t, connection.set[0].Before(sent.end), "it may pause")
	sent.end = time.Now().Add(time.Second)
	_, err = sent.Write([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, sent.end, connection.set[1])
	require.Greater(t, newPatient(connection, 100<<30).end, time.Now().Add(24*time.Hour), "the largest file")
}

// A file that an archive has is below it, whatever is asked for.
func FuzzMediaFile(f *testing.F) {
	for _, seed := range []string{
		"/master.m3u8", "/720p/seg_00001.m4s", "/storyboard/sheet_00000.jpg", "/../x/master.m3u8", "/720p/../init.mp4", "/720p//init.mp4",
		"/720p/init.mp4\n", "/%2e%2e/init.mp4", "/720p/seg_99999999999.m4s", "//master.m3u8", "/master.m3u8?x", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) {
		if !mediaFile.MatchString(file) {
			return
		}
		require.Equal(t, file, path.Clean(file))
		require.True(t, strings.HasPrefix(file, "/"))
		require.LessOrEqual(t, strings.Count(file, "/"), 2)
		require.LessOrEqual(t, len(file), 40)
		require.NotContains(t, file, "..")
		require.False(t, strings.ContainsFunc(file, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`%?#\`, r) }), "%q", file)
	})
}
