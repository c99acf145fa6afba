package httpapi

import (
	"context"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Tickets opens WebSockets.
type Tickets interface {
	Issue(ctx context.Context, ticket livestream.Ticket) (token string, err error)
}

func (s *Server) CreateTicket(ctx context.Context, request CreateTicketRequestObject) (CreateTicketResponseObject, error) {
	me := memberOf(ctx)
	ticket := livestream.Ticket{Purpose: livestream.TicketPurpose(request.Body.Purpose), Identity: me}
	address := s.chatNode(me.UserID) + "/ws/notifications"
	stream := request.Body.StreamID
	switch {
	case ticket.Purpose == livestream.TicketChat && stream == nil:
		return nil, livestream.Invalid("stream_id", "is needed for a chat")
	case ticket.Purpose != livestream.TicketChat && stream != nil:
		return nil, livestream.Invalid("stream_id", "is for a chat alone")
	case stream != nil:
		if _, err := s.deps.Streams.ByID(ctx, *stream); err != nil {
			return nil, err
		}
		ticket.StreamID, address = *stream, s.chatURL(*stream)
	}
	token, err := s.deps.Tickets.Issue(ctx, ticket)
	if err != nil {
		return nil, err
	}
	return CreateTicket201JSONResponse{
		Ticket: token, ExpiresIn: int(livestream.TicketLifetime.Seconds()), URL: withTicket(address, token),
	}, nil
}
