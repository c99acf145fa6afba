package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

// newTemporal starts a Temporal of the test's own. change may change its dynamic
// configuration.
func newTemporal(t *testing.T, change map[string]any) *devstack.Temporal {
	t.Helper()
	root, err := devstack.FindRoot()
	require.NoError(t, err)
	config, err := devstack.LoadTemporalConfig(root)
	require.NoError(t, err)
	for key, value := range change {
		config.DynamicConfig[key] = value
	}
	_, port, err := net.SplitHostPort(free(t))
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	temporal := devstack.NewTemporal(testenv.Load(t).TemporalCLI, scratch(t), config, number, 0)
	require.NoError(t, temporal.Launch(testenv.Context(t)))
	t.Cleanup(temporal.Kill)
	return temporal
}

func TestTemporalKilledWithEverythingInFlight(t *testing.T) {
	t.Parallel()
	const followers, seconds = 8000, 70
	temporal := newTemporal(t, nil)
	s := newStackOn(t, place{temporal: temporal}, everything)
	recording := s.recording(seconds)

	// A stream that is live, a fan-out in its middle, a payment of which Stripe has
	// not said the last word, and an archive of which some is made.
	ada, bob, eve := s.register("ada"), s.register("bob"), s.register("eve")
	s.followedBy(ada, followers)
	release := s.hold(ada, followers/2)
	s.stripe.SetFaults(stripesim.Faults{WebhooksPaused: true})
	earlier := eve.start(true)
	eve.end(earlier)
	archiveID := eve.upload(earlier.ID, recording)
	stream := ada.start(false)
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": eve.id})
	require.NoError(t, err)
	s.waiting()
	s.until("the archive is being made", func() bool { return s.beating("archive/"+archiveID, "TranscodeChunk") })

	temporal.Kill()
	require.Equal(t, "live", ada.stream(stream.ID).Status, "reading needs no Temporal")
	s.chats(stream, ada, bob)
	began := time.Now()
	err = bob.Do(s.ctx, http.MethodPost, "/api/streams", map[string]any{"title": "at a bad time"}, nil)
	s.refused(err, http.StatusServiceUnavailable, "unavailable")
	require.Less(t, time.Since(began), quickly)
	release()
	s.stripe.SetFaults(stripesim.Faults{})
	require.NoError(t, temporal.Launch(s.ctx))

	require.Equal(t, progressView{Status: "completed", FollowersTotal: followers, Notified: followers}, ada.progressed(stream.ID, "completed"))
	require.EqualValues(t, followers, s.number("SELECT count(*) FROM notifications WHERE key = $1", "stream_live:"+stream.ID))
	bob.paid(tip.ID, "succeeded")
	require.Len(t, s.stripe.Charges(), 1)
	require.EqualValues(t, 450, eve.balance())
	s.plays(eve.archived(archiveID, "ready"), seconds, "360p")
	ada.end(stream)
	ada.happened(stream.ID, "created", "live", "notify_started", "notify_finished", "ending", "ended")
	for _, id := range []string{stream.WorkflowID, "notify/" + stream.ID, "archive/" + archiveID, tip.WorkflowID, earlier.WorkflowID} {
		s.completed(id)
	}
	bob.end(bob.start(false))
}

// chats goes through what the chat does: messages over two nodes, the history, and what
// the stream's owner does about a member.
func (s *stack) chats(stream streamView, owner, other member) {
	s.Helper()
	room := map[string]any{"purpose": "chat", "stream_id": stream.ID}
	hers, his := owner.listen(s.env.ChatURLs[0], room), other.listen(s.env.ChatURLs[1], room)
	s.say(his, "does it still work?")
	said := s.hear(hers, "message")
	require.Contains(s, string(said.JSON), "does it still work?")
	chat := "/api/streams/" + stream.ID + "/chat"
	message := fmt.Sprint(chat, "/messages/", said.ID)
	texts := func() (texts []string) {
		var page struct{ Data []struct{ Text string } }
		owner.must(http.MethodGet, chat+"/messages", nil, &page)
		for _, message := range page.Data {
			texts = append(texts, message.Text)
		}
		return texts
	}
	require.Equal(s, []string{"does it still work?"}, texts())

	owner.must(http.MethodDelete, message, nil, nil)
	s.hear(his, "message_deleted")
	require.Empty(s, texts())
	owner.must(http.MethodPatch, chat+"/settings", map[string]any{"blocked_terms": []string{"nonsense"}}, nil)
	s.hear(his, "settings")
	s.say(his, "nonsense")
	require.Contains(s, string(s.hear(his, "error").JSON), `"blocked_term"`)
	owner.must(http.MethodPut, chat+"/bans/"+other.id, map[string]any{"reason": "nonsense"}, nil)
	require.Contains(s, string(s.hear(hers, "user_banned").JSON), other.id)
}
