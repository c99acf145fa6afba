package httpapi

import (
	"context"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Archives stores recordings that were made playable.
type Archives interface {
	ByID(ctx context.Context, id uuid.UUID) (livestream.Archive, error)
	List(ctx context.Context, filter livestream.ArchiveFilter, page livestream.Page) (livestream.List[livestream.Archive], error)
}

func (s *Server) ListArchives(ctx context.Context, request ListArchivesRequestObject) (ListArchivesResponseObject, error) {
	in := request.Params
	page, err := pageOf(in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Archives.List(ctx, livestream.ArchiveFilter{
		UserID: in.UserID, StreamID: in.StreamID,
		Status: optional(in.Status, func(v ArchiveStatus) livestream.ArchiveStatus { return livestream.ArchiveStatus(v) }),
	}, page)
	if err != nil {
		return nil, err
	}
	return ListArchives200JSONResponse{Data: each(list.Data, s.archiveOf), NextCursor: nextCursor(list.Next)}, nil
}

func (s *Server) GetArchive(ctx context.Context, request GetArchiveRequestObject) (GetArchiveResponseObject, error) {
	archive, err := s.deps.Archives.ByID(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	return GetArchive200JSONResponse(s.archiveOf(archive)), nil
}

func (s *Server) DeleteArchive(ctx context.Context, request DeleteArchiveRequestObject) (DeleteArchiveResponseObject, error) {
	archive, err := s.deps.Archives.ByID(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	if archive.UserID != memberOf(ctx).UserID {
		return nil, livestream.Errorf(livestream.CodeForbidden, "this archive is another's")
	}
	if err := s.deps.Workflows.DeleteArchive(ctx, archive); err != nil {
		return nil, err
	}
	return DeleteArchive204Response{}, nil
}

func (s *Server) archiveOf(a livestream.Archive) Archive {
	out := Archive{
		ID: a.ID, StreamID: a.StreamID, UserID: a.UserID, Title: a.Title, Status: ArchiveStatus(a.Status), Progress: a.Progress,
		DurationSeconds: a.DurationSeconds, SizeBytes: a.SizeBytes, StorageClass: a.StorageClass, ViewCount: a.ViewCount,
		Renditions: each(a.Renditions, func(r livestream.Rendition) Rendition {
			return Rendition{Name: r.Name, Width: r.Width, Height: r.Height, Bitrate: r.Bitrate}
		}),
		Failure:   optional(a.Failure, func(f livestream.Failure) Failure { return Failure(f) }),
		CreatedAt: a.CreatedAt, ReadyAt: a.ReadyAt,
	}
	if a.Status == livestream.ArchiveReady {
		out.PlaybackURL = s.mediaURL(a.ID, livestream.MasterPlaylist)
		if len(a.Renditions) > 0 { // sound alone has no picture
			out.ThumbnailURL = s.mediaURL(a.ID, livestream.Thumbnail)
		}
	}
	return out
}
