package s3

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	livestream "github.com/livestream-pro/livestream-pro"
)

// CreateUpload opens a multipart upload and gives the store's id of it.
func (b *Bucket) CreateUpload(ctx context.Context, key, contentType string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	out, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.name, Key: &key, ContentType: &contentType,
	})
	if err != nil {
		return "", edge("create upload", err)
	}
	return aws.ToString(out.UploadId), nil
}

// PresignPart makes the address to which a client puts one part of that size; it
// is good for nothing else.
func (b *Bucket) PresignPart(ctx context.Context, key, storageID string, number int32, size int64, expires time.Duration) (string, error) {
	request, err := b.presign.PresignUploadPart(ctx, &s3.UploadPartInput{
		Bucket: &b.name, Key: &key, UploadId: &storageID, PartNumber: &number, ContentLength: &size,
	}, s3.WithPresignExpires(expires))
	if err != nil {
		return "", edge("presign part", err)
	}
	return request.URL, nil
}

// CompleteUpload makes the parts one object of the size that was announced. An
// upload that is complete already is no error.
//
// Errors: upload_incomplete when parts are missing, foreign or of another size;
// the upload goes on then. unavailable.
func (b *Bucket) CompleteUpload(ctx context.Context, upload livestream.Upload, parts []livestream.UploadPart) error {
	ctx, cancel := context.WithTimeout(ctx, 3*b.timeout) // the store may copy all parts
	defer cancel()
	if done, err := b.completed(ctx, upload); done || err != nil {
		return err
	}
	arrived, size, err := b.arrived(ctx, upload)
	if err != nil {
		return b.unlessCompleted(ctx, upload, err)
	}
	if size != upload.SizeBytes {
		return livestream.Errorf(livestream.CodeUploadIncomplete, "%d of %d bytes have arrived", size, upload.SizeBytes)
	}
	// The store would make an object of whatever it is told: a part that the client
	// does not name would be missing for good.
	if err := match(arrived, parts); err != nil {
		return err
	}
	_, err = b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.name, Key: &upload.Key, UploadId: &upload.StorageID,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: arrived},
	})
	if err == nil {
		return nil
	}
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorFault() != smithy.FaultServer {
		return b.unlessCompleted(ctx, upload, livestream.Errorf(livestream.CodeUploadIncomplete, "the parts are not as large as they should be"))
	}
	return edge("complete upload", err)
}

// match says whether the parts that a client names are those that have arrived.
//
// Errors: upload_incomplete.
func match(arrived []types.CompletedPart, named []livestream.UploadPart) error {
	etags := make(map[int32]string, len(named))
	for _, part := range named {
		if _, twice := etags[part.Number]; twice {
			return livestream.Errorf(livestream.CodeUploadIncomplete, "part %d is named twice", part.Number)
		}
		etags[part.Number] = part.ETag
	}
	for _, part := range arrived {
		number := aws.ToInt32(part.PartNumber)
		etag, ok := etags[number]
		if !ok {
			return livestream.Errorf(livestream.CodeUploadIncomplete, "part %d is missing", number)
		}
		if strings.Trim(etag, `"`) != strings.Trim(aws.ToString(part.ETag), `"`) {
			return livestream.Errorf(livestream.CodeUploadIncomplete, "part %d is not the one that was uploaded", number)
		}
		delete(etags, number)
	}
	for number := range etags {
		return livestream.Errorf(livestream.CodeUploadIncomplete, "part %d has not arrived", number)
	}
	return nil
}

// completed says whether the object is there in the announced size.
func (b *Bucket) completed(ctx context.Context, upload livestream.Upload) (bool, error) {
	size, err := b.size(ctx, upload.Key)
	if livestream.CodeOf(err) == livestream.CodeNotFound {
		return false, nil
	}
	return err == nil && size == upload.SizeBytes, err
}

// completing is how long another request that completes the same upload is waited
// for: the store takes the parts away before it shows the object.
const completing = 2 * time.Second

// unlessCompleted is err, or nil when somebody else completes the upload.
func (b *Bucket) unlessCompleted(ctx context.Context, upload livestream.Upload, err error) error {
	if livestream.CodeOf(err) != livestream.CodeUploadIncomplete {
		return err
	}
	for deadline := time.Now().Add(completing); ; {
		if done, again := b.completed(ctx, upload); done || again != nil {
			return again
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return edge("complete upload", ctx.Err())
		}
	}
}

// arrived lists the parts that the store has, in order, and their size.
func (b *Bucket) arrived(ctx context.Context, upload livestream.Upload) (parts []types.CompletedPart, size int64, err error) {
	pages := s3.NewListPartsPaginator(b.client, &s3.ListPartsInput{Bucket: &b.name, Key: &upload.Key, UploadId: &upload.StorageID})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if isMissing(err) {
			return nil, 0, livestream.Errorf(livestream.CodeUploadIncomplete, "the upload has expired; begin a new one")
		}
		if err != nil {
			return nil, 0, edge("list parts", err)
		}
		for _, part := range page.Parts {
			parts = append(parts, types.CompletedPart{PartNumber: part.PartNumber, ETag: part.ETag})
			size += aws.ToInt64(part.Size)
		}
	}
	return parts, size, nil
}

// AbortUpload forgets an upload with all its parts, or the object when its parts
// were made one already. One that is not there is no error.
//
// Errors: unavailable.
func (b *Bucket) AbortUpload(ctx context.Context, upload livestream.Upload) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &b.name, Key: &upload.Key, UploadId: &upload.StorageID,
	})
	if err != nil && !isMissing(err) {
		return edge("abort upload", err)
	}
	_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &upload.Key})
	if err != nil && !isMissing(err) {
		return edge("delete object", err)
	}
	return nil
}
