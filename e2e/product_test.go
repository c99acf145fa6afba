package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/client"
)

// TestProduct is what needs no killing; its tests share one stack.
func TestProduct(t *testing.T) {
	t.Parallel()
	s := newStack(t, everything)
	for name, test := range map[string]func(*stack){
		"the main job, from the start to a playable archive":     mainJob,
		"a file that is no video fails, and can be retried":      failedArchive,
		"two chat nodes serve one stream":                        twoChatNodes,
		"the same key starts the same stream":                    sameKeySameStream,
		"a refused start is refused again, and leaves no row":    refusedStart,
		"a card that is declined costs nothing":                  declinedPayment,
		"a payment that its payer has to confirm":                confirmedPayment,
		"the longest title is no reason to refuse a start":       longTitle,
		"ending a stream twice is no error":                      endTwice,
		"a recording while the stream is live waits for its end": earlyRecording,
		"an archive that is deleted while it is made stays gone": deletedArchive,
		"an archive that is deleted takes its files with it":     deletedFiles,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(s.in(t))
		})
	}
}

func mainJob(s *stack) {
	ada, bob := s.register("ada"), s.register("bob")
	bob.follow(ada)
	inbox := bob.listen("", map[string]any{"purpose": "notifications"})

	stream := ada.start(true)
	require.Equal(s, "stream/"+stream.ID, stream.WorkflowID)
	var told struct {
		Notification struct {
			Type string `json:"type"`
			Data struct {
				StreamID string `json:"stream_id"`
				UserID   string `json:"user_id"`
				Username string `json:"username"`
				Title    string `json:"title"`
			} `json:"data"`
		} `json:"notification"`
	}
	require.NoError(s, s.hear(inbox, "notification").Decode(&told))
	require.Equal(s, "stream_live", told.Notification.Type)
	require.Equal(s, stream.ID, told.Notification.Data.StreamID)
	require.Equal(s, ada.id, told.Notification.Data.UserID)
	require.Equal(s, ada.name, told.Notification.Data.Username)
	require.Equal(s, "Live from the workshop", told.Notification.Data.Title)

	room := map[string]any{"purpose": "chat", "stream_id": stream.ID}
	hers, his := ada.listen("", room), bob.listen("", room)
	s.say(his, "good evening")
	var said struct {
		Text string `json:"text"`
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	}
	require.NoError(s, s.hear(hers, "message").Decode(&said))
	require.Equal(s, "good evening", said.Text)
	require.Equal(s, bob.id, said.User.ID)

	tip, err := bob.tip(uuid.NewString(), map[string]any{"stream_id": stream.ID, "message": "for the coffee"})
	require.NoError(s, err)
	var shown struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
		Message  string `json:"message"`
	}
	require.NoError(s, s.hear(hers, "tip").Decode(&shown))
	require.EqualValues(s, 500, shown.Amount)
	require.Equal(s, "usd", shown.Currency)
	require.Equal(s, "for the coffee", shown.Message)
	bob.paid(tip.ID, "succeeded")
	require.EqualValues(s, 450, ada.balance(), "500 less the fee")

	ada.end(stream)
	var over struct {
		Status string `json:"status"`
	}
	for over.Status != "ended" {
		require.NoError(s, s.hear(his, "stream").Decode(&over))
	}
	const seconds = 10
	archiveID := ada.upload(stream.ID, s.recording(seconds))
	require.Equal(s, archiveID, *ada.stream(stream.ID).ArchiveID)
	archive := ada.archived(archiveID, "ready")
	require.EqualValues(s, 1, archive.Progress)
	require.InDelta(s, seconds, archive.DurationSeconds, 0.5)
	s.plays(archive, seconds, "360p")
	s.served(archive)
	want := []string{"created", "live", "notify_started", "notify_finished", "ending", "ended", "recording_received", "archive_started", "archive_ready"}
	require.Equal(s, want, ada.happened(stream.ID, want...), "in that order")
	s.until("ada is told of her archive", func() bool {
		notifications := ada.notifications()
		return len(notifications) > 0 && notifications[0].Type == "archive_ready"
	})
	for _, id := range []string{stream.WorkflowID, "notify/" + stream.ID, "archive/" + archiveID, tip.WorkflowID} {
		s.completed(id)
	}
}

// served checks how an archive's files come: playlists and their segments by
// addresses that work, and a picture.
func (s *stack) served(archive archiveView) {
	s.Helper()
	kind, master := s.get(archive.PlaybackURL)
	require.Equal(s, "application/vnd.apple.mpegurl", kind)
	require.True(s, bytes.HasPrefix(master, []byte("#EXTM3U")))
	base, err := url.Parse(archive.PlaybackURL)
	require.NoError(s, err)
	for _, line := range strings.Split(string(master), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		playlist := base.ResolveReference(&url.URL{Path: line})
		_, content := s.get(playlist.String())
		require.Contains(s, string(content), "#EXT-X-ENDLIST")
	}
	kind, picture := s.get(archive.ThumbnailURL)
	require.Equal(s, "image/jpeg", kind)
	require.Equal(s, "image/jpeg", http.DetectContentType(picture))
}

