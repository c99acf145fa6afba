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

// Chats keeps what was said, and by which rules.
type Chats struct{ db *DB }

// NewChats keeps chats in db.
func NewChats(db *DB) *Chats { return &Chats{db: db} }

const (
	saveChatEventsSQL = `-- name: chat_events.save
INSERT INTO chat_events (stream_id, id, type, event, sent_at)
SELECT e.stream_id, e.id, e.type, e.event, (e.event ->> 'sent_at')::timestamptz
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]::json[]) AS e (stream_id, id, type, event)
ON CONFLICT (stream_id, id) DO NOTHING`

	chatMessagesSQL = `-- name: chat_events.messages
SELECT id, event FROM chat_events
WHERE stream_id = $1 AND id < $2 AND type = 'message' AND deleted_at IS NULL
ORDER BY id DESC LIMIT $3`

	chatReplaySQL = `-- name: chat_events.replay
SELECT id, event, sent_at FROM chat_events
WHERE stream_id = $1 AND type = 'message' AND deleted_at IS NULL AND (sent_at, id) > ($2, $3) AND sent_at < $4
ORDER BY sent_at, id LIMIT $5`

	chatDeletedSQL = `-- name: chat_events.deleted
SELECT id FROM chat_events WHERE stream_id = $1 AND id = ANY ($2) AND deleted_at IS NOT NULL`

	lastChatEventSQL = `-- name: chat_events.last
SELECT coalesce(max(id), 0) FROM chat_events WHERE stream_id = $1`

	// A message that is not written yet is written as deleted.
	deleteChatMessageSQL = `-- name: chat_events.delete
INSERT INTO chat_events AS e (stream_id, id, type, event, deleted_at) VALUES ($1, $2, 'message', $3, now())
ON CONFLICT (stream_id, id) DO UPDATE SET deleted_at = coalesce(e.deleted_at, now()) WHERE e.type = 'message'`

	deleteSavedChatMessageSQL = `-- name: chat_events.delete_saved
UPDATE chat_events SET deleted_at = coalesce(deleted_at, now()) WHERE stream_id = $1 AND id = $2 AND type = 'message'`

	// One query, because it is what the first viewer of each stream on each node
	// waits for.
	chatRulesSQL = `-- name: chat_settings.rules
SELECT s.user_id, s.status, coalesce(c.slow_mode_seconds, 0) AS slow_mode_seconds, coalesce(c.followers_only, false) AS followers_only,
	coalesce(c.follower_min_age_seconds, 0) AS follower_min_age_seconds, coalesce(c.blocked_terms, '{}') AS blocked_terms,
	(SELECT coalesce(json_object_agg(b.user_id, b.banned_until), '{}') FROM chat_bans b
		WHERE b.stream_id = s.id AND (b.banned_until IS NULL OR b.banned_until > now())) AS bans,
	ARRAY(SELECT m.moderator_id FROM chat_moderators m WHERE m.user_id = s.user_id) AS moderators
FROM streams s LEFT JOIN chat_settings c ON c.stream_id = s.id WHERE s.id = $1`

	setChatSettingsSQL = `-- name: chat_settings.set
INSERT INTO chat_settings AS c (stream_id, slow_mode_seconds, followers_only, follower_min_age_seconds, blocked_terms)
VALUES ($1, coalesce($2, 0), coalesce($3, false), coalesce($4, 0), coalesce($5::text[], '{}'))
ON CONFLICT (stream_id) DO UPDATE SET slow_mode_seconds = coalesce($2, c.slow_mode_seconds), followers_only = coalesce($3, c.followers_only),
	follower_min_age_seconds = coalesce($4, c.follower_min_age_seconds), blocked_terms = coalesce($5, c.blocked_terms)
RETURNING slow_mode_seconds, followers_only, follower_min_age_seconds, blocked_terms`

	banSQL = `-- name: chat_bans.ban
INSERT INTO chat_bans (stream_id, user_id, banned_by, banned_until, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (stream_id, user_id) DO UPDATE SET banned_by = $3, banned_until = $4, reason = $5, created_at = now()`

	unbanSQL = `-- name: chat_bans.unban
DELETE FROM chat_bans WHERE stream_id = $1 AND user_id = $2`

	addModeratorSQL = `-- name: chat_moderators.add
INSERT INTO chat_moderators (user_id, moderator_id) VALUES ($1, $2) ON CONFLICT (user_id, moderator_id) DO NOTHING`

	removeModeratorSQL = `-- name: chat_moderators.remove
DELETE FROM chat_moderators WHERE user_id = $1 AND moderator_id = $2`

	listModeratorsSQL = `-- name: chat_moderators.list
SELECT m.added_at, ` + userColumns + `
FROM chat_moderators m JOIN users u ON u.id = m.moderator_id` + userJoins + `
WHERE m.user_id = $1 AND (m.added_at, m.moderator_id) < ($2, $3)
ORDER BY m.added_at DESC, m.moderator_id DESC LIMIT $4`

	followedAtSQL = `-- name: follows.followed_at
SELECT followed_at FROM follows WHERE follower_id = $1 AND following_id = $2`
)

