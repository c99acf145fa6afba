package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// PushSubscriptions keeps the browsers that are told of notifications.
type PushSubscriptions struct{ db *DB }

// NewPushSubscriptions keeps subscriptions in db.
func NewPushSubscriptions(db *DB) *PushSubscriptions { return &PushSubscriptions{db: db} }

const subscriptionColumns = `s.id, s.user_id, s.endpoint, s.key, s.secret, s.server_key, s.subscribed_at`

// due joins subscriptions with the notifications of a key that rang and that nobody
// has read meanwhile. Both tables are looked up by recipient.
const due = `SELECT ` + subscriptionColumns + `,
	n.id AS notification_id, n.type AS notification_type, n.created_at AS notification_created_at, n.data AS notification_data
FROM push_subscriptions s JOIN notifications n ON n.user_id = s.user_id AND n.key = $1 AND n.created_at >= $2 AND NOT n.silent AND NOT n.read`

const (
	// One member subscribes at a time, so that the limit holds.
	lockSubscriberSQL = `-- name: push_subscriptions.lock
SELECT count(*) FROM (SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE) locked`

	subscribeSQL = `-- name: push_subscriptions.subscribe
INSERT INTO push_subscriptions AS s (user_id, endpoint, key, secret, server_key) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (endpoint) DO UPDATE SET user_id = EXCLUDED.user_id, key = EXCLUDED.key, secret = EXCLUDED.secret,
	server_key = EXCLUDED.server_key, subscribed_at = EXCLUDED.subscribed_at
RETURNING ` + subscriptionColumns

	trimSubscriptionsSQL = `-- name: push_subscriptions.trim
DELETE FROM push_subscriptions WHERE id IN (
	SELECT id FROM push_subscriptions WHERE user_id = $1 ORDER BY subscribed_at DESC, id DESC OFFSET $2
)`

	unsubscribeSQL = `-- name: push_subscriptions.unsubscribe
DELETE FROM push_subscriptions WHERE user_id = $1 AND id = $2`

	// The first one after the cursor says it: it is one look into the index.
	anySubscriptionSQL = `-- name: push_subscriptions.any
SELECT coalesce((SELECT user_id FROM push_subscriptions WHERE (user_id, id) > ($1, $2) ORDER BY user_id, id LIMIT 1) <= $3, false)`

	duePushesSQL = `-- name: push_subscriptions.due
` + due + `
WHERE (s.user_id, s.id) > ($3, $4) AND s.user_id <= $5 ORDER BY s.user_id, s.id LIMIT $6`

	duePushesOfSQL = `-- name: push_subscriptions.due_of
` + due + `
WHERE s.id = ANY ($3)`

	// Who has subscribed anew meanwhile, with the same endpoint, is dead as well.
	deleteDeadSQL = `-- name: push_subscriptions.delete_dead
DELETE FROM push_subscriptions WHERE id = ANY ($1)`
)

type subscriptionRow struct {
	ID           uuid.UUID
	UserID       uuid.UUID
	Endpoint     string
	Key          []byte
	Secret       []byte
	ServerKey    string
	SubscribedAt time.Time
}

func (r subscriptionRow) domain() livestream.PushSubscription { return livestream.PushSubscription(r) }

type duePushRow struct {
	subscriptionRow
	NotificationID        uuid.UUID
	NotificationType      livestream.NotificationType
	NotificationCreatedAt time.Time
	NotificationData      json.RawMessage
}

func (r duePushRow) domain() livestream.DuePush {
	return livestream.DuePush{Subscription: r.subscriptionRow.domain(), Notification: livestream.Notification{
		ID: r.NotificationID, UserID: r.UserID, Type: r.NotificationType, CreatedAt: r.NotificationCreatedAt, Data: r.NotificationData,
	}}
}

// Subscribe has a browser told of a member's notifications from now on, and of nobody
// else's. The member's oldest beyond livestream.MaxPushSubscriptions are forgotten.
// CodeUserNotFound.
func (s *PushSubscriptions) Subscribe(ctx context.Context, subscription livestream.PushSubscription) (livestream.PushSubscription, error) {
	var row subscriptionRow
	err := s.db.inTx(ctx, func(tx querier) error {
		_, err := scalar[int64](ctx, tx, lockSubscriberSQL, subscription.UserID)
		if err != nil {
			return err
		}
		row, err = one[subscriptionRow](ctx, tx, subscribeSQL, subscription.UserID, subscription.Endpoint, subscription.Key, subscription.Secret, subscription.ServerKey)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, trimSubscriptionsSQL, subscription.UserID, livestream.MaxPushSubscriptions)
		return err
	})
	return row.domain(), fail(ctx, "subscribe to pushes", err)
}

// Unsubscribe forgets a browser of a member. CodeSubscriptionNotFound.
func (s *PushSubscriptions) Unsubscribe(ctx context.Context, userID, id uuid.UUID) error {
	tag, err := s.db.primary.Exec(ctx, unsubscribeSQL, userID, id)
	if err == nil && tag.RowsAffected() == 0 {
		return livestream.Errorf(livestream.CodeSubscriptionNotFound, "there is no such subscription")
	}
	return fail(ctx, "unsubscribe from pushes", err)
}

// Any says whether anybody with a browser that is told lies in a push's range,
// whether they have its notification or not.
func (s *PushSubscriptions) Any(ctx context.Context, push livestream.NotificationPush) (bool, error) {
	before := push.Before()
	any, err := scalar[bool](ctx, s.db.primary, anySubscriptionSQL, before.UserID, before.SubscriptionID, push.Upto())
	return any, fail(ctx, "look for subscriptions", err)
}

// Due gives the browsers that a push is for, by recipient, after those of a cursor and
// at most limit of them: of recipients that were rung and have not read it meanwhile.
func (s *PushSubscriptions) Due(ctx context.Context, push livestream.NotificationPush, after livestream.PushCursor, limit int) ([]livestream.DuePush, error) {
	rows, err := many[duePushRow](ctx, s.db.primary, duePushesSQL, push.Key, push.At, after.UserID, after.SubscriptionID, push.Upto(), limit)
	return all(rows, duePushRow.domain), fail(ctx, "read due pushes", err)
}

// DueOf is Due for some subscriptions.
func (s *PushSubscriptions) DueOf(ctx context.Context, push livestream.NotificationPush, ids []uuid.UUID) ([]livestream.DuePush, error) {
	rows, err := many[duePushRow](ctx, s.db.primary, duePushesOfSQL, push.Key, push.At, ids)
	return all(rows, duePushRow.domain), fail(ctx, "read due pushes", err)
}

// DeleteDead forgets subscriptions that have ended.
func (s *PushSubscriptions) DeleteDead(ctx context.Context, ids []uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, deleteDeadSQL, ids)
	return fail(ctx, "delete dead subscriptions", err)
}
