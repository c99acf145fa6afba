package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// PushSubscriptions keeps the browsers that are told of notifications.
type PushSubscriptions struct{ db *DB }

// NewPushSubscriptions keeps subscriptions in db.
func NewPushSubscriptions(db *DB) *PushSubscriptions { return &PushSubscriptions{db: db} }

const subscriptionColumns = `s.id, s.user_id, s.session_id AS family_id, s.endpoint, s.key, s.secret, s.server_key, s.subscribed_at`

const (
	dueColumns = subscriptionColumns + `,
	n.id AS notification_id, n.type AS notification_type, n.created_at AS notification_created_at, n.data AS notification_data`

	// login leaves those out whose login is over: it was revoked, or has no token left
	// that it goes on with. Those are deleted with it, some days later.
	login = `CROSS JOIN LATERAL (
	SELECT FROM sessions l JOIN refresh_tokens t ON t.session_id = l.id
	WHERE l.id = s.session_id AND l.revoked_at IS NULL AND t.expires_at > now() LIMIT 1
) login`

	// rung looks a recipient's notification up, if it rang and nobody has read it
	// meanwhile.
	rung = login + `
JOIN notifications n ON n.user_id = s.user_id AND n.key = $1 AND n.created_at = $2 AND NOT n.silent AND NOT n.read`
)

const (
	// One member subscribes at a time, so that the limit holds.
	lockSubscriberSQL = `-- name: push_subscriptions.lock
SELECT count(*) FROM (SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE) locked`

	// An access token is good for a while after its login has ended.
	subscribeSQL = `-- name: push_subscriptions.subscribe
INSERT INTO push_subscriptions AS s (user_id, session_id, endpoint, key, secret, server_key)
SELECT user_id, id, $3, $4, $5, $6 FROM sessions WHERE id = $2 AND user_id = $1 AND revoked_at IS NULL
ON CONFLICT (endpoint) DO UPDATE SET user_id = EXCLUDED.user_id, session_id = EXCLUDED.session_id, key = EXCLUDED.key, secret = EXCLUDED.secret,
	server_key = EXCLUDED.server_key, subscribed_at = EXCLUDED.subscribed_at
RETURNING ` + subscriptionColumns

	trimSubscriptionsSQL = `-- name: push_subscriptions.trim
DELETE FROM push_subscriptions WHERE id IN (
	SELECT id FROM push_subscriptions WHERE user_id = $1 ORDER BY subscribed_at DESC, id DESC OFFSET $2
)`

	unsubscribeSQL = `-- name: push_subscriptions.unsubscribe
DELETE FROM push_subscriptions WHERE user_id = $1 AND id = $2`

	anyOfMemberSQL = `-- name: push_subscriptions.any_of_member
SELECT EXISTS (SELECT FROM push_subscriptions WHERE user_id = $1)`

	// The first part, whether the next one by key lies in the range, is one look into an
	// index: it is all that there is to do where hardly anybody subscribes.
	anyInRangeSQL = `-- name: push_subscriptions.any_in_range
SELECT coalesce((SELECT user_id FROM push_subscriptions WHERE user_id > $2 ORDER BY user_id LIMIT 1) <= $3, false) AND EXISTS (
	SELECT FROM follows f CROSS JOIN LATERAL (SELECT FROM push_subscriptions WHERE user_id = f.follower_id LIMIT 1) s
	WHERE f.following_id = $1 AND f.follower_id > $2 AND f.follower_id <= $3
)`

	dueOfMemberSQL = `-- name: push_subscriptions.due_of_member
SELECT ` + dueColumns + `
FROM push_subscriptions s ` + rung + `
WHERE s.user_id = $3 AND s.id > $4 ORDER BY s.id LIMIT $5`

	// A few followers may be spread over all members, and so their browsers are looked
	// up for each. LATERAL with a limit, that of the page, keeps the planner from reading
	// all that lie between them.
	dueInRangeSQL = `-- name: push_subscriptions.due_in_range
SELECT ` + dueColumns + `
FROM follows f
CROSS JOIN LATERAL (SELECT * FROM push_subscriptions WHERE user_id = f.follower_id AND (user_id, id) > ($4, $5) ORDER BY id LIMIT $7) s
` + rung + `
WHERE f.following_id = $3 AND f.follower_id >= $4 AND f.follower_id <= $6
ORDER BY f.follower_id, s.id LIMIT $7`

	dueOfSQL = `-- name: push_subscriptions.due_of
SELECT ` + dueColumns + `
FROM push_subscriptions s ` + rung + `
WHERE s.id = ANY ($3)`

	// Who has subscribed anew meanwhile, with the same endpoint, is dead as well.
	deleteDeadSQL = `-- name: push_subscriptions.delete_dead
DELETE FROM push_subscriptions WHERE id = ANY ($1)`
)

