package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	livestream "github.com/livestream-pro/livestream-pro"
)

// byteRange is a Range header that asks for one part of a file. Others, and those
// that make no sense, are ignored, as RFC 9110 allows.
var byteRange = regexp.MustCompile(`^bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-[0-9]{1,18})$`)

// oneETag is a header that names one strong ETag.
var oneETag = regexp.MustCompile(`^"[^"]*"$`)

// errStalled is why a transfer is broken off that does not get on.
var errStalled = errors.New("the store does not get on")

// Get reads an object, or the range of it that is asked for: status 200, 206, 304
// or 416. Its body breaks off when the store sends nothing for Config.StallTimeout.
//
// Errors: not_found, unavailable.
func (b *Bucket) Get(ctx context.Context, key string, request livestream.ObjectRequest) (*livestream.Object, error) {
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &key, IfNoneMatch: noneMatch(request), IfModifiedSince: modifiedSince(request)}
	if isRange(request.Range) && whileSame(in, request) {
		in.Range = &request.Range
	}
	answering, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(b.timeout, func() { cancel(errStalled) })
	out, err := b.client.GetObject(answering, in)
	if statusOf(err) == http.StatusPreconditionFailed { // it is another one by now: the client gets all of it
		in.Range, in.IfMatch, in.IfUnmodifiedSince = nil, nil, nil
		out, err = b.client.GetObject(answering, in)
	}
	if !late.Stop() && err == nil {
		err = errors.Join(errStalled, out.Body.Close())
	}
	if err != nil {
		cancel(nil)
		if ctx.Err() == nil && errors.Is(context.Cause(answering), errStalled) {
			err = errStalled
		}
	}
	if statusOf(err) == http.StatusNotModified {
		return b.unchanged(ctx, key, err)
	}
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		size, err := b.size(ctx, key)
		if err != nil {
			return nil, err
		}
		return &livestream.Object{Status: http.StatusRequestedRangeNotSatisfiable, Body: http.NoBody, ContentRange: fmt.Sprintf("bytes */%d", size)}, nil
	}
	if err != nil {
		return nil, unread("get object", err)
	}
	status := http.StatusOK
	if in.Range != nil && out.ContentRange != nil {
		status = http.StatusPartialContent
	}
	return &livestream.Object{
		Status: status, Body: &body{from: out.Body, cancel: cancel, ctx: answering, patience: b.stall}, Length: aws.ToInt64(out.ContentLength),
		ContentType: aws.ToString(out.ContentType), ContentRange: aws.ToString(out.ContentRange),
		CacheControl: aws.ToString(out.CacheControl), ETag: aws.ToString(out.ETag), LastModified: aws.ToTime(out.LastModified),
	}, nil
}

// Head is Get without the body, and without ranges: status 200 or 304.
//
// Errors: not_found, unavailable.
func (b *Bucket) Head(ctx context.Context, key string, request livestream.ObjectRequest) (*livestream.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &b.name, Key: &key, IfNoneMatch: noneMatch(request), IfModifiedSince: modifiedSince(request),
	})
	if statusOf(err) == http.StatusNotModified {
		return b.unchanged(ctx, key, err)
	}
	if err != nil {
		return nil, unread("head object", err)
	}
	return &livestream.Object{
		Status: http.StatusOK, Body: http.NoBody, Length: aws.ToInt64(out.ContentLength), ContentType: aws.ToString(out.ContentType),
		CacheControl: aws.ToString(out.CacheControl), ETag: aws.ToString(out.ETag), LastModified: aws.ToTime(out.LastModified),
	}, nil
}

// unread is why an object cannot be read.
func unread(what string, err error) error {
	if isMissing(err) {
		return livestream.Errorf(livestream.CodeNotFound, "there is no such file")
	}
	if api := smithy.APIError(nil); errors.As(err, &api) && api.ErrorCode() == "InvalidObjectState" { // it went to GLACIER a moment ago
		return livestream.Unavailable("this file", fmt.Errorf("%s: %w", what, err))
	}
	return edge(what, err)
}

// unchanged is the answer to a client that has the object already. Not every store
// repeats what a cache goes by.
func (b *Bucket) unchanged(ctx context.Context, key string, err error) (*livestream.Object, error) {
	object := &livestream.Object{Status: http.StatusNotModified, Body: http.NoBody, ETag: headerOf(err, "ETag"), CacheControl: headerOf(err, "Cache-Control")}
	if object.ETag == "" || object.CacheControl == "" {
		whole, err := b.Head(ctx, key, livestream.ObjectRequest{})
		if err != nil {
			return nil, err
		}
		object.ETag, object.CacheControl = whole.ETag, whole.CacheControl
	}
	return object, nil
}

// noneMatch is If-None-Match, which compares weakly: a cache that packs what it passes
// on marks the ETag so.
func noneMatch(request livestream.ObjectRequest) *string {
	return header(strings.TrimPrefix(request.IfNoneMatch, "W/"))
}

func header(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// modifiedSince is what If-Modified-Since says; If-None-Match has precedence.
func modifiedSince(request livestream.ObjectRequest) *time.Time {
	if request.IfNoneMatch != "" {
		return nil
	}
	return parseTime(request.IfModifiedSince)
}

// parseTime reads a time of HTTP; nil when it is none, as RFC 9110 has it.
func parseTime(text string) *time.Time {
	at, err := http.ParseTime(text)
	if err != nil {
		return nil
	}
	return &at
}

// whileSame makes a range depend on what If-Range names, and says whether the range
// is good at all. A weak ETag never is; with If-None-Match the whole is simpler.
func whileSame(in *s3.GetObjectInput, request livestream.ObjectRequest) bool {
	if request.IfRange == "" {
		return true
	}
	if oneETag.MatchString(request.IfRange) {
		in.IfMatch = &request.IfRange
	} else {
		in.IfUnmodifiedSince = parseTime(request.IfRange)
	}
	return request.IfNoneMatch == "" && (in.IfMatch != nil || in.IfUnmodifiedSince != nil)
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

// body is a transfer that ends when it is closed, or when it does not get on: a
// store that hangs must not hold whoever waits for it.
type body struct {
	from     io.ReadCloser
	ctx      context.Context // of the request
	cancel   context.CancelCauseFunc
	patience time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	stalled := time.AfterFunc(b.patience, func() { b.cancel(errStalled) })
	n, err := b.from.Read(p)
	stalled.Stop()
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, edge("read object", err)
}

func (b *body) Close() error {
	defer b.cancel(nil)
	return b.from.Close()
}

// size is an object's length in bytes.
//
// Errors: not_found, unavailable.
func (b *Bucket) size(ctx context.Context, key string) (int64, error) {
	object, err := b.Head(ctx, key, livestream.ObjectRequest{})
	if err != nil {
		return 0, err
	}
	return object.Length, nil
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
