package s3

import (
	"cmp"
	"context"
	"errors"
	"slices"
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

// PresignPart makes the address to which a client puts one part of that size.
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
// Errors: upload_incomplete when parts are missing, foreign or of another size.
func (b *Bucket) CompleteUpload(ctx context.Context, upload livestream.Upload, parts []livestream.UploadPart) error {
	ctx, cancel := context.WithTimeout(ctx, 3*b.timeout) // the store may copy all parts
	defer cancel()
	if done, err := b.completed(ctx, upload); done || err != nil {
		return err
	}
	sum, err := b.uploadedBytes(ctx, upload)
	if err != nil {
		return err
	}
	if sum != upload.SizeBytes {
		return livestream.Errorf(livestream.CodeUploadIncomplete, "%d of %d bytes have arrived", sum, upload.SizeBytes)
	}
	completed := make([]types.CompletedPart, len(parts))
	for i, part := range parts {
		completed[i] = types.CompletedPart{PartNumber: aws.Int32(part.Number), ETag: aws.String(part.ETag)}
	}
	slices.SortFunc(completed, func(a, b types.CompletedPart) int { return cmp.Compare(*a.PartNumber, *b.PartNumber) })
	_, err = b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.name, Key: &upload.Key, UploadId: &upload.StorageID,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: completed},
	})
	if err == nil {
		done, err := b.completed(ctx, upload)
		if err == nil && !done {
			err = livestream.Errorf(livestream.CodeUploadIncomplete, "the parts do not add up to %d bytes", upload.SizeBytes)
		}
		return err
	}
	if done, again := b.completed(ctx, upload); again == nil && done {
		return nil // somebody else completed it meanwhile
	}
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorFault() != smithy.FaultServer {
		return livestream.Errorf(livestream.CodeUploadIncomplete, "the parts do not match what was uploaded")
	}
	return edge("complete upload", err)
}

// completed says whether the object is there in the announced size.
func (b *Bucket) completed(ctx context.Context, upload livestream.Upload) (bool, error) {
	head, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &upload.Key})
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, edge("head object", err)
	}
	return aws.ToInt64(head.ContentLength) == upload.SizeBytes, nil
}

func (b *Bucket) uploadedBytes(ctx context.Context, upload livestream.Upload) (int64, error) {
	var sum int64
	pages := s3.NewListPartsPaginator(b.client, &s3.ListPartsInput{Bucket: &b.name, Key: &upload.Key, UploadId: &upload.StorageID})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if isMissing(err) {
			return 0, livestream.Errorf(livestream.CodeUploadIncomplete, "the upload has expired; begin a new one")
		}
		if err != nil {
			return 0, edge("list parts", err)
		}
		for _, part := range page.Parts {
			sum += aws.ToInt64(part.Size)
		}
	}
	return sum, nil
}

// AbortUpload forgets an upload with all its parts, or the object when its parts
// were made one already.
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