func failedArchive(s *stack) {
	ada := s.register("ada")
	archiveID := s.brokenArchive(ada)

	archive := ada.archive(archiveID)
	require.Equal(s, "not_a_video", archive.Failure.Code)
	require.NotEmpty(s, archive.Failure.Message)
	for _, word := range []string{"ffprobe", "ffmpeg", "exit status", "/"} {
		require.NotContains(s, archive.Failure.Message, word, "a creator cannot do anything with it")
	}
	s.replaceRecording(archive.StreamID, s.recording(4))
	s.shell(`temporal workflow signal --workflow-id "archive/$ARCHIVE_ID" --name retry`, map[string]string{"ARCHIVE_ID": archiveID})

	archive = ada.archived(archiveID, "ready")
	require.Nil(s, archive.Failure)
	s.plays(archive, 4, "360p")
	types := ada.happened(archive.StreamID, "created", "live", "notify_started", "notify_finished", "ending", "ended",
		"recording_received", "archive_started", "archive_failed", "archive_started", "archive_ready")
	require.Equal(s, []string{"archive_started", "archive_failed", "archive_started", "archive_ready"}, types[7:])
}

func twoChatNodes(s *stack) {
	ada, bob := s.register("ada"), s.register("bob")
	stream := ada.start(false)
	room := map[string]any{"purpose": "chat", "stream_id": stream.ID}
	one, other := ada.listen(s.env.ChatURLs[0], room), bob.listen(s.env.ChatURLs[1], room)

	s.say(one, "from the first node")
	s.say(other, "from the second node")

	for _, socket := range []*client.Socket{one, other} {
		var texts []string
		var ids []int64
		for range 2 {
			event := s.hear(socket, "message")
			var said struct {
				Text string `json:"text"`
			}
			require.NoError(s, event.Decode(&said))
			texts, ids = append(texts, said.Text), append(ids, event.ID)
		}
		require.ElementsMatch(s, []string{"from the first node", "from the second node"}, texts)
		require.Less(s, ids[0], ids[1], "all see them in the same order")
	}
	_, err := bob.tip(uuid.NewString(), map[string]any{"stream_id": stream.ID})
	require.NoError(s, err)
	require.Equal(s, s.hear(one, "tip").ID, s.hear(other, "tip").ID)
	ada.end(stream)
}

// say writes a chat message.
func (s *stack) say(socket *client.Socket, text string) {
	s.Helper()
	require.NoError(s, socket.Send(s.ctx, map[string]any{"type": "message", "text": text, "nonce": uuid.NewString()}))
}

func sameKeySameStream(s *stack) {
	ada, key := s.register("ada"), uuid.NewString()
	in := map[string]any{"title": "once", "record": false}
	var first, second, late streamView
	ada.must(http.MethodPost, "/api/streams", in, &first, "Idempotency-Key", key)
	ada.must(http.MethodPost, "/api/streams", in, &second, "Idempotency-Key", key)
	require.Equal(s, first, second)
	err := ada.ask(http.MethodPost, "/api/streams", map[string]any{"title": "twice"}, nil, "Idempotency-Key", key)
	s.refused(err, http.StatusUnprocessableEntity, "idempotency_key_reused")
	ada.end(first)
	s.completed(first.WorkflowID)
	ada.must(http.MethodPost, "/api/streams", in, &late, "Idempotency-Key", key)
	require.Equal(s, first.ID, late.ID, "even after its end")
	require.EqualValues(s, 1, s.number("SELECT count(*) FROM streams WHERE user_id = $1", ada.id))
}

func refusedStart(s *stack) {
	ada, key := s.register("ada"), uuid.NewString()
	live := ada.start(false)
	for range 2 {
		err := ada.ask(http.MethodPost, "/api/streams", map[string]any{"title": "too much"}, nil, "Idempotency-Key", key)
		s.refused(err, http.StatusConflict, "already_streaming")
	}
	require.EqualValues(s, 1, s.number("SELECT count(*) FROM streams WHERE user_id = $1", ada.id))
	ada.end(live)
}

func longTitle(s *stack) {
	ada := s.register("ada")
	title := strings.Repeat("🎬", 140)
	var stream streamView
	ada.must(http.MethodPost, "/api/streams", map[string]any{"title": title, "record": false}, &stream)
	ada.end(stream)
	s.completed("notify/" + stream.ID)
}

