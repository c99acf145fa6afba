package httpapi

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// PushSubscriptions stores the browsers that are told of notifications.
type PushSubscriptions interface {
	Subscribe(ctx context.Context, subscription livestream.PushSubscription) (livestream.PushSubscription, error)
	Unsubscribe(ctx context.Context, userID, id uuid.UUID) error
}

// Browsers rings the browsers that have subscribed.
type Browsers interface {
	Ring(ctx context.Context, push livestream.NotificationPush) error
}

func (s *Server) GetPushKey(context.Context, GetPushKeyRequestObject) (GetPushKeyResponseObject, error) {
	if s.config.PushKey == "" {
		return nil, pushUnavailable()
	}
	return GetPushKey200JSONResponse{PublicKey: s.config.PushKey}, nil
}

func (s *Server) CreatePushSubscription(ctx context.Context, request CreatePushSubscriptionRequestObject) (CreatePushSubscriptionResponseObject, error) {
	if s.config.PushKey == "" {
		return nil, pushUnavailable()
	}
	in, me := request.Body, memberOf(ctx)
	subscription := livestream.PushSubscription{
		UserID: me.UserID, FamilyID: me.FamilyID, Endpoint: in.Endpoint, Key: base64URL(in.Keys.P256Dh), Secret: base64URL(in.Keys.Auth), ServerKey: s.config.PushKey,
	}
	if err := subscription.Validate(s.config.PushAnywhere); err != nil {
		return nil, err
	}
	subscription, err := s.deps.PushSubscriptions.Subscribe(ctx, subscription)
	if err != nil {
		return nil, err
	}
	return CreatePushSubscription201JSONResponse{ID: subscription.ID, Endpoint: subscription.Endpoint, SubscribedAt: subscription.SubscribedAt}, nil
}

func (s *Server) DeletePushSubscription(ctx context.Context, request DeletePushSubscriptionRequestObject) (DeletePushSubscriptionResponseObject, error) {
	if err := s.deps.PushSubscriptions.Unsubscribe(ctx, memberOf(ctx).UserID, request.ID); err != nil {
		return nil, err
	}
	return DeletePushSubscription204Response{}, nil
}

// base64URL decodes what browsers give, with padding or without; nil when it is
// something else.
func base64URL(text string) []byte {
	content, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil
	}
	return content
}

func pushUnavailable() error {
	return livestream.Errorf(livestream.CodePushUnavailable, "browsers are not pushed to here")
}

// ringBrowsers rings behind the answer, which does not wait for Temporal. Ring has a
// deadline of its own; what it fails to ring, or this process takes with it, is in the
// inbox. Of the request it has the trace alone: Gin uses a context again after it.
func (s *Server) ringBrowsers(request trace.SpanContext, push livestream.NotificationPush) {
	ctx := trace.ContextWithSpanContext(context.Background(), request)
	if err := s.deps.Browsers.Ring(ctx, push); err != nil {
		s.deps.Log.Warn("ring browsers", zap.String("key", push.Key), zap.Error(err))
	}
}
