package httpapi

import (
	"context"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Follows stores who follows whom.
type Follows interface {
	Follow(ctx context.Context, follower, followee uuid.UUID) (ring *livestream.NotificationPush, err error)
	Unfollow(ctx context.Context, follower, followee uuid.UUID) error
	Followers(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error)
	Following(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Follow], error)
	Blocks
}

func (s *Server) Follow(ctx context.Context, request FollowRequestObject) (FollowResponseObject, error) {
	follower := memberOf(ctx).UserID
	ring, err := s.deps.Follows.Follow(ctx, follower, request.UserID)
	if err != nil {
		return nil, err
	}
	if ring != nil {
		ctx, cancel := briefly(ctx)
		defer cancel()
		if err := s.deps.Push.Publish(ctx, *ring); err != nil {
			s.deps.Log.Warn("push new_follower", zap.Error(err)) // it is in the inbox
		}
		go s.ringBrowsers(trace.SpanContextFromContext(ctx), *ring) //nolint:contextcheck // it outlives this context
	}
	return Follow204Response{}, nil
}

func (s *Server) Unfollow(ctx context.Context, request UnfollowRequestObject) (UnfollowResponseObject, error) {
	follower := memberOf(ctx).UserID
	if follower == request.UserID {
		return nil, livestream.Errorf(livestream.CodeCannotFollowSelf, "you cannot follow yourself")
	}
	if err := s.deps.Follows.Unfollow(ctx, follower, request.UserID); err != nil {
		return nil, err
	}
	return Unfollow204Response{}, nil
}

func (s *Server) ListFollowers(ctx context.Context, request ListFollowersRequestObject) (ListFollowersResponseObject, error) {
	list, err := s.listFollows(ctx, s.deps.Follows.Followers, request.UserID, request.Params.Limit, request.Params.Cursor)
	return ListFollowers200JSONResponse(list), err
}

func (s *Server) ListFollowing(ctx context.Context, request ListFollowingRequestObject) (ListFollowingResponseObject, error) {
	list, err := s.listFollows(ctx, s.deps.Follows.Following, request.UserID, request.Params.Limit, request.Params.Cursor)
	return ListFollowing200JSONResponse(list), err
}

func (s *Server) listFollows(ctx context.Context, read func(context.Context, uuid.UUID, livestream.Page) (livestream.List[livestream.Follow], error),
	userID uuid.UUID, limit *Limit, cursor *Cursor,
) (FollowList, error) {
	page, err := pageOf(limit, cursor)
	if err != nil {
		return FollowList{}, err
	}
	list, err := read(ctx, userID, page)
	if err != nil {
		return FollowList{}, err
	}
	if len(list.Data) == 0 { // nobody, or no such user?
		if _, err := s.deps.Users.ByID(ctx, userID); err != nil {
			return FollowList{}, err
		}
	}
	return FollowList{Data: each(list.Data, followOf), NextCursor: nextCursor(list.Next)}, nil
}

func followOf(f livestream.Follow) Follow {
	u := f.User
	return Follow{
		ID: u.ID, Username: u.Username, DisplayName: u.DisplayName, Bio: u.Bio, AvatarURL: notEmpty(u.AvatarURL),
		FollowerCount: u.FollowerCount, FollowingCount: u.FollowingCount, LiveStreamID: u.LiveStreamID, CreatedAt: u.CreatedAt,
		FollowedAt: f.FollowedAt,
	}
}
