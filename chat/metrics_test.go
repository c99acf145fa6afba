package chat_test

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

// T4: the time of a message is taken from when it was said to when all viewers of a
// node were written it, once a node; what a text says about times is text.
func TestDeliveryIsTimed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(t, fast)
	stream := w.stream(t).ID
	viewers := []*socket{w.chat(t, n, stream, nil), w.chat(t, n, stream, nil)}
	for _, m := range []struct {
		text   string
		sentAt time.Time
	}{
		{`,"sent_at":"2001-01-01T00:00:00Z"`, time.Now()},
		{"late", time.Now().Add(-time.Hour)},
		{"of a clock that is ahead", time.Now().Add(time.Hour)},
	} {
		_, _, err := w.events.Append(w.ctx, livestream.NewChatEvent{
			StreamID: stream, Type: livestream.ChatMessage, Body: livestream.ChatMessageBody{User: livestream.ChatUser{ID: stream}, Text: m.text, SentAt: m.sentAt},
		})
		require.NoError(t, err)
	}
	for _, s := range viewers {
		s.texts(0, 3)
	}
	var times *dto.Histogram
	require.Eventually(t, func() bool {
		families, err := n.metrics.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if family.GetName() == "chat_delivery_duration_seconds" {
				times = family.GetMetric()[0].GetHistogram()
			}
		}
		return times.GetSampleCount() == 3
	}, patience, 10*time.Millisecond, "each message once, whatever the number of viewers")
	require.InDelta(t, time.Hour.Seconds(), times.GetSampleSum(), time.Minute.Seconds(), "one was an hour late, none was years late or early")
}
