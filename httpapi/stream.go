package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// Streams stores broadcasts. What starts and ends them is a workflow.
type Streams interface {
	ByID(ctx context.Context, id uuid.UUID) (livestream.Stream, error)
	List(ctx context.Context, filter livestream.StreamFilter, page livestream.Page) (livestream.List[livestream.Stream], error)
	Update(ctx context.Context, id, userID uuid.UUID, patch livestream.StreamPatch) (livestream.Stream, error)
	Timeline(ctx context.Context, streamID uuid.UUID, page livestream.Page) (livestream.List[livestream.StreamEvent], error)
	// Finish is for a stream whose workflow is gone; otherwise the workflow does it.
	Finish(ctx context.Context, id uuid.UUID, at time.Time, viewers, peak int64) (livestream.Stream, error)
}

// Viewers counts who watches now; streams that nobody watches may be missing.
type Viewers interface {
	Viewers(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]int64, error)
	// Counts has the peaks too, and may be a moment old. It takes a moment at most.
	Counts(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]livestream.ViewerCount, error)
	// Watched gives streams with viewers, most viewers first.
	Watched(ctx context.Context, after *livestream.Cursor, n int) ([]livestream.WatchedStream, error)
}

// StreamRows reads many streams at once.
type StreamRows interface {
	ByIDs(ctx context.Context, ids []uuid.UUID) ([]livestream.Stream, error)
}

