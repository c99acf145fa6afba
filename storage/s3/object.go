package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	livestream "github.com/livestream-pro/livestream-pro"
)

// ReadAll reads a small object whole.
func (b *Bucket) ReadAll(ctx context.Context, key string) ([]byte, error) {
	object, err := b.Get(ctx, key, livestream.ObjectRequest{})
	if err != nil {
		return nil, err
	}
	defer object.Body.Close()
	const limit = 64 << 20
	content, err := io.ReadAll(io.LimitReader(object.Body, limit+1))
	if err != nil {
		return nil, edge("read object", err)
	}
	if len(content) > limit {
		return nil, fmt.Errorf("object %s is larger than %d bytes", key, limit)
	}
	return content, nil
}

// Download copies an object into a file, and tells how many bytes it has.
func (b *Bucket) Download(ctx context.Context, key, file string, progress func(bytes int64)) (err error) {
	object, err := b.Get(ctx, key, livestream.ObjectRequest{})
	if err != nil {
		return err
	}
	defer object.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("create a scratch file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, &meter{reader: object.Body, progress: progress}); err != nil {
		return edge("download", err)
	}
	return nil
}

// meterStep is how many bytes pass between two reports.
const meterStep = 8 << 20

type meter struct {
	reader   io.Reader
	progress func(int64)
	moved    func() // told of each read; may be nil
	total    int64
	reported int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.reader.Read(p)
	m.total += int64(n)
	if m.moved != nil {
		m.moved()
	}
	if m.total-m.reported >= meterStep {
		m.reported = m.total
		m.progress(m.total)
	}
	return n, err
}

// inOneGo is the size up to which a file is stored by one request, straight from the
// disk. Larger ones go in parts, several of which are in memory at a time.
const inOneGo = 1 << 30

// UploadFile stores a file, in parts when it is large, and tells how many bytes have
// gone: each 8 MiB, so of a small file nothing. It is given up when the store takes
// nothing, or does not answer, for Config.StallTimeout.
//
// Errors: unavailable.
func (b *Bucket) UploadFile(ctx context.Context, key, file, contentType, cacheControl string, progress func(bytes int64)) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open a scratch file: %w", err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open a scratch file: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(b.stall, func() { cancel(errStalled) })
	defer stalled.Stop()
	moved := func() { stalled.Reset(b.stall) }
	if stat.Size() <= inOneGo {
		body := struct {
			io.Reader
			io.Seeker // a request that failed is sent again from the start
		}{&meter{reader: f, progress: progress, moved: moved}, f}
		_, err = b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: body, ContentType: &contentType, CacheControl: &cacheControl})
	} else {
		parts := transfermanager.New(b.client, func(o *transfermanager.Options) {
			o.Concurrency = 3
			o.ObjectProgressListeners.Register(transferred(func(bytes int64) {
				moved()
				progress(bytes)
			}))
		})
		_, err = parts.UploadObject(ctx, &transfermanager.UploadObjectInput{
			Bucket: &b.name, Key: &key, Body: f, ContentType: &contentType, CacheControl: &cacheControl,
		})
	}
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		err = errStalled
	}
	return edge("upload", err)
}

// transferred is told of each part that has arrived.
type transferred func(bytes int64)

func (t transferred) OnObjectBytesTransferred(_ context.Context, event *transfermanager.ObjectBytesTransferredEvent) {
	t(event.BytesTransferred)
}

// UploadBytes stores a small object.
func (b *Bucket) UploadBytes(ctx context.Context, key string, content []byte, contentType, cacheControl string) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.name, Key: &key, Body: bytes.NewReader(content), ContentType: &contentType, CacheControl: &cacheControl,
	})
	return edge("put object", err)
}

// DeletePrefix deletes all objects below a prefix, which must end with a slash
// so that it cannot be the beginning of another's name. Alive is called after each
// thousand.
//
// Errors: unavailable.
func (b *Bucket) DeletePrefix(ctx context.Context, prefix string, alive func()) error {
	if prefix == "" || prefix[len(prefix)-1] != '/' {
		return fmt.Errorf("delete prefix %q: it must end with a slash", prefix)
	}
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		if err := b.deletePage(ctx, pages); err != nil {
			return err
		}
		alive()
	}
	return nil
}

func (b *Bucket) deletePage(ctx context.Context, pages *s3.ListObjectsV2Paginator) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	page, err := pages.NextPage(ctx)
	if err != nil {
		return edge("list objects", err)
	}
	if len(page.Contents) == 0 {
		return nil
	}
	batch := make([]types.ObjectIdentifier, len(page.Contents))
	for i, object := range page.Contents {
		batch[i] = types.ObjectIdentifier{Key: object.Key}
	}
	out, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Objects: batch, Quiet: aws.Bool(true)}})
	if err != nil {
		return edge("delete objects", err)
	}
	if len(out.Errors) > 0 {
		return livestream.Unavailable("the media store", fmt.Errorf("delete %s: %s", aws.ToString(out.Errors[0].Key), aws.ToString(out.Errors[0].Message)))
	}
	return nil
}

// Delete deletes one object; one that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key})
	if isMissing(err) {
		return nil
	}
	return edge("delete object", err)
}
