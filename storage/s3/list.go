package s3

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Walk lists all objects below a prefix, in the order of their keys.
//
// Errors: unavailable, and what visit gives.
func (b *Bucket) Walk(ctx context.Context, prefix string, visit func(livestream.StoredObject) error) error {
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{
		Bucket: &b.name, Prefix: &prefix, OptionalObjectAttributes: []types.OptionalObjectAttributes{types.OptionalObjectAttributesRestoreStatus},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return edge("list objects", err)
		}
		for _, object := range page.Contents {
			stored := livestream.StoredObject{
				Key: aws.ToString(object.Key), SizeBytes: aws.ToInt64(object.Size), ModifiedAt: aws.ToTime(object.LastModified),
				Class: livestream.StorageClass(object.StorageClass),
			}
			if stored.Class == "" {
				stored.Class = livestream.StorageStandard
			}
			if status := object.RestoreStatus; status != nil {
				stored.Restoring = aws.ToBool(status.IsRestoreInProgress)
				stored.Restored = !stored.Restoring && status.RestoreExpiryDate != nil
			}
			if err := visit(stored); err != nil {
				return err
			}
		}
	}
	return nil
}

// Folders lists what is directly below a prefix and has objects below itself; each ends
// with a slash.
//
// Errors: unavailable, and what visit gives.
func (b *Bucket) Folders(ctx context.Context, prefix string, visit func(folder string) error) error {
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix, Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return edge("list objects", err)
		}
		for _, folder := range page.CommonPrefixes {
			if err := visit(aws.ToString(folder.Prefix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// WalkUploads lists the multipart uploads below a prefix that are not complete: their
// keys, and when they were begun.
//
// Errors: unavailable, and what visit gives.
func (b *Bucket) WalkUploads(ctx context.Context, prefix string, visit func(livestream.StoredObject) error) error {
	pages := s3.NewListMultipartUploadsPaginator(b.client, &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return edge("list uploads", err)
		}
		for _, upload := range page.Uploads {
			if err := visit(livestream.StoredObject{Key: aws.ToString(upload.Key), ModifiedAt: aws.ToTime(upload.Initiated)}); err != nil {
				return err
			}
		}
	}
	return nil
}
