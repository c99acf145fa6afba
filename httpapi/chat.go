package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Chats keeps what was said, and by which rules. Rules and Deleted are read from
// the primary.
type Chats interface {
	Rules(ctx context.Context, streamID uuid.UUID) (livestream.ChatRules, error)
	SetSettings(ctx context.Context, streamID uuid.UUID, patch livestream.ChatSettingsPatch) (livestream.ChatSettings, error)
	Ban(ctx context.Context, ban livestream.ChatBan) error
	Unban(ctx context.Context, streamID, userID uuid.UUID) error
	Replay(ctx context.Context, streamID uuid.UUID, from, to time.Time, page livestream.Page) (livestream.List[livestream.ChatEvent], error)
	Messages(ctx context.Context, streamID uuid.UUID, before int64, limit int) ([]livestream.ChatEvent, error)
	Deleted(ctx context.Context, streamID uuid.UUID, ids []int64) ([]int64, error)
	Delete(ctx context.Context, streamID uuid.UUID, id int64, event json.RawMessage) error
	AddModerator(ctx context.Context, creator, moderator uuid.UUID) error
	RemoveModerator(ctx context.Context, creator, moderator uuid.UUID) error
	Moderators(ctx context.Context, creator uuid.UUID, page livestream.Page) (livestream.List[livestream.Moderator], error)
}

// ChatEvents is what was said lately. Append tells every node.
type ChatEvents interface {
	Append(ctx context.Context, event livestream.NewChatEvent) (livestream.ChatEvent, bool, error)
	Last(ctx context.Context, streamID uuid.UUID, before int64, n int) ([]livestream.ChatEvent, error)
	ByID(ctx context.Context, streamID uuid.UUID, id int64) (*livestream.ChatEvent, error)
}

// ModeratorNews tells the chat nodes that a creator's moderators changed.
type ModeratorNews interface {
	PublishModerators(ctx context.Context, creator uuid.UUID) error
}

func (s *Server) ListChatMessages(ctx context.Context, request ListChatMessagesRequestObject) (ListChatMessagesResponseObject, error) {
	if _, err := s.deps.Streams.ByID(ctx, request.ID); err != nil {
		return nil, err
	}
	limit := value(request.Params.Limit, livestream.DefaultPageLimit)
	messages, err := s.chatMessages(ctx, request.ID, value(request.Params.Before, 0), limit+1)
	if err != nil {
		return nil, err
	}
	var next *NextCursor
	if len(messages) > limit {
		messages = messages[:limit]
		before := strconv.FormatInt(messages[limit-1].ID, 10)
		next = &before
	}
	return ListChatMessages200JSONResponse{Data: each(messages, func(r livestream.ChatRecord) ChatMessage {
		return ChatMessage{ID: r.ID, Text: r.Text, SentAt: r.SentAt, User: chatUserOf(r.User)}
	}), NextCursor: next}, nil
}

func chatUserOf(u livestream.ChatUser) ChatUser {
	return ChatUser{
		ID: u.ID, Username: u.Username, DisplayName: u.DisplayName,
		Roles: each(u.Roles, func(role string) ChatUserRoles { return ChatUserRoles(role) }),
	}
}

// chatMessages gives up to n messages before an id, newest first: those that Redis
// still has, because the newest may be nowhere else, and then those that are kept.
// With Redis away, it is the latter alone.
func (s *Server) chatMessages(ctx context.Context, streamID uuid.UUID, before int64, n int) ([]livestream.ChatRecord, error) {
	var messages []livestream.ChatRecord
	for {
		events, err := s.deps.ChatEvents.Last(ctx, streamID, before, n)
		if err != nil {
			s.deps.Log.Warn("read the newest messages", zap.Error(err))
			break
		}
		slices.Reverse(events)
		if messages, err = appendMessages(messages, events); err != nil {
			return nil, err
		}
		if len(events) > 0 {
			before = events[len(events)-1].ID
		}
		if len(events) < n || len(messages) >= n {
			break
		}
	}
	if len(messages) > 0 {
		deleted, err := s.deps.Chats.Deleted(ctx, streamID, each(messages, func(r livestream.ChatRecord) int64 { return r.ID }))
		if err != nil {
			return nil, err
		}
		messages = slices.DeleteFunc(messages, func(r livestream.ChatRecord) bool { return slices.Contains(deleted, r.ID) })
	}
	if len(messages) >= n {
		return messages[:n], nil
	}
	if before == 0 {
		before = 1<<63 - 1
	}
	kept, err := s.deps.Chats.Messages(ctx, streamID, before, n-len(messages))
	if err != nil {
		return nil, err
	}
	return appendMessages(messages, kept)
}

