package httpapi

import (
	"context"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Users stores members.
type Users interface {
	Create(ctx context.Context, user livestream.NewUser) (livestream.User, error)
	ByID(ctx context.Context, id uuid.UUID) (livestream.User, error)
	CredentialsByEmail(ctx context.Context, email string) (livestream.Credentials, error)
	Update(ctx context.Context, id uuid.UUID, patch livestream.UserPatch) (livestream.User, error)
}

func (s *Server) GetMe(ctx context.Context, _ GetMeRequestObject) (GetMeResponseObject, error) {
	user, err := s.deps.Users.ByID(onPrimary(ctx), memberOf(ctx).UserID)
	return GetMe200JSONResponse(meOf(user)), err
}

func (s *Server) UpdateMe(ctx context.Context, request UpdateMeRequestObject) (UpdateMeResponseObject, error) {
	user, err := s.deps.Users.Update(ctx, memberOf(ctx).UserID, livestream.UserPatch{
		DisplayName: request.Body.DisplayName, Bio: request.Body.Bio, AvatarURL: request.Body.AvatarURL,
	})
	return UpdateMe200JSONResponse(meOf(user)), err
}

func (s *Server) GetUser(ctx context.Context, request GetUserRequestObject) (GetUserResponseObject, error) {
	user, err := s.deps.Users.ByID(ctx, request.UserID)
	return GetUser200JSONResponse(userOf(user)), err
}

func userOf(u livestream.User) User {
	return User{
		ID: u.ID, Username: u.Username, DisplayName: u.DisplayName, Bio: u.Bio, AvatarURL: notEmpty(u.AvatarURL),
		FollowerCount: u.FollowerCount, FollowingCount: u.FollowingCount, LiveStreamID: u.LiveStreamID, CreatedAt: u.CreatedAt,
	}
}

// meOf is a member as they see themself.
func meOf(u livestream.User) Me {
	return Me{
		ID: u.ID, Username: u.Username, Email: u.Email, DisplayName: u.DisplayName, Bio: u.Bio, AvatarURL: notEmpty(u.AvatarURL),
		Role: MeRole(u.Role), FollowerCount: u.FollowerCount, FollowingCount: u.FollowingCount,
		LiveStreamID: u.LiveStreamID, CreatedAt: u.CreatedAt,
	}
}