func (s *Server) StartStream(ctx context.Context, request StartStreamRequestObject) (StartStreamResponseObject, error) {
	in := request.Body
	if value(in.Ingest, StartStreamInputIngestExternal) == StartStreamInputIngestRtmp {
		return nil, livestream.Errorf(livestream.CodeIngestUnavailable, "no RTMP ingest runs here; use external")
	}
	me := memberOf(ctx)
	return idempotent(ctx, s, "stream", request.Params.IdempotencyKey, in, func(id uuid.UUID) (StartStreamResponseObject, int, error) {
		stream := livestream.NewStream{
			ID: id, UserID: me.UserID, Title: in.Title, Description: value(in.Description, ""), Category: value(in.Category, ""),
			Tags: value(in.Tags, []string{}), Ingest: livestream.IngestExternal, Record: value(in.Record, true),
		}
		if err := s.deps.Workflows.StartStream(ctx, stream); err != nil {
			return nil, 0, err
		}
		started, err := s.deps.Streams.ByID(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		return StartStream201JSONResponse(s.startedStreamOf(started)), http.StatusCreated, nil
	})
}

func (s *Server) ListStreams(ctx context.Context, request ListStreamsRequestObject) (ListStreamsResponseObject, error) {
	in := request.Params
	page, err := pageOf(in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	filter := livestream.StreamFilter{
		Status: optional(in.Status, func(v StreamStatus) livestream.StreamStatus { return livestream.StreamStatus(v) }),
		UserID: in.UserID, Category: in.Category, Sort: livestream.StreamSort(value(in.Sort, ListStreamsParamsSortStartedAt)),
	}
	var list livestream.List[livestream.Stream]
	if filter.Sort == livestream.SortViewers {
		list, err = s.listByViewers(ctx, filter, page)
	} else if list, err = s.deps.Streams.List(ctx, filter, page); err == nil {
		s.countViewers(ctx, list.Data)
	}
	if err != nil {
		return nil, err
	}
	return ListStreams200JSONResponse{Data: each(list.Data, s.streamOf), NextCursor: nextCursor(list.Next)}, nil
}

// listByViewers lists streams by their viewers: those that are on by the counts as
// they are now, which Redis has, and all others by what is stored. The two lists
// are in the same order, and merged. With Redis away, it is the stored one alone.
func (s *Server) listByViewers(ctx context.Context, filter livestream.StreamFilter, page livestream.Page) (livestream.List[livestream.Stream], error) {
	var list livestream.List[livestream.Stream]
	watched, live, err := s.watched(ctx, filter, page.After, page.Limit+1)
	if err != nil {
		s.deps.Log.Warn("rank streams", zap.Error(err))
		watched, live = nil, nil
	}
	merged := watched
	for limit, after, more := page.Limit, page.After, true; more; limit = livestream.MaxPageLimit {
		stored, err := s.deps.Streams.List(ctx, filter, livestream.Page{Limit: limit, After: after})
		if err != nil {
			return list, err
		}
		counts, err := s.nowWatched(ctx, stored.Data) // not the ones from before: it may be further down
		if err != nil {
			counts = live
		}
		for _, stream := range stored.Data {
			if counts[stream.ID] == 0 { // otherwise it is in the other list
				merged = append(merged, stream)
			}
		}
		slices.SortFunc(merged, func(a, b livestream.Stream) int { return byViewers(rankOf(a), rankOf(b)) })
		// What is stored further down ranks below the page and the one after it.
		full := len(merged) > page.Limit && stored.Next != nil && byViewers(rankOf(merged[page.Limit]), *stored.Next) <= 0
		after, more = stored.Next, stored.Next != nil && !full
	}
	if len(merged) > page.Limit {
		merged = merged[:page.Limit]
		next := rankOf(merged[page.Limit-1])
		list.Next = &next
	}
	list.Data = merged
	return list, nil
}

// rankOf is a stream's place in the list by viewers.
func rankOf(stream livestream.Stream) livestream.Cursor {
	return livestream.Cursor{Number: stream.ViewerCount, ID: stream.ID}
}

// byViewers orders places: most viewers first, and of as many the newest.
func byViewers(a, b livestream.Cursor) int {
	return cmp.Or(cmp.Compare(b.Number, a.Number), bytes.Compare(b.ID[:], a.ID[:]))
}

// watched gives up to n streams with viewers that a filter lets through, with their
// counts as they are now.
func (s *Server) watched(ctx context.Context, filter livestream.StreamFilter, after *livestream.Cursor, n int) ([]livestream.Stream, map[uuid.UUID]int64, error) {
	var streams []livestream.Stream
	counts := map[uuid.UUID]int64{}
	for len(streams) < n {
		ranked, err := s.deps.Viewers.Watched(ctx, after, n)
		if err != nil {
			return nil, nil, err
		}
		ids := each(ranked, func(w livestream.WatchedStream) uuid.UUID { return w.ID })
		for _, w := range ranked {
			counts[w.ID] = w.Viewers
		}
		rows, err := s.deps.StreamRows.ByIDs(ctx, ids)
		if err != nil {
			return nil, nil, err
		}
		for _, stream := range rows {
			if stream.Status.Active() && filter.Matches(stream) {
				stream.ViewerCount = counts[stream.ID]
				stream.PeakViewerCount = max(stream.PeakViewerCount, stream.ViewerCount)
				streams = append(streams, stream)
			}
		}
		if len(ranked) < n {
			break
		}
		last := ranked[len(ranked)-1]
		after = &livestream.Cursor{Number: last.Viewers, ID: last.ID}
	}
	return streams, counts, nil
}

// nowWatched counts the viewers of those of the streams that are on.
func (s *Server) nowWatched(ctx context.Context, streams []livestream.Stream) (map[uuid.UUID]int64, error) {
	var on []uuid.UUID
	for _, stream := range streams {
		if stream.Status.Active() {
			on = append(on, stream.ID)
		}
	}
	return s.deps.Viewers.Viewers(ctx, on...)
}

func (s *Server) GetStream(ctx context.Context, request GetStreamRequestObject) (GetStreamResponseObject, error) {
	stream, err := s.deps.Streams.ByID(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	return GetStream200JSONResponse(s.streamNow(ctx, stream)), nil
}

func (s *Server) UpdateStream(ctx context.Context, request UpdateStreamRequestObject) (UpdateStreamResponseObject, error) {
	stream, err := s.deps.Streams.Update(ctx, request.ID, memberOf(ctx).UserID, livestream.StreamPatch{
		Title: request.Body.Title, Description: request.Body.Description, Category: request.Body.Category, Tags: request.Body.Tags,
	})
	if err != nil {
		return nil, err
	}
	return UpdateStream200JSONResponse(s.streamNow(ctx, stream)), nil
}

func (s *Server) EndStream(ctx context.Context, request EndStreamRequestObject) (EndStreamResponseObject, error) {
	stream, err := s.ownStream(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	// The workflow is told whatever the row says: one that was reset by an operator
	// may not know that its stream has ended.
	err = s.deps.Workflows.EndStream(ctx, stream.ID)
	switch {
	case stream.Status == livestream.StreamEnded:
		err = nil
	case livestream.CodeOf(err) == livestream.CodeNotFound:
		// Somebody terminated its workflow: nobody else would ever end it, and its
		// creator could start no other.
		_, err = s.deps.Streams.Finish(ctx, stream.ID, s.deps.Now(), stream.ViewerCount, stream.PeakViewerCount)
	}
	if err != nil {
		return nil, err
	}
	if stream, err = s.deps.Streams.ByID(ctx, stream.ID); err != nil {
		return nil, err
	}
	return EndStream202JSONResponse(s.streamNow(ctx, stream)), nil
}

func (s *Server) GetTimeline(ctx context.Context, request GetTimelineRequestObject) (GetTimelineResponseObject, error) {
	page, err := pageOf(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	if _, err := s.ownStream(ctx, request.ID); err != nil {
		return nil, err
	}
	list, err := s.deps.Streams.Timeline(ctx, request.ID, page)
	if err != nil {
		return nil, err
	}
	return GetTimeline200JSONResponse{Data: each(list.Data, func(e livestream.StreamEvent) TimelineEvent {
		return TimelineEvent{Seq: e.Seq, Type: string(e.Type), At: e.At, Data: e.Data}
	}), NextCursor: nextCursor(list.Next)}, nil
}

// ownStream finds a stream that belongs to the one who asks.
//
// Errors: stream_not_found, forbidden.
func (s *Server) ownStream(ctx context.Context, id uuid.UUID) (livestream.Stream, error) {
	stream, err := s.deps.Streams.ByID(onPrimary(ctx), id)
	if err == nil && stream.UserID != memberOf(ctx).UserID {
		err = livestream.Errorf(livestream.CodeForbidden, "this stream is another's")
	}
	return stream, err
}

// countViewers fills in the counts of the streams that are on, which are in Redis
// alone. With Redis away they stay as they are.
func (s *Server) countViewers(ctx context.Context, streams []livestream.Stream) {
	var on []uuid.UUID
	for _, stream := range streams {
		if stream.Status.Active() {
			on = append(on, stream.ID)
		}
	}
	if len(on) == 0 {
		return
	}
	counts, err := s.deps.Viewers.Counts(ctx, on...)
	if err != nil {
		s.deps.Log.Warn("count viewers", zap.Error(err))
		return
	}
	for i := range streams {
		if stream := &streams[i]; stream.Status.Active() {
			count := counts[stream.ID]
			stream.ViewerCount, stream.PeakViewerCount = count.Now, max(stream.PeakViewerCount, count.Peak)
		}
	}
}

// streamNow is a stream with its viewers as they are now.
func (s *Server) streamNow(ctx context.Context, stream livestream.Stream) Stream {
	one := []livestream.Stream{stream}
	s.countViewers(ctx, one)
	return s.streamOf(one[0])
}

func (s *Server) streamOf(v livestream.Stream) Stream {
	out := Stream{
		ID: v.ID, UserID: v.UserID, Title: v.Title, Description: v.Description, Category: v.Category, Tags: v.Tags,
		Status: StreamStatus(v.Status), Ingest: StreamIngest(v.Ingest), Record: v.Record,
		ViewerCount: v.ViewerCount, PeakViewerCount: v.PeakViewerCount, ChatURL: s.chatURL(v.ID),
		StartedAt: v.StartedAt, EndedAt: v.EndedAt, ReconnectDeadline: v.ReconnectDeadline, ArchiveID: v.ArchiveID, CreatedAt: v.CreatedAt,
	}
	if v.ArchiveID != nil && v.ArchiveReady {
		out.PlaybackURL = mediaURL(s.publicMediaURL(), *v.ArchiveID, livestream.MasterPlaylist)
	}
	return out
}

// startedStreamOf is what the owner gets from the start.
func (s *Server) startedStreamOf(stream livestream.Stream) StartedStream {
	v := s.streamOf(stream)
	return StartedStream{
		ID: v.ID, UserID: v.UserID, Title: v.Title, Description: v.Description, Category: v.Category, Tags: v.Tags,
		Status: v.Status, Ingest: StartedStreamIngest(v.Ingest), Record: v.Record, ViewerCount: v.ViewerCount, PeakViewerCount: v.PeakViewerCount,
		PlaybackURL: v.PlaybackURL, ChatURL: v.ChatURL, StartedAt: v.StartedAt, EndedAt: v.EndedAt,
		ReconnectDeadline: v.ReconnectDeadline, ArchiveID: v.ArchiveID, CreatedAt: v.CreatedAt,
		WorkflowID: workflows.StreamID(v.ID),
	}
}

// chatURL is the address of a stream's chat. All viewers of a stream are sent to
// one node, as long as there are addresses of nodes and not of a load balancer:
// then it has the room once.
func (s *Server) chatURL(stream uuid.UUID) string {
	return s.chatNode(stream) + "/ws/streams/" + stream.String() + "/chat"
}

func (s *Server) chatNode(id uuid.UUID) string {
	// The last bytes of a UUIDv7 are random.
	return s.config.ChatURLs[binary.BigEndian.Uint64(id[8:])%uint64(len(s.config.ChatURLs))]
}

func withTicket(address, ticket string) string { return address + "?ticket=" + url.QueryEscape(ticket) }
