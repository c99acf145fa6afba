package s3

import (
	"bytes"
	"context"
	"errors"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	livestream "github.com/livestream-pro/livestream-pro"
)

// probeKey is the object by which a store is asked whether it has classes.
const probeKey = "probe/storage_class"

// HasClasses says whether the store keeps objects in the class that it is told. Stores
// that have none take one without a word, so that one object is stored and looked at.
//
// Errors: unavailable.
func (b *Bucket) HasClasses(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*b.timeout)
	defer cancel()
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.name, Key: aws.String(probeKey), Body: bytes.NewReader(nil), StorageClass: types.StorageClassIntelligentTiering,
	})
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == "InvalidStorageClass" || api.ErrorCode() == "NotImplemented") {
		return false, nil
	}
	if err != nil {
		return false, edge("put object", err)
	}
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: aws.String(probeKey)})
	if err != nil {
		return false, edge("head object", err)
	}
	return out.StorageClass == types.StorageClassIntelligentTiering, b.Delete(ctx, probeKey)
}

// SetClass keeps an object in another class: it is copied onto itself, with its type
// and how long it may be cached. It may have up to 5 GB.
//
// Errors: not_found, unavailable.
func (b *Bucket) SetClass(ctx context.Context, key string, class livestream.StorageClass) error {
	ctx, cancel := context.WithTimeout(ctx, 6*b.timeout) // the store copies meanwhile
	defer cancel()
	now, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return unread("head object", err)
	}
	_, err = b.client.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b.name, Key: &key, CopySource: aws.String(url.PathEscape(b.name) + "/" + (&url.URL{Path: key}).EscapedPath()),
		CopySourceIfMatch: now.ETag, StorageClass: types.StorageClass(class),
		MetadataDirective: types.MetadataDirectiveReplace, ContentType: now.ContentType, CacheControl: now.CacheControl, Metadata: now.Metadata,
	})
	if err != nil {
		return unread("copy object", err)
	}
	return nil
}

// restoredFor is how long an object can be read that comes back from GLACIER: long
// enough to copy it.
const restoredFor = 7

// Restore asks for an object that is in GLACIER, in bulk, which costs least. It comes
// within 12 hours; asking again changes nothing.
//
// Errors: not_found, unavailable.
func (b *Bucket) Restore(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.client.RestoreObject(ctx, &s3.RestoreObjectInput{
		Bucket: &b.name, Key: &key,
		RestoreRequest: &types.RestoreRequest{Days: aws.Int32(restoredFor), GlacierJobParameters: &types.GlacierJobParameters{Tier: types.TierBulk}},
	})
	var api smithy.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode() == "RestoreAlreadyInProgress":
		return nil
	case err != nil:
		return unread("restore object", err)
	}
	return nil
}