type subscriptionRow struct {
	ID           uuid.UUID
	UserID       uuid.UUID
	FamilyID     uuid.UUID
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
// else's, while its login is open. The member's oldest beyond
// livestream.MaxPushSubscriptions are forgotten. CodeUnauthorized: the login has ended.
func (s *PushSubscriptions) Subscribe(ctx context.Context, subscription livestream.PushSubscription) (livestream.PushSubscription, error) {
	var row subscriptionRow
	err := s.db.inTx(ctx, func(tx querier) error {
		_, err := scalar[int64](ctx, tx, lockSubscriberSQL, subscription.UserID)
		if err != nil {
			return err
		}
		row, err = one[subscriptionRow](ctx, tx, subscribeSQL, subscription.UserID, subscription.FamilyID, subscription.Endpoint, subscription.Key, subscription.Secret, subscription.ServerKey)
		if errors.Is(err, pgx.ErrNoRows) {
			return livestream.Errorf(livestream.CodeUnauthorized, "this login has ended: log in again")
		}
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

// Any says whether anybody whom a push is for has subscribed a browser, whether they
// have its notification, and are logged in there, or not.
func (s *PushSubscriptions) Any(ctx context.Context, push livestream.NotificationPush) (any bool, err error) {
	if r := push.Range; r != nil {
		any, err = scalar[bool](ctx, s.db.primary, anyInRangeSQL, push.CreatorID, r.After, r.Upto)
	} else {
		any, err = scalar[bool](ctx, s.db.primary, anyOfMemberSQL, *push.User)
	}
	return any, fail(ctx, "look for subscriptions", err)
}

// Due gives the browsers that a push is for, by recipient, after those of a cursor and
// at most limit of them: of recipients that were rung and have not read it meanwhile,
// and where somebody is logged in still.
// Of a range's those are left out who have ceased to follow.
func (s *PushSubscriptions) Due(ctx context.Context, push livestream.NotificationPush, after livestream.PushCursor, limit int) ([]livestream.DuePush, error) {
	var (
		rows []duePushRow
		err  error
	)
	if r := push.Range; r != nil {
		rows, err = many[duePushRow](ctx, s.db.primary, dueInRangeSQL, push.Key, push.At, push.CreatorID, after.UserID, after.SubscriptionID, r.Upto, limit)
	} else {
		rows, err = many[duePushRow](ctx, s.db.primary, dueOfMemberSQL, push.Key, push.At, *push.User, after.SubscriptionID, limit)
	}
	return all(rows, duePushRow.domain), fail(ctx, "read due pushes", err)
}

// DueOf is Due for some subscriptions.
func (s *PushSubscriptions) DueOf(ctx context.Context, push livestream.NotificationPush, ids []uuid.UUID) ([]livestream.DuePush, error) {
	rows, err := many[duePushRow](ctx, s.db.primary, dueOfSQL, push.Key, push.At, ids)
	return all(rows, duePushRow.domain), fail(ctx, "read due pushes", err)
}

// DeleteDead forgets subscriptions that have ended.
func (s *PushSubscriptions) DeleteDead(ctx context.Context, ids []uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, deleteDeadSQL, ids)
	return fail(ctx, "delete dead subscriptions", err)
}
