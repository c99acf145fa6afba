package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Recordings stores which uploads are on their way.
type Recordings interface {
	Create(ctx context.Context, upload livestream.Upload) error
	ByID(ctx context.Context, streamID, id uuid.UUID) (livestream.Upload, error)
}

// Uploads is object storage, for uploads in parts by the client itself.
type Uploads interface {
	CreateUpload(ctx context.Context, key, contentType string) (storageID string, err error)
	PresignPart(ctx context.Context, key, storageID string, number int32, size int64, expires time.Duration) (url string, err error)
	CompleteUpload(ctx context.Context, upload livestream.Upload, parts []livestream.UploadPart) error
	AbortUpload(ctx context.Context, upload livestream.Upload) error
}

func (s *Server) CreateRecording(ctx context.Context, request CreateRecordingRequestObject) (CreateRecordingResponseObject, error) {
	stream, err := s.ownStream(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	switch {
	case !stream.Record:
		return nil, livestream.Errorf(livestream.CodeRecordingDisabled, "this stream is not recorded")
	case stream.ArchiveID != nil:
		return nil, livestream.Errorf(livestream.CodeRecordingExists, "this stream has a recording already")
	case stream.EndedAt != nil && s.deps.Now().Sub(*stream.EndedAt) > livestream.RecordingWindow:
		return nil, livestream.Errorf(livestream.CodeRecordingClosed, "the time to upload a recording of this stream is over")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	upload := livestream.Upload{
		ID: id, StreamID: stream.ID, Key: livestream.RecordingPrefix(stream.ID) + id.String(),
		ContentType: request.Body.ContentType, SizeBytes: request.Body.SizeBytes, PartSize: livestream.RecordingPartSize(request.Body.SizeBytes),
	}
	if upload.StorageID, err = s.deps.Uploads.CreateUpload(ctx, upload.Key, upload.ContentType); err != nil {
		return nil, err
	}
	if err := s.deps.Recordings.Create(ctx, upload); err != nil {
		// Without its row nobody would find the upload again.
		return nil, errors.Join(err, s.deps.Uploads.AbortUpload(context.WithoutCancel(ctx), upload))
	}
	out := Recording{
		UploadID: upload.ID, PartSize: upload.PartSize,
		CompleteURL: fmt.Sprintf("%s/api/streams/%s/recording/%s/complete", s.config.PublicURL, stream.ID, upload.ID),
	}
	for number, offset := int32(1), int64(0); offset < upload.SizeBytes; number, offset = number+1, offset+upload.PartSize {
		size := min(upload.PartSize, upload.SizeBytes-offset)
		address, err := s.deps.Uploads.PresignPart(ctx, upload.Key, upload.StorageID, number, size, livestream.RecordingURLExpires)
		if err != nil {
			return nil, err
		}
		out.Parts = append(out.Parts, struct {
			PartNumber int32  `json:"part_number"`
			URL        string `json:"url"`
		}{number, address})
	}
	return CreateRecording201JSONResponse(out), nil
}

func (s *Server) CompleteRecording(ctx context.Context, request CompleteRecordingRequestObject) (CompleteRecordingResponseObject, error) {
	stream, err := s.ownStream(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	if !stream.Record {
		return nil, livestream.Errorf(livestream.CodeRecordingDisabled, "this stream is not recorded")
	}
	upload, err := s.deps.Recordings.ByID(ctx, stream.ID, request.UploadID)
	if err != nil {
		return nil, err
	}
	if upload.ArchiveID != nil {
		return CompleteRecording202JSONResponse{ArchiveID: *upload.ArchiveID}, nil
	}
	// The storage first: the workflow takes over what is whole. Should this process
	// die in between, the client completes again.
	parts := each(request.Body.Parts, func(p UploadedPart) livestream.UploadPart {
		return livestream.UploadPart{Number: p.PartNumber, ETag: p.Etag}
	})
	if err := s.deps.Uploads.CompleteUpload(ctx, upload, parts); err != nil {
		return nil, err
	}
	archiveID, err := s.deps.Workflows.CompleteRecording(ctx, upload)
	if livestream.CodeOf(err) == livestream.CodeRecordingClosed {
		// It came too late, and nobody else would remove it.
		err = errors.Join(err, s.deps.Uploads.AbortUpload(context.WithoutCancel(ctx), upload))
	}
	if err != nil {
		return nil, err
	}
	return CompleteRecording202JSONResponse{ArchiveID: archiveID}, nil
}
