package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	livestream "github.com/livestream-pro/livestream-pro"
)

// byteRange is a Range header that asks for one part of a file. Others, and those
// that make no sense, are ignored, as RFC 9110 allows.
var byteRange = regexp.MustCompile(`^bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-[0-9]{1,18})$`)

// oneETag is an If-None-Match header that names one ETag.
var oneETag = regexp.MustCompile(`^"[^"]*"$`)

// Get reads an object, or the range of it that a Range header names: status 200,
// 206 or 416. An ETag that still holds gives 304.
//
// Errors: not_found, unavailable.
func (b *Bucket) Get(ctx context.Context, key, rangeHeader, ifNoneMatch string) (*livestream.Object, error) {
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &key}
	if isRange(rangeHeader) {
		in.Range = &rangeHeader
	}
	if ifNoneMatch != "" {
		in.IfNoneMatch = &ifNoneMatch
	}
	// The answer must begin in time; how long the body takes is up to the reader.
	answering, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(b.timeout, cancel)
	out, err := b.client.GetObject(answering, in)
	if !late.Stop() && err != nil && ctx.Err() == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
	}
	switch status := statusOf(err); {
	case status == http.StatusNotModified:
		etag := headerOf(err, "ETag")
		if etag == "" && oneETag.MatchString(ifNoneMatch) {
			etag = ifNoneMatch // not every store repeats it
		}
		return &livestream.Object{Status: status, Body: http.NoBody, ETag: etag, CacheControl: headerOf(err, "Cache-Control")}, nil
	case status == http.StatusRequestedRangeNotSatisfiable:
		size, err := b.size(ctx, key)
		if err != nil {
			return nil, err
		}
		return &livestream.Object{Status: status, Body: http.NoBody, ContentRange: fmt.Sprintf("bytes */%d", size)}, nil
	case isMissing(err):
		return nil, livestream.Errorf(livestream.CodeNotFound, "there is no such file")
	case err != nil:
		return nil, edge("get object", err)
	}
	status := http.StatusOK
	if in.Range != nil && out.ContentRange != nil {
		status = http.StatusPartialContent
	}
	return &livestream.Object{
		Status: status, Body: body{out.Body, cancel}, Length: aws.ToInt64(out.ContentLength),
		ContentType: aws.ToString(out.ContentType), ContentRange: aws.ToString(out.ContentRange),
		CacheControl: aws.ToString(out.CacheControl), ETag: aws.ToString(out.ETag), LastModified: aws.ToTime(out.LastModified),
	}, nil
}

// isRange says whether a Range header is one that we serve.
func isRange(header string) bool {
	m := byteRange.FindStringSubmatch(header)
	if m == nil || m[1] == "" || m[2] == "" {
		return m != nil
	}
	first, _ := strconv.ParseInt(m[1], 10, 64) // it has 18 digits at most
	last, _ := strconv.ParseInt(m[2], 10, 64)
	return first <= last
}

// body ends its request when it is closed.
type body struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// size is an object's length in bytes.
//
// Errors: not_found, unavailable.
func (b *Bucket) size(ctx context.Context, key string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	head, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if isMissing(err) {
		return 0, livestream.Errorf(livestream.CodeNotFound, "there is no such file")
	}
	if err != nil {
		return 0, edge("head object", err)
	}
	return aws.ToInt64(head.ContentLength), nil
}

// ReadAll reads a small object whole.
func (b *Bucket) ReadAll(ctx context.Context, key string) ([]byte, error) {
	object, err := b.Get(ctx, key, "", "")
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
	object, err := b.Get(ctx, key, "", "")
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
	total    int64
	reported int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.reader.Read(p)
	m.total += int64(n)
	if m.total-m.reported >= meterStep {
		m.reported = m.total
		m.progress(m.total)
	}
	return n, err
}

// UploadFile stores a file, in parts when it is large.
func (b *Bucket) UploadFile(ctx context.Context, key, file, contentType, cacheControl string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open a scratch file: %w", err)
	}
	defer f.Close()
	_, err = transfermanager.New(b.client).UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: &b.name, Key: &key, Body: f, ContentType: &contentType, CacheControl: &cacheControl,
	})
	return edge("upload", err)
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
// so that it cannot be the beginning of another's name.
func (b *Bucket) DeletePrefix(ctx context.Context, prefix string) error {
	if prefix == "" || prefix[len(prefix)-1] != '/' {
		return fmt.Errorf("delete prefix %q: it must end with a slash", prefix)
	}
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return edge("list objects", err)
		}
		if len(page.Contents) == 0 {
			continue
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

func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

func headerOf(err error, name string) string {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.HTTPResponse() != nil {
		return response.HTTPResponse().Header.Get(name)
	}
	return ""
}
