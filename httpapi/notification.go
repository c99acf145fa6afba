package httpapi

import (
	"context"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Notifications stores inboxes.
type Notifications interface {
	List(ctx context.Context, userID uuid.UUID, unreadOnly bool, page livestream.Page) (livestream.List[livestream.Notification], error)
	Unread(ctx context.Context, userID uuid.UUID) (int64, error)
	MarkRead(ctx context.Context, userID uuid.UUID, ids []uuid.UUID) error
	MarkAllRead(ctx context.Context, userID uuid.UUID) error
	Settings(ctx context.Context, userID uuid.UUID) (livestream.NotificationSettings, error)
	SetSettings(ctx context.Context, userID uuid.UUID, settings livestream.NotificationSettings) error
	Progress(ctx context.Context, streamID uuid.UUID) (livestream.NotifyProgress, error)
}

// NotificationPublisher tells the chat nodes that inboxes changed.
type NotificationPublisher interface {
	Publish(ctx context.Context, push livestream.NotificationPush) error
}

func (s *Server) ListNotifications(ctx context.Context, request ListNotificationsRequestObject) (ListNotificationsResponseObject, error) {
	page, err := pageOf(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	me := memberOf(ctx).UserID
	list, err := s.deps.Notifications.List(ctx, me, value(request.Params.Unread, false), page)
	if err != nil {
		return nil, err
	}
	unread, err := s.deps.Notifications.Unread(ctx, me)
	if err != nil {
		return nil, err
	}
	return ListNotifications200JSONResponse{Data: each(list.Data, func(n livestream.Notification) Notification {
		return Notification{ID: n.ID, Type: NotificationType(n.Type), Read: n.Read, CreatedAt: n.CreatedAt, Data: n.Data}
	}), UnreadCount: unread, NextCursor: nextCursor(list.Next)}, nil
}

func (s *Server) ReadNotifications(ctx context.Context, request ReadNotificationsRequestObject) (ReadNotificationsResponseObject, error) {
	var err error
	me := memberOf(ctx).UserID
	if request.Body.Ids != nil {
		err = s.deps.Notifications.MarkRead(ctx, me, *request.Body.Ids)
	} else {
		err = s.deps.Notifications.MarkAllRead(ctx, me)
	}
	if err != nil {
		return nil, err
	}
	return ReadNotifications204Response{}, nil
}

func (s *Server) GetNotificationSettings(ctx context.Context, _ GetNotificationSettingsRequestObject) (GetNotificationSettingsResponseObject, error) {
	settings, err := s.deps.Notifications.Settings(ctx, memberOf(ctx).UserID)
	if err != nil {
		return nil, err
	}
	return GetNotificationSettings200JSONResponse(settingsOf(settings)), nil
}

func (s *Server) SetNotificationSettings(ctx context.Context, request SetNotificationSettingsRequestObject) (SetNotificationSettingsResponseObject, error) {
	in := request.Body
	settings := livestream.NotificationSettings{
		StreamLive: in.StreamLive, TipReceived: in.TipReceived, NewFollower: in.NewFollower, ArchiveReady: in.ArchiveReady,
	}
	if err := s.deps.Notifications.SetSettings(ctx, memberOf(ctx).UserID, settings); err != nil {
		return nil, err
	}
	return SetNotificationSettings200JSONResponse(settingsOf(settings)), nil
}

func (s *Server) GetNotificationProgress(ctx context.Context, request GetNotificationProgressRequestObject) (GetNotificationProgressResponseObject, error) {
	if _, err := s.ownStream(ctx, request.ID); err != nil {
		return nil, err
	}
	p, err := s.deps.Notifications.Progress(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	var left *float64
	if p.Left() > 0 {
		seconds := p.Left().Seconds()
		left = &seconds
	}
	return GetNotificationProgress200JSONResponse{
		Status: NotificationProgressStatus(p.Status), FollowersTotal: p.FollowersTotal, Notified: p.Notified, Skipped: p.Skipped, Failed: p.Failed,
		Rate: p.Rate, SecondsLeft: left, StartedAt: p.StartedAt, FinishedAt: p.FinishedAt,
	}, nil
}

func settingsOf(v livestream.NotificationSettings) NotificationSettings {
	return NotificationSettings{StreamLive: v.StreamLive, TipReceived: v.TipReceived, NewFollower: v.NewFollower, ArchiveReady: v.ArchiveReady}
}