// Save keeps events of many streams; those that are kept already stay as they are.
func (s *Chats) Save(ctx context.Context, events []livestream.ChatSaved) error {
	if len(events) == 0 {
		return nil
	}
	streams, ids := make([]uuid.UUID, len(events)), make([]int64, len(events))
	types, texts := make([]string, len(events)), make([]string, len(events))
	for i, e := range events {
		streams[i], ids[i], types[i], texts[i] = e.StreamID, e.ID, string(e.Type), string(e.JSON)
	}
	_, err := s.db.primary.Exec(ctx, saveChatEventsSQL, streams, ids, types, texts)
	return fail(ctx, "save chat events", err)
}

type chatEventRow struct {
	ID    int64
	Event json.RawMessage
}

func (r chatEventRow) domain() livestream.ChatEvent {
	return livestream.ChatEvent{ID: r.ID, JSON: r.Event}
}

// Messages gives the messages before an id that were not deleted, newest first.
func (s *Chats) Messages(ctx context.Context, streamID uuid.UUID, before int64, limit int) ([]livestream.ChatEvent, error) {
	rows, err := readMany[chatEventRow](ctx, s.db, chatMessagesSQL, streamID, before, limit)
	return all(rows, chatEventRow.domain), fail(ctx, "read chat messages", err)
}

type chatReplayRow struct {
	ID     int64
	Event  json.RawMessage
	SentAt time.Time
}

func (r chatReplayRow) domain() livestream.ChatEvent {
	return livestream.ChatEvent{ID: r.ID, JSON: r.Event}
}

// Replay lists the messages from one time on and before another that were not
// deleted, in the order in which they were said.
func (s *Chats) Replay(ctx context.Context, streamID uuid.UUID, from, to time.Time, page livestream.Page) (livestream.List[livestream.ChatEvent], error) {
	limit, id := limitOf(page), int64(0)
	if page.After != nil && !page.After.Time.Before(from) {
		from, id = page.After.Time, page.After.Number
	}
	rows, err := readMany[chatReplayRow](ctx, s.db, chatReplaySQL, streamID, from, id, to, limit+1)
	if err != nil {
		return livestream.List[livestream.ChatEvent]{}, fail(ctx, "read a chat's replay", err)
	}
	return listOf(rows, limit, chatReplayRow.domain, func(r chatReplayRow) livestream.Cursor {
		return livestream.Cursor{Time: r.SentAt, Number: r.ID}
	}), nil
}

// Deleted gives those of the messages that were deleted. It asks the primary: what
// is gone must not come back for a moment.
func (s *Chats) Deleted(ctx context.Context, streamID uuid.UUID, ids []int64) ([]int64, error) {
	rows, err := s.db.primary.Query(ctx, chatDeletedSQL, streamID, ids)
	if err != nil {
		return nil, fail(ctx, "read deleted messages", err)
	}
	deleted, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return deleted, fail(ctx, "read deleted messages", err)
}

// LastID is the id of the last event that is kept; 0 when none is.
func (s *Chats) LastID(ctx context.Context, streamID uuid.UUID) (int64, error) {
	id, err := scalar[int64](ctx, s.db.primary, lastChatEventSQL, streamID)
	return id, fail(ctx, "read the last chat event", err)
}

// Delete deletes a message. event is the message when it may not be kept yet, and
// nil otherwise; CodeMessageNotFound.
func (s *Chats) Delete(ctx context.Context, streamID uuid.UUID, id int64, event json.RawMessage) error {
	sql, args := deleteSavedChatMessageSQL, []any{streamID, id}
	if event != nil {
		sql, args = deleteChatMessageSQL, append(args, event)
	}
	tag, err := s.db.primary.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		err = livestream.Errorf(livestream.CodeMessageNotFound, "there is no such message")
	}
	return fail(ctx, "delete a chat message", err)
}

