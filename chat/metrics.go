package chat

import (
	"bytes"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	livestream "github.com/livestream-pro/livestream-pro"
)

type metrics struct {
	connections prometheus.Gauge
	messages    prometheus.Counter
	frames      prometheus.Counter
	slow        prometheus.Counter
	delivery    prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) (metrics, error) {
	m := metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "chat_connections", Help: "Open WebSockets."}),
		messages:    prometheus.NewCounter(prometheus.CounterOpts{Name: "chat_messages_total", Help: "Messages that members sent."}),
		frames:      prometheus.NewCounter(prometheus.CounterOpts{Name: "chat_frames_total", Help: "Frames written to connections."}),
		slow:        prometheus.NewCounter(prometheus.CounterOpts{Name: "chat_slow_readers_total", Help: "Connections that were closed because they read too slowly."}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "chat_delivery_duration_seconds",
			Help:    "From when a node took a message to when this one has written it to the last of its viewers.",
			Buckets: []float64{.005, .01, .025, .05, .075, .1, .15, .25, .5, 1, 2.5, 5},
		}),
	}
	for _, c := range []prometheus.Collector{m.connections, m.messages, m.frames, m.slow, m.delivery} {
		if err := registry.Register(c); err != nil {
			return m, err
		}
	}
	return m, nil
}

// delivered notes events that all viewers of a room were just written (T4). The
// clock that it is held against is that of the node which took the message.
func (m metrics) delivered(events []livestream.ChatEvent) {
	now := time.Now()
	for _, e := range events {
		if at, ok := sentAt(e); ok {
			m.delivery.Observe(max(now.Sub(at), 0).Seconds())
		}
	}
}

var sentAtField = []byte(`"sent_at":"`)

// sentAt is when a message was taken. The field cannot be mistaken for text, whose
// quotes are escaped.
func sentAt(e livestream.ChatEvent) (time.Time, bool) {
	_, rest, found := bytes.Cut(e.JSON, sentAtField)
	end := bytes.IndexByte(rest, '"')
	if !found || end < 0 {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(rest[:end]))
	return at, err == nil
}
