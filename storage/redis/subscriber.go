package redis

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Subscriber hears channels over connections of its own, and goes on hearing
// them after a cut.
type Subscriber struct {
	sharded *redis.PubSub // chat, by stream
	plain   *redis.PubSub // what concerns every node

	mu      sync.Mutex
	waiting map[string]chan struct{} // channels that Redis has not confirmed yet
}

// NewSubscriber hears nothing until Run runs.
func NewSubscriber(ctx context.Context, client *Client) *Subscriber {
	return &Subscriber{sharded: client.pubsub.SSubscribe(ctx), plain: client.pubsub.Subscribe(ctx), waiting: map[string]chan struct{}{}}
}

// Add hears a channel, from when it returns. A channel is added by one caller at
// a time, and removed even when adding it failed.
//
// Errors: unavailable.
func (s *Subscriber) Add(ctx context.Context, channel string) error {
	confirmed := make(chan struct{})
	s.mu.Lock()
	s.waiting[channel] = confirmed
	s.mu.Unlock()
	if err := s.sharded.SSubscribe(ctx, channel); err != nil {
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
	s.mu.Lock()
	delete(s.waiting, channel)
	s.mu.Unlock()
	return edge("unsubscribe", s.sharded.SUnsubscribe(ctx, channel))
}

func (s *Subscriber) confirm(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if confirmed, ok := s.waiting[channel]; ok {
		close(confirmed)
		delete(s.waiting, channel)
	}
}

const (
	// receivePause is how long a broken connection rests before it is tried again.
	receivePause = 250 * time.Millisecond
	// pingEvery is how long a silent connection is trusted.
	pingEvery = 5 * time.Second
)

// Run hands over messages until ctx ends, those of one channel in order. After a
// cut, messages were lost, and reset is told so once the channels are heard again.
func (s *Subscriber) Run(ctx context.Context, message func(channel, payload string), reset func()) {
	// An error means that Redis is away. The channels are remembered, and heard as
	// soon as there is a connection.
	_ = s.plain.Subscribe(ctx, channelNotifications, channelLogouts, channelModerators)
	var running sync.WaitGroup
	for _, pubsub := range []*redis.PubSub{s.sharded, s.plain} {
		running.Go(func() { s.receive(ctx, pubsub, message, reset) })
	}
	<-ctx.Done()
	_ = s.sharded.Close() // nothing is heard any more, whatever it says
	_ = s.plain.Close()
	running.Wait()
}

func (s *Subscriber) receive(ctx context.Context, pubsub *redis.PubSub, message func(channel, payload string), reset func()) {
	broken := false
	for ctx.Err() == nil {
		got, err := next(ctx, pubsub)
		if err != nil {
			broken = true
			select {
			case <-time.After(receivePause):
			case <-ctx.Done():
			}
			continue
		}
		switch m := got.(type) {
		case *redis.Message:
			message(m.Channel, m.Payload)
		case *redis.Subscription:
			if m.Kind == "ssubscribe" {
				s.confirm(m.Channel)
			}
		}
		// The driver subscribes to all channels in one command before anything else is
		// received on a new connection: with the first answer, all of them are heard.
		if broken {
			broken = false
			reset()
		}
	}
}

// next waits for something to come. A connection that stays silent is asked
// whether it lives, and is replaced by the driver when it gives no answer: the
// other end may be gone without a word.
func next(ctx context.Context, pubsub *redis.PubSub) (any, error) {
	got, err := pubsub.ReceiveTimeout(ctx, pingEvery)
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		return got, err
	}
	if err := pubsub.Ping(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return pubsub.Receive(ctx)
}
