package httpapi

import (
	"context"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// replayEnd is the end of a replay that has none: no recording is as long.
const replayEnd = 1_000_000.0

func (s *Server) GetArchiveChat(ctx context.Context, request GetArchiveChatRequestObject) (GetArchiveChatResponseObject, error) {
	in := request.Params
	page, err := pageOf(in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	archive, err := s.archive(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	stream, err := s.deps.Streams.ByID(ctx, archive.StreamID)
	if err != nil {
		return nil, err
	}
	if stream.StartedAt == nil { // it never went live, and nobody said anything
		return GetArchiveChat200JSONResponse{Data: []ReplayMessage{}}, nil
	}
	began := *stream.StartedAt
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	list, err := s.deps.Chats.Replay(ctx, stream.ID, at(value(in.From, 0)), at(value(in.To, replayEnd)), page)
	if err != nil {
		return nil, err
	}
	messages, err := appendMessages(nil, list.Data)
	if err != nil {
		return nil, err
	}
	return GetArchiveChat200JSONResponse{Data: each(messages, func(r livestream.ChatRecord) ReplayMessage {
		return ReplayMessage{ID: r.ID, OffsetSeconds: r.SentAt.Sub(began).Seconds(), User: chatUserOf(r.User), Text: r.Text, SentAt: r.SentAt}
	}), NextCursor: nextCursor(list.Next)}, nil
}
