package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	livestream "github.com/livestream-pro/livestream-pro"
)

// OldRows deletes rows from before a time, the oldest first and at most limit of
// them, and gives how many that were: fewer than limit when no more are left.
type OldRows interface {
	DeleteOld(ctx context.Context, before time.Time, limit int) (int64, error)
}

// NotificationMonths are the tables that notifications are kept in.
type NotificationMonths interface {
	OldRows
	MakeMonths(ctx context.Context, now, until time.Time) (int64, error)
}

// Housekeeping are the steps that delete what nothing needs any more.
type Housekeeping struct {
	Keys         OldRows
	Sessions     OldRows
	StripeEvents OldRows
	Views        OldRows
	// Notifications deletes months: what is old is marked as read first.
	Notifications NotificationMonths
	Now           func() time.Time
}

// How long rows are kept that nothing needs any more.
const (
	keysKept     = 48 * time.Hour // clients are promised 24
	sessionsKept = 24 * time.Hour // after the token has expired
	// Stripe sends an event again for 3 days, and on demand for 30.
	stripeEventsKept = 90 * 24 * time.Hour
	// From the end of a notification's month.
	notificationsKept = 90 * 24 * time.Hour
)

// monthsAhead is how long before it begins a month's table is there. It is far more
// than the time between two runs, because what has no table cannot be written.
const monthsAhead = 90 * 24 * time.Hour

// sweepBatch rows are deleted in one statement: few enough that nobody waits for it.
const sweepBatch = 1000

// DeleteIdempotencyKeys forgets requests whose keys are out of use, and gives how
// many.
func (a *Housekeeping) DeleteIdempotencyKeys(ctx context.Context) (int64, error) {
	return a.sweep(ctx, a.Keys, keysKept)
}

// DeleteSessions forgets refresh tokens that have expired, with the logins that have
// no other, and gives how many tokens.
func (a *Housekeeping) DeleteSessions(ctx context.Context) (int64, error) {
	return a.sweep(ctx, a.Sessions, sessionsKept)
}

// DeleteStripeEvents forgets events that their payments have heard of long ago, and
// gives how many.
func (a *Housekeeping) DeleteStripeEvents(ctx context.Context) (int64, error) {
	return a.sweep(ctx, a.StripeEvents, stripeEventsKept)
}

// DeleteViews forgets who watched archives on which day, and gives how many days.
func (a *Housekeeping) DeleteViews(ctx context.Context) (int64, error) {
	return a.sweep(ctx, a.Views, livestream.ViewWindow)
}

// MakeNotificationMonths makes the tables of the months to come, and gives how many.
func (a *Housekeeping) MakeNotificationMonths(ctx context.Context) (int64, error) {
	now := a.Now()
	made, err := a.Notifications.MakeMonths(ctx, now, now.Add(monthsAhead))
	return made, edge(err)
}

// DeleteNotifications forgets the months of notifications that are over long ago, and
// gives how many nobody had read.
func (a *Housekeeping) DeleteNotifications(ctx context.Context) (int64, error) {
	return a.sweep(ctx, a.Notifications, notificationsKept)
}

func (a *Housekeeping) sweep(ctx context.Context, rows OldRows, kept time.Duration) (int64, error) {
	before, total := a.Now().Add(-kept), int64(0)
	for {
		deleted, err := rows.DeleteOld(ctx, before, sweepBatch)
		total += deleted
		if err != nil || deleted < sweepBatch {
			return total, edge(err)
		}
		activity.RecordHeartbeat(ctx, total)
	}
}
