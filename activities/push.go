package activities

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Browsers rings the browsers that have subscribed, by a workflow of its own.
type Browsers interface {
	Ring(ctx context.Context, push livestream.NotificationPush) error
}

// PushStore is what pushes to browsers need of the database.
type PushStore interface {
	Due(ctx context.Context, push livestream.NotificationPush, after livestream.PushCursor, limit int) ([]livestream.DuePush, error)
	DueOf(ctx context.Context, push livestream.NotificationPush, ids []uuid.UUID) ([]livestream.DuePush, error)
	DeleteDead(ctx context.Context, ids []uuid.UUID) error
}

// PushSender tells one browser. With livestream.PushLater it says how long to wait, and
// the error is for the log alone.
type PushSender interface {
	Send(ctx context.Context, push livestream.DuePush) (livestream.PushResult, time.Duration, error)
}

// Pushes tells browsers.
type Pushes struct {
	Store  PushStore
	Sender PushSender
}

const (
	// pushPage is how many browsers are told between two cursors: what a worker that is
	// killed tells twice, beside what it told in the second before.
	pushPage = 100
	// pushesAtOnce bounds the requests of one delivery.
	pushesAtOnce = 25
	// maxPutOff is how many browsers a delivery keeps in mind whose service is busy; it
	// is in each heartbeat.
	maxPutOff = 200
	// pushRounds is how often those are tried again, from pushPause apart on.
	pushRounds = 3
	pushPause  = 2 * time.Second
	// pushBeat is the time between two heartbeats of one that waits.
	pushBeat = 5 * time.Second
)

// PushDelivery is how far a delivery is. It travels in heartbeats, from a worker that
// is gone to the next.
type PushDelivery struct {
	After livestream.PushCursor `json:"after"`
	// PutOff are the subscriptions whose service was busy, and Rounds how often they
	// were tried again.
	PutOff []uuid.UUID `json:"put_off,omitempty"`
	Rounds int         `json:"rounds,omitempty"`
	// Told counts what became of the others.
	Told map[livestream.PushResult]int `json:"told"`
}

// Deliver tells the browsers that a push is for, a page at a time; those whose service
// is busy come once more at the end. It gives how many were told.
func (a *Pushes) Deliver(ctx context.Context, push livestream.NotificationPush) (map[livestream.PushResult]int, error) {
	state := PushDelivery{After: push.Before()}
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &state); err != nil {
			return nil, edge(err)
		}
	}
	if state.Told == nil {
		state.Told = map[livestream.PushResult]int{}
	}
	d := &pushDelivery{Pushes: a, push: push, PushDelivery: state}
	if err := d.run(ctx); err != nil {
		return nil, edge(err)
	}
	return d.Told, nil
}

type pushDelivery struct {
	*Pushes
	push livestream.NotificationPush
	PushDelivery
}

func (d *pushDelivery) run(ctx context.Context) error {
	wait := time.Duration(0)
	for d.Rounds == 0 {
		due, err := d.Store.Due(ctx, d.push, d.After, pushPage)
		if err != nil {
			return err
		}
		if len(due) == 0 {
			break
		}
		asked, err := d.tell(ctx, due)
		if err != nil {
			return err
		}
		wait = max(wait, asked)
		last := due[len(due)-1].Subscription
		d.After = livestream.PushCursor{UserID: last.UserID, SubscriptionID: last.ID}
		activity.RecordHeartbeat(ctx, d.PushDelivery)
	}
	for ; d.Rounds < pushRounds && len(d.PutOff) > 0; d.Rounds++ {
		if err := d.rest(ctx, max(wait, pushPause<<d.Rounds)); err != nil {
			return err
		}
		due, err := d.Store.DueOf(ctx, d.push, d.PutOff)
		if err != nil {
			return err
		}
		before := d.PutOff
		d.PutOff = nil
		if wait, err = d.tell(ctx, due); err != nil {
			d.PutOff = before
			return err
		}
		activity.RecordHeartbeat(ctx, d.PushDelivery)
	}
	d.Told[livestream.PushFailed] += len(d.PutOff)
	return nil
}

// tell tells some browsers, so many at once, and gives how long those want to be left
// alone that are put off. It counts all of them, or with an error none.
func (d *pushDelivery) tell(ctx context.Context, due []livestream.DuePush) (time.Duration, error) {
	results, waits := make([]livestream.PushResult, len(due)), make([]time.Duration, len(due))
	var group errgroup.Group
	group.SetLimit(pushesAtOnce)
	log := activity.GetLogger(ctx)
	beat := d.PushDelivery
	for i, push := range due {
		group.Go(func() error {
			var err error
			if results[i], waits[i], err = d.Sender.Send(ctx, push); err != nil {
				log.Debug("push to a browser", "subscription_id", push.Subscription.ID, "result", results[i], "error", err)
			}
			activity.RecordHeartbeat(ctx, beat)
			return nil
		})
	}
	_ = group.Wait()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var dead []uuid.UUID
	for i, result := range results {
		if result == livestream.PushDead {
			dead = append(dead, due[i].Subscription.ID)
		}
	}
	if len(dead) > 0 {
		if err := d.Store.DeleteDead(ctx, dead); err != nil {
			return 0, err
		}
	}
	told, putOff, wait := maps.Clone(d.Told), slices.Clone(d.PutOff), time.Duration(0)
	for i, result := range results {
		if result == livestream.PushLater && len(putOff) < maxPutOff {
			putOff, wait = append(putOff, due[i].Subscription.ID), max(wait, waits[i])
			continue
		}
		if result == livestream.PushLater {
			result = livestream.PushFailed
		}
		told[result]++
	}
	d.Told, d.PutOff = told, putOff // the heartbeats of before have the old ones still
	return wait, nil
}

// errStopping has a delivery go on elsewhere.
var errStopping = errors.New("the worker stops")

// rest waits before a service is asked again.
func (d *pushDelivery) rest(ctx context.Context, wait time.Duration) error {
	over, beat := time.NewTimer(wait), time.NewTicker(pushBeat)
	defer over.Stop()
	defer beat.Stop()
	for {
		select {
		case <-over.C:
			return nil
		case <-beat.C:
			activity.RecordHeartbeat(ctx, d.PushDelivery)
		case <-activity.GetWorkerStopChannel(ctx):
			return errStopping
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
