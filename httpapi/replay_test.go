package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

// mustArchive makes an archive of a stream's recording, which is being processed.
func (c *caller) mustArchive(stream string) string {
	c.t.Helper()
	content := []byte("a recording")
	u := c.mustOpenUpload(stream, len(content))
	return c.post(u.completePath(c.t), u.put(c.t, content)).ok(c.t, http.StatusAccepted).text(c.t, "archive_id")
}

// saidAt keeps messages of a member that were said so many seconds into a stream.
func (c *caller) saidAt(stream string, began time.Time, seconds ...float64) {
	c.t.Helper()
	var saved []livestream.ChatSaved
	for i, s := range seconds {
		event, err := json.Marshal(map[string]any{
			"id": i + 1, "type": livestream.ChatMessage, "text": fmt.Sprint(s), "sent_at": began.Add(time.Duration(s * float64(time.Second))),
			"user": livestream.ChatUser{ID: uuid.MustParse(c.id), Username: c.name, DisplayName: c.name, Roles: []string{}},
		})
		require.NoError(c.t, err)
		saved = append(saved, livestream.ChatSaved{
			StreamID: uuid.MustParse(stream), Type: livestream.ChatMessage, ChatEvent: livestream.ChatEvent{ID: int64(i + 1), JSON: event},
		})
	}
	require.NoError(c.t, c.p.chats.Save(c.t.Context(), saved))
}

func TestChatIsReplayedByItsPlaceInTheRecording(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	began, err := time.Parse(time.RFC3339Nano, ada.get("/api/streams/"+stream).text(t, "started_at"))
	require.NoError(t, err)
	bob.saidAt(stream, began, -5, 0, 1.5, 1.5, 10, 59.999, 60, 3600) // two at the same time; one before the recording begins
	path := "/api/archives/" + ada.mustArchive(stream) + "/chat"
	offsets := func(query string) (list []float64) {
		for _, m := range p.anybody(t).pages(path+query, 2) {
			require.Equal(t, m["text"], fmt.Sprint(m["offset_seconds"]))
			require.Equal(t, bob.name, m["user"].(map[string]any)["username"])
			list = append(list, m["offset_seconds"].(float64))
		}
		return list
	}
	require.Equal(t, []float64{0, 1.5, 1.5, 10, 59.999, 60, 3600}, offsets(""))
	require.Equal(t, []float64{10, 59.999}, offsets("?from=1.6&to=60"))
	require.Equal(t, []float64{1.5, 1.5}, offsets("?from=1.5&to=10"))
	require.Empty(t, offsets("?from=3601"))
	require.Empty(t, offsets("?from=10&to=5"))

	ada.do(http.MethodDelete, messagesPath(stream)+"/5", nil).ok(t, http.StatusNoContent)
	require.Equal(t, []float64{0, 1.5, 1.5, 59.999, 60, 3600}, offsets(""), "a message that was deleted is gone here too")

	// A cursor of a place before the part that is asked for does not lead out of it.
	cursor := livestream.Cursor{Time: began.Add(-time.Hour)}.String()
	require.Len(t, p.anybody(t).get(path+"?from=60&cursor="+cursor).data(t), 2)
	for _, bad := range []string{"?from=-1", "?to=x", "?from=1e9", "?limit=0", "?cursor=x"} {
		p.anybody(t).get(path+bad).problem(t, http.StatusBadRequest, "invalid_request")
	}
	p.anybody(t).get("/api/archives/"+uuid.NewString()+"/chat").problem(t, http.StatusNotFound, "archive_not_found")
}