// appendMessages adds the messages among events.
func appendMessages(messages []livestream.ChatRecord, events []livestream.ChatEvent) ([]livestream.ChatRecord, error) {
	for _, event := range events {
		record, err := livestream.ReadChatRecord(event)
		if err != nil {
			return nil, fmt.Errorf("read a chat event: %w", err)
		}
		if record.Type == livestream.ChatMessage {
			messages = append(messages, record)
		}
	}
	return messages, nil
}

func (s *Server) DeleteChatMessage(ctx context.Context, request DeleteChatMessageRequestObject) (DeleteChatMessageResponseObject, error) {
	rules, err := s.moderated(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	// A message that is not kept yet is kept as deleted.
	event, err := s.deps.ChatEvents.ByID(ctx, request.ID, request.MessageID)
	if err != nil {
		return nil, err
	}
	if event == nil {
		kept, err := s.deps.Chats.Messages(ctx, request.ID, request.MessageID+1, 1)
		if err != nil {
			return nil, err
		}
		if len(kept) == 1 && kept[0].ID == request.MessageID {
			event = &kept[0]
		}
	}
	var said json.RawMessage
	if event != nil {
		record, err := livestream.ReadChatRecord(*event)
		if err != nil {
			return nil, fmt.Errorf("read a chat event: %w", err)
		}
		if record.Type == livestream.ChatMessage {
			said = event.JSON
			author, err := s.deps.Users.ByID(onPrimary(ctx), record.User.ID)
			if err != nil {
				return nil, err
			}
			if err := outranks(rules, memberOf(ctx), author); err != nil {
				return nil, err
			}
		}
	}
	if err := s.deps.Chats.Delete(ctx, request.ID, request.MessageID, said); err != nil {
		return nil, err
	}
	err = s.tellChat(ctx, livestream.NewChatEvent{
		StreamID: request.ID, Nonce: fmt.Sprintf("deleted:%d", request.MessageID), Type: livestream.ChatMessageDeleted,
		Body: livestream.ChatDeletedBody{MessageID: request.MessageID},
	})
	if err != nil {
		return nil, err
	}
	return DeleteChatMessage204Response{}, nil
}

func (s *Server) BanFromChat(ctx context.Context, request BanFromChatRequestObject) (BanFromChatResponseObject, error) {
	rules, err := s.moderated(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	user, err := s.deps.Users.ByID(ctx, request.UserID)
	if err != nil {
		return nil, err
	}
	if len(rules.Roles(user.ID, user.Role)) > 0 {
		return nil, livestream.Errorf(livestream.CodeForbidden, "the owner, moderators and admins cannot be banned")
	}
	ban := livestream.ChatBan{StreamID: request.ID, UserID: user.ID, By: memberOf(ctx).UserID}
	if in := request.Body; in != nil {
		ban.Reason = value(in.Reason, "")
		ban.Until = optional(in.DurationSeconds, func(seconds int) time.Time { return s.deps.Now().Add(time.Duration(seconds) * time.Second) })
	}
	if err := s.deps.Chats.Ban(ctx, ban); err != nil {
		return nil, err
	}
	err = s.tellChat(ctx, livestream.NewChatEvent{
		StreamID: ban.StreamID, Type: livestream.ChatUserBanned, Body: livestream.ChatBannedBody{UserID: ban.UserID, Until: ban.Until},
	})
	if err != nil {
		return nil, err
	}
	return BanFromChat204Response{}, nil
}

func (s *Server) UnbanFromChat(ctx context.Context, request UnbanFromChatRequestObject) (UnbanFromChatResponseObject, error) {
	rules, err := s.moderated(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	if err := s.deps.Chats.Unban(ctx, request.ID, request.UserID); err != nil {
		return nil, err
	}
	if rules.Banned(request.UserID, s.deps.Now()) {
		err := s.tellChat(ctx, livestream.NewChatEvent{
			StreamID: request.ID, Type: livestream.ChatUserUnbanned, Body: livestream.ChatUnbannedBody{UserID: request.UserID},
		})
		if err != nil {
			return nil, err
		}
	}
	return UnbanFromChat204Response{}, nil
}

func (s *Server) GetChatSettings(ctx context.Context, request GetChatSettingsRequestObject) (GetChatSettingsResponseObject, error) {
	rules, err := s.deps.Chats.Rules(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	identity, known := identityOf(ctx)
	return GetChatSettings200JSONResponse(chatSettingsOf(rules.Settings, known && moderates(rules, identity))), nil
}

func (s *Server) UpdateChatSettings(ctx context.Context, request UpdateChatSettingsRequestObject) (UpdateChatSettingsResponseObject, error) {
	if _, err := s.moderated(ctx, request.ID); err != nil {
		return nil, err
	}
	in := request.Body
	settings, err := s.deps.Chats.SetSettings(ctx, request.ID, livestream.ChatSettingsPatch{
		SlowModeSeconds: in.SlowModeSeconds, FollowersOnly: in.FollowersOnly, FollowerMinAgeSeconds: in.FollowerMinAgeSeconds, BlockedTerms: in.BlockedTerms,
	})
	if err != nil {
		return nil, err
	}
	err = s.tellChat(ctx, livestream.NewChatEvent{StreamID: request.ID, Type: livestream.ChatSettingsEvent, Body: settings.Public()})
	if err != nil {
		return nil, err
	}
	return UpdateChatSettings200JSONResponse(chatSettingsOf(settings, true)), nil
}

func (s *Server) AddModerator(ctx context.Context, request AddModeratorRequestObject) (AddModeratorResponseObject, error) {
	me := memberOf(ctx).UserID
	if me == request.UserID {
		return nil, livestream.Errorf(livestream.CodeCannotModerateSelf, "you moderate your own chats anyway")
	}
	if err := s.deps.Chats.AddModerator(ctx, me, request.UserID); err != nil {
		return nil, err
	}
	if err := s.deps.Moderators.PublishModerators(ctx, me); err != nil {
		return nil, err
	}
	return AddModerator204Response{}, nil
}

func (s *Server) RemoveModerator(ctx context.Context, request RemoveModeratorRequestObject) (RemoveModeratorResponseObject, error) {
	me := memberOf(ctx).UserID
	if err := s.deps.Chats.RemoveModerator(ctx, me, request.UserID); err != nil {
		return nil, err
	}
	if err := s.deps.Moderators.PublishModerators(ctx, me); err != nil {
		return nil, err
	}
	return RemoveModerator204Response{}, nil
}

func (s *Server) ListModerators(ctx context.Context, request ListModeratorsRequestObject) (ListModeratorsResponseObject, error) {
	page, err := pageOf(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Chats.Moderators(ctx, memberOf(ctx).UserID, page)
	if err != nil {
		return nil, err
	}
	return ListModerators200JSONResponse{Data: each(list.Data, func(m livestream.Moderator) Moderator {
		u := m.User
		return Moderator{
			ID: u.ID, Username: u.Username, DisplayName: u.DisplayName, Bio: u.Bio, AvatarURL: notEmpty(u.AvatarURL),
			FollowerCount: u.FollowerCount, FollowingCount: u.FollowingCount, LiveStreamID: u.LiveStreamID, CreatedAt: u.CreatedAt,
			AddedAt: m.AddedAt,
		}
	}), NextCursor: nextCursor(list.Next)}, nil
}

// moderated gives the rules of a chat to one who may moderate it.
//
// Errors: stream_not_found, forbidden.
func (s *Server) moderated(ctx context.Context, streamID uuid.UUID) (livestream.ChatRules, error) {
	me := memberOf(ctx)
	rules, err := s.deps.Chats.Rules(ctx, streamID)
	if err == nil && !moderates(rules, me) {
		err = livestream.Errorf(livestream.CodeForbidden, "you do not moderate this chat")
	}
	if err == nil && me.Role == livestream.RoleAdmin {
		// Their token may be older than the loss of that role.
		var user livestream.User
		if user, err = s.deps.Users.ByID(onPrimary(ctx), me.UserID); err == nil && !moderates(rules, livestream.Identity{UserID: user.ID, Role: user.Role}) {
			err = livestream.Errorf(livestream.CodeForbidden, "you do not moderate this chat any more")
		}
	}
	return rules, err
}

// outranks says whether one who moderates a chat may delete what a member said: the
// owner and admins may whoever it was, moderators may when it was themselves or
// somebody without a role.
func outranks(rules livestream.ChatRules, me livestream.Identity, member livestream.User) error {
	mine := rules.Roles(me.UserID, me.Role)
	if slices.Contains(mine, livestream.ChatOwner) || slices.Contains(mine, livestream.ChatAdmin) || member.ID == me.UserID {
		return nil
	}
	if len(rules.Roles(member.ID, member.Role)) > 0 {
		return livestream.Errorf(livestream.CodeForbidden, "a moderator cannot delete what the owner, moderators or admins said")
	}
	return nil
}

func moderates(rules livestream.ChatRules, identity livestream.Identity) bool {
	return len(rules.Roles(identity.UserID, identity.Role)) > 0
}

// tellChat tells those in a chat. What it tells of holds already: nodes that cannot
// hear of it now read it when they can.
func (s *Server) tellChat(ctx context.Context, event livestream.NewChatEvent) error {
	_, _, err := s.deps.ChatEvents.Append(ctx, event)
	return err
}

func chatSettingsOf(settings livestream.ChatSettings, whole bool) ChatSettings {
	out := ChatSettings{
		SlowModeSeconds: settings.SlowModeSeconds, FollowersOnly: settings.FollowersOnly, FollowerMinAgeSeconds: settings.FollowerMinAgeSeconds,
	}
	if whole {
		terms := each(settings.BlockedTerms, func(term string) string { return term })
		out.BlockedTerms = &terms
	}
	return out
}
