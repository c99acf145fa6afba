package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func TestGet(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	require.NoError(t, bucket.UploadBytes(ctx, "archives/a/seg.m4s", []byte("0123456789"), "video/iso.segment", "max-age=31536000"))

	get := func(rangeHeader, ifNoneMatch string) (*livestream.Object, string) {
		t.Helper()
		object, err := bucket.Get(ctx, "archives/a/seg.m4s", livestream.ObjectRequest{Range: rangeHeader, IfNoneMatch: ifNoneMatch})
		require.NoError(t, err)
		defer object.Body.Close()
		content, err := io.ReadAll(object.Body)
		require.NoError(t, err)
		return object, string(content)
	}
	whole, content := get("", "")
	require.Equal(t, "0123456789", content)
	require.Equal(t, http.StatusOK, whole.Status)
	require.Equal(t, int64(10), whole.Length)
	require.Equal(t, "video/iso.segment", whole.ContentType)
	require.Equal(t, "max-age=31536000", whole.CacheControl)
	require.NotEmpty(t, whole.ETag)
	require.False(t, whole.LastModified.IsZero())

	for header, want := range map[string]string{"bytes=2-4": "234", "bytes=7-": "789", "bytes=-2": "89", "bytes=8-100": "89"} {
		part, content := get(header, "")
		require.Equal(t, want, content, header)
		require.Equal(t, http.StatusPartialContent, part.Status, header)
		require.Equal(t, int64(len(want)), part.Length, header)
		require.Regexp(t, `^bytes [0-9]+-9?[0-9]*/10$`, part.ContentRange, header)
	}
	// What is not one range of bytes is ignored.
	for _, header := range []string{"bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=", "bytes=-", "bytes=99999999999999999999-", "0-1"} {
		all, content := get(header, "")
		require.Equal(t, "0123456789", content, header)
		require.Equal(t, http.StatusOK, all.Status, header)
	}
	beyond, content := get("bytes=10-", "")
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, beyond.Status)
	require.Equal(t, "bytes */10", beyond.ContentRange)
	require.Empty(t, content)

	same, content := get("", whole.ETag)
	require.Equal(t, http.StatusNotModified, same.Status)
	require.Equal(t, whole.ETag, same.ETag)
	require.Empty(t, content)
	_, content = get("", `"another"`)
	require.Equal(t, "0123456789", content)

	for _, key := range []string{"archives/a/none", "archives/a", "archives/a/seg.m4s/below"} {
		_, err := bucket.Get(ctx, key, livestream.ObjectRequest{})
		requireCode(t, livestream.CodeNotFound, err)
	}
}

func TestAReaderThatGoesAwayEndsTheDownload(t *testing.T) {
	t.Parallel()
	bucket := open(t, config(t))
	require.NoError(t, bucket.UploadBytes(testenv.Context(t), "file", bytes.Repeat([]byte("x"), 8<<20), "text/plain", ""))
	ctx, cancel := context.WithCancel(testenv.Context(t))
	object, err := bucket.Get(ctx, "file", livestream.ObjectRequest{})
	require.NoError(t, err)
	defer object.Body.Close()
	cancel()
	_, err = io.ReadAll(object.Body)
	require.ErrorIs(t, err, context.Canceled)
}

func TestFilesTravelWhole(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	// Large enough for several reports.
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16+1)
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	require.NoError(t, os.WriteFile(from, content, 0o600))
	var told atomic.Int64
	require.NoError(t, bucket.UploadFile(ctx, "work/chunk.m4s", from, "video/mp4", "no-store", func(int64) { told.Add(1) }))
	require.Positive(t, told.Load(), "a report each 8 MiB")
	var reported []int64
	require.NoError(t, bucket.Download(ctx, "work/chunk.m4s", to, func(n int64) { reported = append(reported, n) }))
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	require.Len(t, reported, 2, "a report each 8 MiB")

	small, err := bucket.ReadAll(ctx, "work/chunk.m4s")
	require.NoError(t, err)
	require.Len(t, small, len(content))
	_, err = bucket.ReadAll(ctx, "work/none")
	requireCode(t, livestream.CodeNotFound, err)
	requireCode(t, livestream.CodeNotFound, bucket.Download(ctx, "work/none", to, func(int64) {}))
}