type chatSettingsRow struct {
	SlowModeSeconds       int
	FollowersOnly         bool
	FollowerMinAgeSeconds int
	BlockedTerms          []string
}

type chatRulesRow struct {
	UserID uuid.UUID
	Status livestream.StreamStatus
	chatSettingsRow
	Bans       map[uuid.UUID]*time.Time
	Moderators []uuid.UUID
}

// Rules are a stream's, from the primary; CodeStreamNotFound.
func (s *Chats) Rules(ctx context.Context, streamID uuid.UUID) (livestream.ChatRules, error) {
	row, err := one[chatRulesRow](ctx, s.db.primary, chatRulesSQL, streamID)
	if err != nil {
		return livestream.ChatRules{}, failOr(ctx, "read a chat's rules", err, streamNotFound())
	}
	moderators := make(map[uuid.UUID]bool, len(row.Moderators))
	for _, id := range row.Moderators {
		moderators[id] = true
	}
	return livestream.ChatRules{
		OwnerID: row.UserID, Ended: row.Status == livestream.StreamEnded, Settings: livestream.ChatSettings(row.chatSettingsRow),
		Bans: row.Bans, Moderators: moderators,
	}, nil
}

// SetSettings changes a chat's modes; CodeStreamNotFound.
func (s *Chats) SetSettings(ctx context.Context, streamID uuid.UUID, patch livestream.ChatSettingsPatch) (livestream.ChatSettings, error) {
	var terms []string
	if patch.BlockedTerms != nil {
		terms = notNil(*patch.BlockedTerms)
	}
	row, err := one[chatSettingsRow](ctx, s.db.primary, setChatSettingsSQL, streamID, patch.SlowModeSeconds, patch.FollowersOnly, patch.FollowerMinAgeSeconds, terms)
	return livestream.ChatSettings(row), fail(ctx, "set chat settings", err)
}

// Ban keeps a member from writing; a second ban replaces the first.
// CodeStreamNotFound, CodeUserNotFound.
func (s *Chats) Ban(ctx context.Context, ban livestream.ChatBan) error {
	_, err := s.db.primary.Exec(ctx, banSQL, ban.StreamID, ban.UserID, ban.By, ban.Until, ban.Reason)
	return fail(ctx, "ban", err)
}

// Unban ends a ban; there need not be one.
func (s *Chats) Unban(ctx context.Context, streamID, userID uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, unbanSQL, streamID, userID)
	return fail(ctx, "unban", err)
}

// AddModerator makes a member moderate a creator's chats; CodeUserNotFound.
func (s *Chats) AddModerator(ctx context.Context, creator, moderator uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, addModeratorSQL, creator, moderator)
	return fail(ctx, "add a moderator", err)
}

// RemoveModerator ends that; they need not be one.
func (s *Chats) RemoveModerator(ctx context.Context, creator, moderator uuid.UUID) error {
	_, err := s.db.primary.Exec(ctx, removeModeratorSQL, creator, moderator)
	return fail(ctx, "remove a moderator", err)
}

type moderatorRow struct {
	userRow
	AddedAt time.Time
}

func (r moderatorRow) domain() livestream.Moderator {
	return livestream.Moderator{User: r.userRow.domain(), AddedAt: r.AddedAt}
}

// Moderators lists a creator's moderators, newest first.
func (s *Chats) Moderators(ctx context.Context, creator uuid.UUID, page livestream.Page) (livestream.List[livestream.Moderator], error) {
	limit := limitOf(page)
	at, id := beforeTime(page)
	rows, err := readMany[moderatorRow](ctx, s.db, listModeratorsSQL, creator, at, id, limit+1)
	if err != nil {
		return livestream.List[livestream.Moderator]{}, fail(ctx, "list moderators", err)
	}
	return listOf(rows, limit, moderatorRow.domain, func(r moderatorRow) livestream.Cursor {
		return livestream.Cursor{Time: r.AddedAt, ID: r.ID}
	}), nil
}

// FollowedAt says since when one follows another; nil when they do not. It asks
// the primary, because permission depends on it.
func (s *Chats) FollowedAt(ctx context.Context, follower, followee uuid.UUID) (*time.Time, error) {
	at, err := scalar[time.Time](ctx, s.db.primary, followedAtSQL, follower, followee)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &at, fail(ctx, "read a follow", err)
}
