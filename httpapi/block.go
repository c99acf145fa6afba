package httpapi

import (
	"context"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Blocks stores whom members do not want to be told of, followed by or tipped by.
type Blocks interface {
	Block(ctx context.Context, userID, blocked uuid.UUID) error
	Unblock(ctx context.Context, userID, blocked uuid.UUID) error
	Blocks(ctx context.Context, userID uuid.UUID, page livestream.Page) (livestream.List[livestream.Block], error)
}

func (s *Server) Block(ctx context.Context, request BlockRequestObject) (BlockResponseObject, error) {
	if err := s.deps.Follows.Block(ctx, memberOf(ctx).UserID, request.UserID); err != nil {
		return nil, err
	}
	return Block204Response{}, nil
}

func (s *Server) Unblock(ctx context.Context, request UnblockRequestObject) (UnblockResponseObject, error) {
	if err := s.deps.Follows.Unblock(ctx, memberOf(ctx).UserID, request.UserID); err != nil {
		return nil, err
	}
	return Unblock204Response{}, nil
}

func (s *Server) ListBlocks(ctx context.Context, request ListBlocksRequestObject) (ListBlocksResponseObject, error) {
	page, err := pageOf(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Follows.Blocks(ctx, memberOf(ctx).UserID, page)
	if err != nil {
		return nil, err
	}
	return ListBlocks200JSONResponse{Data: each(list.Data, func(b livestream.Block) Block {
		u := b.User
		return Block{
			ID: u.ID, Username: u.Username, DisplayName: u.DisplayName, Bio: u.Bio, AvatarURL: notEmpty(u.AvatarURL),
			FollowerCount: u.FollowerCount, FollowingCount: u.FollowingCount, LiveStreamID: u.LiveStreamID, CreatedAt: u.CreatedAt,
			BlockedAt: b.BlockedAt,
		}
	}), NextCursor: nextCursor(list.Next)}, nil
}
