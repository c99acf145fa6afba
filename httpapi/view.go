package httpapi

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Views counts who watches archives, each once a day.
type Views interface {
	Count(ctx context.Context, archiveID uuid.UUID, viewer livestream.Viewer, now time.Time) error
}

// CreateView is how a player tells that it begins to play, where a CDN answers for
// the media. Where they come from here, a view is counted when its playlist is read,
// and would be twice by this.
func (s *Server) CreateView(ctx context.Context, request CreateViewRequestObject) (CreateViewResponseObject, error) {
	archive, err := s.archive(livestream.WithReadPolicy(ctx, livestream.ReadPolicy{Replica: true}), request.ID)
	if err != nil {
		return nil, err
	}
	if archive.Status == livestream.ArchiveReady && s.config.MediaURL != s.config.PublicURL {
		viewer := viewerOf(ctx.(*gin.Context)) //nolint:contextcheck // it is this context
		if err := s.deps.Views.Count(ctx, archive.ID, viewer, s.deps.Now()); err != nil {
			return nil, err
		}
	}
	return CreateView204Response{}, nil
}

// countView counts one who reads an archive's playlist here. A count that cannot be
// made holds nobody up.
func (s *Server) countView(c *gin.Context, archiveID uuid.UUID) {
	if s.config.MediaURL != s.config.PublicURL {
		return // it is the CDN that reads
	}
	ctx, cancel := briefly(c.Request.Context())
	defer cancel()
	if err := s.deps.Views.Count(ctx, archiveID, viewerOf(c), s.deps.Now()); err != nil {
		s.deps.Log.Warn("count a view", zap.Error(err))
	}
}

func viewerOf(c *gin.Context) livestream.Viewer {
	if identity, ok := identityOf(c); ok {
		return livestream.Viewer{UserID: &identity.UserID}
	}
	return livestream.Viewer{Address: addressGroup(c.ClientIP())}
}
