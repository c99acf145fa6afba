package redis

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

const (
	// quickTimeout bounds a call that has something to fall back to. It is well above
	// the pauses of a busy machine, which say nothing about Redis.
	quickTimeout = 250 * time.Millisecond
	// breakerPause is how long such calls leave Redis alone after one has failed:
	// then one of them tries it.
	breakerPause = time.Second
)

// breaker makes calls that have something to fall back to: after a failure they
// fail at once, so that a Redis that is away costs one wait a second.
type breaker struct {
	circuit *gobreaker.CircuitBreaker[struct{}]
	timeout time.Duration
}

// newBreaker bounds calls by a timeout. closed is told when Redis is back; it may
// be nil.
func newBreaker(name string, timeout time.Duration, closed func()) breaker {
	return breaker{timeout: timeout, circuit: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: name, Timeout: breakerPause,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures > 0 },
		IsSuccessful: func(err error) bool { return err == nil || errors.Is(err, redis.Nil) },
		IsExcluded:   func(err error) bool { return errors.Is(err, errCallerGone) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateClosed && closed != nil {
				closed()
			}
		},
	})}
}

// errCallerGone says nothing about Redis.
var errCallerGone = errors.New("the caller has gone")

func (b breaker) call(ctx context.Context, fn func(ctx context.Context) error) error {
	_, err := b.circuit.Execute(func() (struct{}, error) {
		bounded, cancel := context.WithTimeout(ctx, b.timeout)
		defer cancel()
		err := fn(bounded)
		if err != nil && ctx.Err() != nil {
			err = errors.Join(errCallerGone, err)
		}
		return struct{}{}, err
	})
	return err
}

// refused says whether a call was not made because one before it had failed.
func refused(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}
