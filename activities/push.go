package activities

import (
	"context"
	"errors"
	"fmt"
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
	// maxPutOff is how many browsers a delivery keeps in mind whose services are busy or
	// away; they are in each heartbeat. When there could be more it reads on no further.
	maxPutOff = 500
	// pushRounds is how often in a row those are tried in vain, pushPause and then twice
	// as long apart each time: two minutes in all. A service may ask for more.
	pushRounds = 6
	pushPause  = 2 * time.Second
)

// PushDelivery is how far a delivery is. It travels in heartbeats, from one attempt to
// the next.
type PushDelivery struct {
	After livestream.PushCursor `json:"after"`
	// PutOff are the subscriptions before it whose service was busy or away, and Rounds
	// how often in a row all of them were tried again in vain.
	PutOff []uuid.UUID `json:"put_off,omitempty"`
	Rounds int         `json:"rounds,omitempty"`
	// Told counts what became of the others.
	Told map[livestream.PushResult]int `json:"told"`
}

// Deliver tells the browsers that a push is for, a page at a time, and gives how many
// were told. Where services are to be left alone for a while, the attempt ends and
// says when the next one begins: nothing is kept busy by waiting.
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
	wait time.Duration // that services have asked for in this attempt
}

func (d *pushDelivery) run(ctx context.Context) error {
	if err := d.tellPutOff(ctx); err != nil {
		return err
	}
	for len(d.PutOff)+pushPage <= maxPutOff {
		due, err := d.Store.Due(ctx, d.push, d.After, pushPage)
		if err != nil {
			return err
		}
		if len(due) == 0 {
			break
		}
		if err := d.tell(ctx, due, d.PutOff); err != nil {
			return err
		}
		last := due[len(due)-1].Subscription
		d.After = livestream.PushCursor{UserID: last.UserID, SubscriptionID: last.ID}
		activity.RecordHeartbeat(ctx, d.PushDelivery)
	}
	if len(d.PutOff) > 0 {
		return comeBack(fmt.Sprintf("the services of %d browsers are busy or away", len(d.PutOff)), max(d.wait, pushPause<<d.Rounds))
	}
	return nil
}

// tellPutOff tries those again that were put off, and gives them up after the last
// round.
func (d *pushDelivery) tellPutOff(ctx context.Context) error {
	before := len(d.PutOff)
	if before == 0 {
		return nil
	}
	for n := 0; n < before; n += pushPage {
		size := min(pushPage, before-n)
		due, err := d.Store.DueOf(ctx, d.push, d.PutOff[:size])
		if err != nil {
			return err
		}
		if err := d.tell(ctx, due, d.PutOff[size:]); err != nil {
			return err
		}
		activity.RecordHeartbeat(ctx, d.PushDelivery)
	}
	d.Rounds++
	if len(d.PutOff) < before {
		d.Rounds = 0
	}
	if d.Rounds == pushRounds {
		d.Told[livestream.PushFailed] += len(d.PutOff)
		d.PutOff, d.Rounds = nil, 0
	}
	activity.RecordHeartbeat(ctx, d.PushDelivery)
	return nil
}

// tell tells some browsers, so many at once, and adds those whose service is busy or
// away to putOff. With an error it is as if none had been told.
func (d *pushDelivery) tell(ctx context.Context, due []livestream.DuePush, putOff []uuid.UUID) error {
	select {
	case <-activity.GetWorkerStopChannel(ctx):
		return errStopping
	default:
	}
	results, waits := make([]livestream.PushResult, len(due)), make([]time.Duration, len(due))
	var group errgroup.Group
	group.SetLimit(pushesAtOnce)
	log := activity.GetLogger(ctx)
	for i, push := range due {
		group.Go(func() error {
			var err error
			if results[i], waits[i], err = d.Sender.Send(ctx, push); err != nil {
				log.Debug("push to a browser", "subscription_id", push.Subscription.ID, "result", results[i], "error", err)
			}
			activity.RecordHeartbeat(ctx, d.PushDelivery)
			return nil
		})
	}
	_ = group.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	var dead []uuid.UUID
	for i, result := range results {
		if result == livestream.PushDead {
			dead = append(dead, due[i].Subscription.ID)
		}
	}
	if len(dead) > 0 {
		if err := d.Store.DeleteDead(ctx, dead); err != nil {
			return err
		}
	}
	for i, result := range results {
		if result == livestream.PushLater {
			putOff, d.wait = append(putOff, due[i].Subscription.ID), max(d.wait, waits[i])
		} else {
			d.Told[result]++
		}
	}
	d.PutOff = putOff
	return nil
}

// errStopping has a delivery go on elsewhere.
var errStopping = errors.New("the worker stops")
