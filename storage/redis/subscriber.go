package redis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Subscriber hears channels over connections of its own, and goes on hearing
// them after a cut.
type Subscriber struct {
	sharded *redis.PubSub // chat, by stream
	plain   *redis.PubSub // what concerns every node
	ready   sync.Map      // channel → chan struct{}, closed once Redis has confirmed
}

// NewSubscriber hears nothing yet.
func NewSubscriber(client *Client) *Subscriber {
	ctx := context.Background()
	return &Subscriber{sharded: client.pubsub.SSubscribe(ctx), plain: client.pubsub.Subscribe(ctx, channelNotifications, channelLogouts)}
}

// Add hears a channel, from when it returns.
func (s *Subscriber) Add(ctx context.Context, channel string) error {
	confirmed := make(chan struct{})
	s.ready.Store(channel, confirmed)
	if err := s.sharded.SSubscribe(ctx, channel); err != nil {
		s.ready.Delete(channel)
		return edge("subscribe", err)
	}
	select {
	case <-confirmed:
		return nil
	case <-ctx.Done():
		return edge("subscribe", context.DeadlineExceeded)
	}
}

// Remove hears a channel no longer.
func (s *Subscriber) Remove(ctx context.Context, channel string) error {
	s.ready.Delete(channel)
	return edge("unsubscribe", s.sharded.SUnsubscribe(ctx, channel))
}

// receivePause is how long a broken connection rests before it is tried again.
const receivePause = 250 * time.Millisecond

// Run hands over messages until ctx ends. After a cut, messages were lost, and
// reset is told so once the channels are heard again.
func (s *Subscriber) Run(ctx context.Context, message func(channel string, payload string), reset func()) {
	var running sync.WaitGroup
	for _, pubsub := range []*redis.PubSub{s.sharded, s.plain} {
		running.Add(1)
		go func() {
			defer running.Done()
			s.receive(ctx, pubsub, message, reset)
		}()
	}
	<-ctx.Done()
	_ = s.sharded.Close() // nothing is heard any more, whatever it says
	_ = s.plain.Close()
	running.Wait()
}

func (s *Subscriber) receive(ctx context.Context, pubsub *redis.PubSub, message func(string, string), reset func()) {
	broken := false
	for ctx.Err() == nil {
		got, err := pubsub.ReceiveTimeout(ctx, pingEvery)
		switch m := got.(type) {
		case *redis.Message:
			message(m.Channel, m.Payload)
		case *redis.Subscription:
			if confirmed, ok := s.ready.LoadAndDelete(m.Channel); ok && (m.Kind == "ssubscribe" || m.Kind == "subscribe") {
				close(confirmed.(chan struct{}))
			}
			if broken {
				broken = false
				reset()
			}
		}
		if err == nil {
			continue
		}
		if isTimeout(err) {
			// Nothing came for a while: is the connection still one?
			if err := pubsub.Ping(ctx); err == nil {
				continue
			}
		}
		broken = true
		select {
		case <-time.After(receivePause):
		case <-ctx.Done():
		}
	}
}

// pingEvery is how long a silent connection is trusted.
const pingEvery = 5 * time.Second

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
