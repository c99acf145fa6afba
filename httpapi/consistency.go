package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Database says how far the primary's log is.
type Database interface {
	Position(ctx context.Context) (livestream.Position, error)
}

// LastWrites remembers how far a member's own writes are, for all of their
// clients and all processes.
type LastWrites interface {
	Note(ctx context.Context, userID uuid.UUID, position livestream.Position) error
	Of(ctx context.Context, userID uuid.UUID) (livestream.Position, error)
}

// readAfterHeader carries a position to the client with the answer to a write,
// and back with its reads, for clients without a token.
const readAfterHeader = "X-Read-After"

// chooseSource says where a request reads from: what writes reads the primary; a
// read may go to a replica that has seen the client's own writes.
func (s *Server) chooseSource(c *gin.Context) {
	if c.Request.Method != http.MethodGet {
		return
	}
	policy := livestream.ReadPolicy{Replica: true}
	if header := c.GetHeader(readAfterHeader); header != "" {
		after, err := livestream.ParsePosition(header)
		if err != nil {
			s.fail(c, livestream.Invalid(readAfterHeader, "is not one that this API gave"))
			return
		}
		policy.After = after
	}
	if identity, ok := identityOf(c); ok {
		after, err := s.deps.LastWrites.Of(c.Request.Context(), identity.UserID)
		if err != nil {
			policy.Replica = false // what they wrote is not known; the primary knows
		}
		policy.After = max(policy.After, after)
	}
	c.Request = c.Request.WithContext(livestream.WithReadPolicy(c.Request.Context(), policy))
}

// onPrimary is for what must be as it is now: rights, and what a member alone sees
// of themself.
func onPrimary(ctx context.Context) context.Context {
	return livestream.WithReadPolicy(ctx, livestream.ReadPolicy{})
}

// noteWrite tells the client, and all processes, how far the database is after a
// write. It runs before the answer is written: who has the answer reads it.
func (s *Server) noteWrite(next StrictHandlerFunc, _ string) StrictHandlerFunc {
	return func(c *gin.Context, request any) (any, error) {
		response, err := next(c, request)
		if err != nil || c.Request.Method == http.MethodGet {
			return response, err
		}
		position, err := s.deps.Database.Position(c)
		if err == nil {
			c.Header(readAfterHeader, position.String())
			if identity, ok := identityOf(c); ok {
				err = s.deps.LastWrites.Note(c, identity.UserID, position)
			}
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			s.deps.Log.Warn("note a write", zap.Error(err)) // it is done all the same
		}
		return response, nil
	}
}