func TestDelete(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	require.NoError(t, bucket.UploadBytes(ctx, "a", []byte("x"), "text/plain", ""))
	require.NoError(t, bucket.Delete(ctx, "a"))
	require.NoError(t, bucket.Delete(ctx, "a"), "twice is once")
	_, err := bucket.Get(ctx, "a", livestream.ObjectRequest{})
	requireCode(t, livestream.CodeNotFound, err)
}

func TestDeletePrefix(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	const objects = 1_050 // more than the store lists, or deletes, at once
	var group errgroup.Group
	group.SetLimit(16)
	for i := range objects {
		group.Go(func() error {
			return bucket.UploadBytes(ctx, fmt.Sprintf("archives/1/%04d", i), []byte("x"), "text/plain", "")
		})
	}
	for _, key := range []string{"archives/10/other", "archives/1.txt"} {
		group.Go(func() error { return bucket.UploadBytes(ctx, key, []byte("x"), "text/plain", "") })
	}
	require.NoError(t, group.Wait())

	for _, prefix := range []string{"", "archives/1", "archives"} {
		require.ErrorContains(t, bucket.DeletePrefix(ctx, prefix, func() {}), "slash", prefix)
	}
	pages := 0
	require.NoError(t, bucket.DeletePrefix(ctx, "archives/1/", func() { pages++ }))
	require.Equal(t, 2, pages, "it tells that it is alive")
	require.NoError(t, bucket.DeletePrefix(ctx, "archives/1/", func() {}), "twice is once")
	for i := range objects {
		_, err := bucket.Get(ctx, fmt.Sprintf("archives/1/%04d", i), livestream.ObjectRequest{})
		requireCode(t, livestream.CodeNotFound, err)
	}
	for _, key := range []string{"archives/10/other", "archives/1.txt"} {
		content, err := bucket.ReadAll(ctx, key)
		require.NoError(t, err, key)
		require.Equal(t, "x", string(content))
	}
}

func TestAnUploadThatStandsStillIsBrokenOff(t *testing.T) {
	t.Parallel()
	c := config(t)
	ctx := testenv.Context(t)
	proxy, endpoint := testenv.NewProxy(t, c.Endpoint)
	c.Endpoint, c.StallTimeout = endpoint, time.Second
	bucket := open(t, c)
	file := filepath.Join(t.TempDir(), "segment")
	for name, size := range map[string]int{"before the store has it": 64 << 20, "before the store answers": 10} {
		require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("x"), size), 0o600))
		proxy.Freeze()
		requireCode(t, livestream.CodeUnavailable, bucket.UploadFile(ctx, "file", file, "video/mp4", "", func(int64) {}))
		proxy.Thaw()
		require.NoError(t, bucket.UploadFile(ctx, "file", file, "video/mp4", "", func(int64) {}), name)
	}
	proxy.Freeze()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, bucket.UploadFile(gone, "file", file, "video/mp4", "", func(int64) {}), context.Canceled, "a cancel is no fault of the store's")
}

func TestADeletionThatStandsStillIsBrokenOff(t *testing.T) {
	t.Parallel()
	c := config(t)
	ctx := testenv.Context(t)
	proxy, endpoint := testenv.NewProxy(t, c.Endpoint)
	c.Endpoint, c.CallTimeout = endpoint, time.Second
	bucket := open(t, c)
	require.NoError(t, bucket.UploadBytes(ctx, "a/file", []byte("x"), "text/plain", ""))
	proxy.Freeze()
	requireCode(t, livestream.CodeUnavailable, bucket.DeletePrefix(ctx, "a/", func() {}))
	proxy.Thaw()
	require.NoError(t, bucket.DeletePrefix(ctx, "a/", func() {}))
}
