package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/s3"
)

// written dates an object at a whole second of the past, as AWS does: this store
// compares fractions that it does not tell.
func written(t *testing.T, c s3.Config, key string) {
	t.Helper()
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	require.NoError(t, os.Chtimes(filepath.Join(testenv.Load(t).S3Dir, c.Bucket, key), at, at))
}

// A player that resumes must not put two files together.
func TestARangeDependsOnTheFileBeingTheSame(t *testing.T) {
	t.Parallel()
	c, ctx := config(t), testenv.Context(t)
	bucket := open(t, c)
	require.NoError(t, bucket.UploadBytes(ctx, "file", []byte("0123456789"), "text/plain", ""))
	written(t, c, "file")
	head, err := bucket.Head(ctx, "file", livestream.ObjectRequest{})
	require.NoError(t, err)
	modified := head.LastModified
	for name, test := range map[string]struct {
		request livestream.ObjectRequest
		status  int
		want    string
	}{
		"the same ETag":       {livestream.ObjectRequest{IfRange: head.ETag}, http.StatusPartialContent, "234"},
		"another ETag":        {livestream.ObjectRequest{IfRange: `"another"`}, http.StatusOK, "0123456789"},
		"a weak ETag":         {livestream.ObjectRequest{IfRange: "W/" + head.ETag}, http.StatusOK, "0123456789"},
		"no ETag":             {livestream.ObjectRequest{IfRange: "what"}, http.StatusOK, "0123456789"},
		"a time since":        {livestream.ObjectRequest{IfRange: modified.Add(30 * time.Second).Format(http.TimeFormat)}, http.StatusPartialContent, "234"},
		"a time before":       {livestream.ObjectRequest{IfRange: modified.Add(-time.Hour).Format(http.TimeFormat)}, http.StatusOK, "0123456789"},
		"both, and it has it": {livestream.ObjectRequest{IfRange: head.ETag, IfNoneMatch: head.ETag}, http.StatusNotModified, ""},
		"both, and has not":   {livestream.ObjectRequest{IfRange: head.ETag, IfNoneMatch: `"another"`}, http.StatusOK, "0123456789"},
	} {
		test.request.Range = "bytes=2-4"
		object, err := bucket.Get(ctx, "file", test.request)
		require.NoError(t, err, name)
		content, err := io.ReadAll(object.Body)
		require.NoError(t, err, name)
		require.NoError(t, object.Body.Close())
		require.Equal(t, test.want, string(content), name)
		require.Equal(t, test.status, object.Status, name)
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	c, ctx := config(t), testenv.Context(t)
	bucket := open(t, c)
	require.NoError(t, bucket.UploadBytes(ctx, "file", []byte("0123456789"), "video/mp4", "max-age=60"))
	written(t, c, "file")
	head, err := bucket.Head(ctx, "file", livestream.ObjectRequest{Range: "bytes=2-4"})
	require.NoError(t, err)
	require.Equal(t, []any{http.StatusOK, int64(10), "video/mp4", "max-age=60"}, []any{head.Status, head.Length, head.ContentType, head.CacheControl})
	for name, request := range map[string]livestream.ObjectRequest{
		"by its ETag": {IfNoneMatch: head.ETag}, "packed": {IfNoneMatch: "W/" + head.ETag}, "any": {IfNoneMatch: "*"}, "by its time": {IfModifiedSince: head.LastModified.Format(http.TimeFormat)},
	} {
		same, err := bucket.Head(ctx, "file", request)
		require.NoError(t, err, name)
		require.Equal(t, http.StatusNotModified, same.Status, name)
		got, err := bucket.Get(ctx, "file", request)
		require.NoError(t, err, name)
		require.Equal(t, http.StatusNotModified, got.Status, name)
		for _, answer := range []*livestream.Object{same, got} {
			require.Equal(t, []string{head.ETag, head.CacheControl}, []string{answer.ETag, answer.CacheControl}, name)
		}
	}
	for name, request := range map[string]livestream.ObjectRequest{
		"another ETag": {IfNoneMatch: `"x"`, IfModifiedSince: head.LastModified.Format(http.TimeFormat)}, "no time": {IfModifiedSince: "yesterday"},
	} {
		object, err := bucket.Head(ctx, "file", request)
		require.NoError(t, err, name)
		require.Equal(t, http.StatusOK, object.Status, name)
	}
	_, err = bucket.Head(ctx, "none", livestream.ObjectRequest{})
	requireCode(t, livestream.CodeNotFound, err)
}

func TestATransferThatStandsStillIsBrokenOff(t *testing.T) {
	t.Parallel()
	c := config(t)
	ctx := testenv.Context(t)
	require.NoError(t, open(t, c).UploadBytes(ctx, "file", bytes.Repeat([]byte("x"), 32<<20), "text/plain", ""))
	proxy, endpoint := testenv.NewProxy(t, c.Endpoint)
	c.Endpoint, c.StallTimeout = endpoint, 500*time.Millisecond
	object, err := open(t, c).Get(ctx, "file", livestream.ObjectRequest{})
	require.NoError(t, err)
	defer object.Body.Close()
	_, err = io.ReadFull(object.Body, make([]byte, 1<<20))
	require.NoError(t, err)
	proxy.Freeze()
	_, err = io.Copy(io.Discard, object.Body)
	requireCode(t, livestream.CodeUnavailable, err)
}
