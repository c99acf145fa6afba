package httpapi

import (
	"context"
	"slices"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Archives stores recordings that were made playable.
type Archives interface {
	Playback(ctx context.Context, id uuid.UUID) (livestream.ArchivePlayback, error)
	SetVisibility(ctx context.Context, id, userID uuid.UUID, visibility livestream.ArchiveVisibility) (livestream.Archive, error)
	ByID(ctx context.Context, id uuid.UUID) (livestream.Archive, error)
	List(ctx context.Context, filter livestream.ArchiveFilter, page livestream.Page) (livestream.List[livestream.Archive], error)
}

func (s *Server) ListArchives(ctx context.Context, request ListArchivesRequestObject) (ListArchivesResponseObject, error) {
	in := request.Params
	page, err := pageOf(in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	var viewer *uuid.UUID
	if identity, ok := identityOf(ctx); ok {
		viewer = &identity.UserID
	}
	list, err := s.deps.Archives.List(ctx, livestream.ArchiveFilter{
		Viewer: viewer, UserID: in.UserID, StreamID: in.StreamID,
		Status: optional(in.Status, func(v ArchiveStatus) livestream.ArchiveStatus { return livestream.ArchiveStatus(v) }),
	}, page)
	if err != nil {
		return nil, err
	}
	data, err := s.archivesOf(ctx, list.Data...)
	if err != nil {
		return nil, err
	}
	return ListArchives200JSONResponse{Data: data, NextCursor: nextCursor(list.Next)}, nil
}

func (s *Server) GetArchive(ctx context.Context, request GetArchiveRequestObject) (GetArchiveResponseObject, error) {
	archive, err := s.archive(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	data, err := s.archivesOf(ctx, archive)
	if err != nil {
		return nil, err
	}
	return GetArchive200JSONResponse(data[0]), nil
}

func (s *Server) UpdateArchive(ctx context.Context, request UpdateArchiveRequestObject) (UpdateArchiveResponseObject, error) {
	archive, err := s.ownArchive(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	archive, err = s.deps.Archives.SetVisibility(ctx, archive.ID, archive.UserID, livestream.ArchiveVisibility(request.Body.Visibility))
	if err != nil {
		return nil, err
	}
	data, err := s.archivesOf(ctx, archive)
	if err != nil {
		return nil, err
	}
	return UpdateArchive200JSONResponse(data[0]), nil
}

func (s *Server) DeleteArchive(ctx context.Context, request DeleteArchiveRequestObject) (DeleteArchiveResponseObject, error) {
	archive, err := s.ownArchive(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	if err := s.deps.Workflows.DeleteArchive(ctx, archive); err != nil {
		return nil, err
	}
	return DeleteArchive204Response{}, nil
}

func (s *Server) RestoreArchive(ctx context.Context, request RestoreArchiveRequestObject) (RestoreArchiveResponseObject, error) {
	archive, err := s.archive(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	if archive.Status != livestream.ArchiveReady {
		return nil, livestream.Errorf(livestream.CodeArchiveNotReady, "this archive cannot be played yet, or not at all")
	}
	if archive.StorageClass != livestream.StorageGlacier {
		return RestoreArchive200JSONResponse{Status: RestoringStatusReady}, nil
	}
	me := memberOf(ctx).UserID
	if err := s.deps.Workflows.RestoreArchive(ctx, archive.ID, &me); err != nil {
		return nil, err
	}
	return RestoreArchive202JSONResponse{Status: RestoringStatusRestoring}, nil
}

// archive gives an archive that the asker may know of.
//
// Errors: archive_not_found.
func (s *Server) archive(ctx context.Context, id uuid.UUID) (livestream.Archive, error) {
	archive, err := s.deps.Archives.ByID(ctx, id)
	if err != nil || archive.Visibility == livestream.VisibilityPublic {
		return archive, err
	}
	if identity, ok := identityOf(ctx); !ok || identity.UserID != archive.UserID {
		return livestream.Archive{}, livestream.Errorf(livestream.CodeArchiveNotFound, "there is no such archive")
	}
	return archive, nil
}

// ownArchive gives one of the asker's own.
//
// Errors: archive_not_found, forbidden.
func (s *Server) ownArchive(ctx context.Context, id uuid.UUID) (livestream.Archive, error) {
	archive, err := s.archive(ctx, id)
	if err == nil && archive.UserID != memberOf(ctx).UserID {
		err = livestream.Errorf(livestream.CodeForbidden, "this archive is another's")
	}
	return archive, err
}

// archivesOf shows archives to one who may see them.
func (s *Server) archivesOf(ctx context.Context, archives ...livestream.Archive) ([]Archive, error) {
	private := ""
	if slices.ContainsFunc(archives, func(a livestream.Archive) bool { return a.Visibility == livestream.VisibilityPrivate }) {
		var err error
		if private, err = s.privateMediaURL(ctx); err != nil {
			return nil, err
		}
	}
	return each(archives, func(a livestream.Archive) Archive {
		if a.Visibility == livestream.VisibilityPrivate {
			return archiveOf(a, private)
		}
		return archiveOf(a, s.publicMediaURL())
	}), nil
}

// archiveOf shows an archive whose files are below an address.
func archiveOf(a livestream.Archive, media string) Archive {
	out := Archive{
		ID: a.ID, StreamID: a.StreamID, UserID: a.UserID, Title: a.Title, Visibility: ArchiveVisibility(a.Visibility), Status: ArchiveStatus(a.Status), Progress: a.Progress,
		DurationSeconds: a.DurationSeconds, SizeBytes: a.SizeBytes, StorageClass: ArchiveStorageClass(a.StorageClass), ViewCount: a.ViewCount,
		Renditions: each(a.Renditions, func(r livestream.Rendition) Rendition {
			return Rendition{Name: r.Name, Width: r.Width, Height: r.Height, Bitrate: r.Bitrate}
		}),
		Failure:   optional(a.Failure, func(f livestream.Failure) Failure { return Failure(f) }),
		CreatedAt: a.CreatedAt, ReadyAt: a.ReadyAt,
	}
	if a.Status == livestream.ArchiveReady {
		out.PlaybackURL = mediaURL(media, a.ID, livestream.MasterPlaylist)
		if len(a.Renditions) > 0 { // sound alone has no picture
			out.ThumbnailURL = mediaURL(media, a.ID, livestream.Thumbnail)
			out.PosterURL = mediaURL(media, a.ID, livestream.Poster)
			out.StoryboardURL = mediaURL(media, a.ID, livestream.Storyboard)
		}
	}
	return out
}