func endTwice(s *stack) {
	ada := s.register("ada")
	stream := ada.start(false)
	for range 3 {
		var answer streamView
		ada.must(http.MethodPost, "/api/streams/"+stream.ID+"/end", nil, &answer)
		require.Contains(s, []string{"ending", "ended"}, answer.Status)
	}
	ada.end(stream)
	ada.happened(stream.ID, "created", "live", "notify_started", "notify_finished", "ending", "ended")
}

func earlyRecording(s *stack) {
	ada := s.register("ada")
	stream := ada.start(true)
	archiveID := ada.upload(stream.ID, s.recording(4))
	require.Equal(s, "processing", ada.archive(archiveID).Status)
	require.NotContains(s, ada.timeline(stream.ID), "archive_started", "the stream is still live")
	ada.end(stream)
	ada.archived(archiveID, "ready")
	types := ada.happened(stream.ID, "created", "live", "notify_started", "notify_finished", "recording_received",
		"ending", "ended", "archive_started", "archive_ready")
	require.Contains(s, types[:5], "recording_received")
	require.Equal(s, []string{"ending", "ended", "archive_started", "archive_ready"}, types[5:])
}

func deletedArchive(s *stack) {
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	archiveID := ada.upload(stream.ID, s.recording(20))
	ada.must(http.MethodDelete, "/api/archives/"+archiveID, nil, nil)
	s.closed("archive/" + archiveID)
	s.refused(ada.ask(http.MethodGet, "/api/archives/"+archiveID, nil, nil), http.StatusNotFound, "archive_not_found")
	require.Zero(s, s.number("SELECT count(*) FROM archives WHERE id = $1", archiveID))
	require.NotContains(s, ada.timeline(stream.ID), "archive_ready")
}

func deletedFiles(s *stack) {
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	archiveID := ada.upload(stream.ID, s.recording(4))
	archive := ada.archived(archiveID, "ready")
	s.completed("archive/" + archiveID)
	ada.must(http.MethodDelete, "/api/archives/"+archiveID, nil, nil)
	for _, folder := range []string{"archives/" + archiveID, "work/" + archiveID, "recordings/" + stream.ID} {
		s.until(folder+" is empty", func() bool { return s.files(folder) == 0 })
	}
	response, err := http.Get(archive.PlaybackURL)
	require.NoError(s, err)
	require.NoError(s, response.Body.Close())
	require.Equal(s, http.StatusNotFound, response.StatusCode)
}

// files counts what the bucket has in a folder.
func (s *stack) files(folder string) (n int) {
	s.Helper()
	err := filepath.WalkDir(filepath.Join(s.env.S3Dir, s.env.S3Bucket, folder), func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			n++
		}
		return nil // what goes meanwhile is gone
	})
	require.NoError(s, err)
	return n
}

func declinedPayment(s *stack) {
	ada, bob := s.register("ada"), s.register("bob")
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id, "payment_method": "pm_card_chargeDeclinedInsufficientFunds"})
	require.NoError(s, err)
	tip = bob.paid(tip.ID, "failed")
	require.Equal(s, "insufficient_funds", tip.Failure.Code)
	s.completed(tip.WorkflowID)
	require.Zero(s, ada.balance())
}

func confirmedPayment(s *stack) {
	ada, bob := s.register("ada"), s.register("bob")
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id, "payment_method": "pm_card_authenticationRequired"})
	require.NoError(s, err)
	require.Equal(s, "requires_action", tip.Status)
	require.Zero(s, ada.balance())
	s.authenticate(tip, true)
	bob.paid(tip.ID, "succeeded")
	s.completed(tip.WorkflowID)
	require.EqualValues(s, 450, ada.balance())
}

// authenticate is what the payer does in their bank's window.
func (s *stack) authenticate(tip transactionView, succeed bool) {
	s.Helper()
	status := s.command(s.ctx, "/_sim/payment_intents/"+tip.IntentID+"/authenticate", fmt.Sprintf(`{"succeed": %t}`, succeed))
	require.Equal(s, http.StatusOK, status)
}

// askStripe makes a call of Stripe's API and gives the status; 0 when there was no
// answer.
func (s *stack) askStripe(ctx context.Context, path string, form url.Values) int {
	return s.postToStripe(ctx, path, "application/x-www-form-urlencoded", form.Encode())
}

// command has the simulator do something, and gives the status as askStripe does.
func (s *stack) command(ctx context.Context, path, body string) int {
	return s.postToStripe(ctx, path, "application/json", body)
}

func (s *stack) postToStripe(ctx context.Context, path, kind, body string) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.env.StripeAPIBase+path, strings.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Authorization", "Bearer "+s.env.StripeSecretKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}
