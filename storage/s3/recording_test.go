package s3_test

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/s3"
)

// partSize is the least that S3 takes for all parts but the last.
const partSize = 5 << 20

// recording is an upload of two parts, as a client has it.
type recording struct {
	livestream.Upload
	bucket  *s3.Bucket
	content []byte
	urls    []string
}

func begin(tb testing.TB, bucket *s3.Bucket) *recording {
	tb.Helper()
	ctx := testenv.Context(tb)
	r := &recording{bucket: bucket, content: bytes.Repeat([]byte("0123456789abcdef"), (partSize+1600)/16)}
	r.Upload = livestream.Upload{Key: "recordings/" + uuid.NewString(), SizeBytes: int64(len(r.content)), PartSize: partSize}
	var err error
	r.StorageID, err = bucket.CreateUpload(ctx, r.Key, "video/mp4")
	require.NoError(tb, err)
	for i := range 2 {
		url, err := bucket.PresignPart(ctx, r.Key, r.StorageID, int32(i+1), int64(len(r.part(i+1))), time.Hour)
		require.NoError(tb, err)
		r.urls = append(r.urls, url)
	}
	return r
}

func (r *recording) part(number int) []byte {
	if number == 1 {
		return r.content[:partSize]
	}
	return r.content[partSize:]
}

// put sends a part as a client does, who knows nothing but the address.
func put(tb testing.TB, url string, content []byte) (status int, etag string) {
	tb.Helper()
	request, err := http.NewRequestWithContext(testenv.Context(tb), http.MethodPut, url, bytes.NewReader(content))
	require.NoError(tb, err)
	var response *http.Response
	// A store that refuses does not wait for the content: its answer may be lost with
	// the connection, and the client asks again.
	require.Eventually(tb, func() bool {
		request.Body, err = request.GetBody()
		require.NoError(tb, err)
		response, err = http.DefaultClient.Do(request) //nolint:bodyclose // below
		return err == nil
	}, time.Minute, 10*time.Millisecond, "%v", err)
	defer response.Body.Close()
	return response.StatusCode, response.Header.Get("ETag")
}

func (r *recording) put(tb testing.TB, number int) livestream.UploadPart {
	tb.Helper()
	status, etag := put(tb, r.urls[number-1], r.part(number))
	require.Equal(tb, http.StatusOK, status)
	require.NotEmpty(tb, etag)
	return livestream.UploadPart{Number: int32(number), ETag: etag}
}

func (r *recording) putAll(tb testing.TB) []livestream.UploadPart {
	tb.Helper()
	return []livestream.UploadPart{r.put(tb, 1), r.put(tb, 2)}
}

func TestARecordingIsUploadedInParts(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	r := begin(t, bucket)
	parts := r.putAll(t)
	parts[0].ETag = strings.Trim(parts[0].ETag, `"`) // some clients take the quotes off
	slices.Reverse(parts)                            // and the order is theirs
	require.NoError(t, bucket.CompleteUpload(ctx, r.Upload, parts))
	content, err := bucket.ReadAll(ctx, r.Key)
	require.NoError(t, err)
	require.True(t, bytes.Equal(r.content, content))
	object, err := bucket.Get(ctx, r.Key, livestream.ObjectRequest{Range: "bytes=0-1"})
	require.NoError(t, err)
	object.Body.Close()
	require.Equal(t, "video/mp4", object.ContentType)

	require.NoError(t, bucket.CompleteUpload(ctx, r.Upload, parts), "the answer was lost: again")
	require.NoError(t, bucket.CompleteUpload(ctx, r.Upload, nil))
}

func TestSeveralCompleteAnUploadAtOnce(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	r := begin(t, bucket)
	parts := r.putAll(t)
	errs := make([]error, 4)
	var running sync.WaitGroup
	for i := range errs {
		running.Go(func() { errs[i] = bucket.CompleteUpload(ctx, r.Upload, parts) })
	}
	running.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	content, err := bucket.ReadAll(ctx, r.Key)
	require.NoError(t, err)
	require.True(t, bytes.Equal(r.content, content))
}

// Whatever is wrong with the parts, the client can put it right and complete the
// same upload.
func TestAnIncompleteUploadGoesOn(t *testing.T) {
	t.Parallel()
	bucket := open(t, config(t))
	foreign := livestream.UploadPart{Number: 2, ETag: `"00000000000000000000000000000000"`}
	cases := map[string]func(ctx context.Context, r *recording) error{
		"nothing arrived": func(ctx context.Context, r *recording) error {
			return bucket.CompleteUpload(ctx, r.Upload, []livestream.UploadPart{{Number: 1, ETag: "x"}, foreign})
		},
		"a part has not arrived": func(ctx context.Context, r *recording) error {
			return bucket.CompleteUpload(ctx, r.Upload, []livestream.UploadPart{r.put(t, 1), foreign})
		},
		"a part is not named": func(ctx context.Context, r *recording) error {
			return bucket.CompleteUpload(ctx, r.Upload, r.putAll(t)[:1])
		},
		"no part is named": func(ctx context.Context, r *recording) error {
			r.putAll(t)
			return bucket.CompleteUpload(ctx, r.Upload, nil)
		},
		"a part is named twice": func(ctx context.Context, r *recording) error {
			parts := r.putAll(t)
			return bucket.CompleteUpload(ctx, r.Upload, []livestream.UploadPart{parts[0], parts[0], parts[1]})
		},
		"a part more is named": func(ctx context.Context, r *recording) error {
			return bucket.CompleteUpload(ctx, r.Upload, append(r.putAll(t), livestream.UploadPart{Number: 3, ETag: "x"}))
		},
		"another ETag": func(ctx context.Context, r *recording) error {
			return bucket.CompleteUpload(ctx, r.Upload, []livestream.UploadPart{r.putAll(t)[0], foreign})
		},
		"another size": func(ctx context.Context, r *recording) error {
			announced := r.Upload
			announced.SizeBytes++
			return bucket.CompleteUpload(ctx, announced, r.putAll(t))
		},
	}
	for name, complete := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testenv.Context(t)
			r := begin(t, bucket)
			requireCode(t, livestream.CodeUploadIncomplete, complete(ctx, r))
			_, err := bucket.Get(ctx, r.Key, livestream.ObjectRequest{})
			requireCode(t, livestream.CodeNotFound, err)
			require.NoError(t, bucket.CompleteUpload(ctx, r.Upload, r.putAll(t)))
		})
	}
}

func TestAnUploadThatIsUnknownIsIncomplete(t *testing.T) {
	t.Parallel()
	bucket := open(t, config(t))
	requireCode(t, livestream.CodeUploadIncomplete, bucket.CompleteUpload(testenv.Context(t), livestream.Upload{
		Key: "recordings/none", StorageID: uuid.NewString(), SizeBytes: 1,
	}, []livestream.UploadPart{{Number: 1, ETag: "x"}}))
}

func TestAbortUpload(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	r := begin(t, bucket)
	parts := r.putAll(t)
	require.NoError(t, bucket.AbortUpload(ctx, r.Upload))
	require.NoError(t, bucket.AbortUpload(ctx, r.Upload), "twice is once")
	requireCode(t, livestream.CodeUploadIncomplete, bucket.CompleteUpload(ctx, r.Upload, parts))
	status, _ := put(t, r.urls[0], r.part(1))
	require.Equal(t, http.StatusNotFound, status)

	whole := begin(t, bucket)
	require.NoError(t, bucket.CompleteUpload(ctx, whole.Upload, whole.putAll(t)))
	require.NoError(t, bucket.AbortUpload(ctx, whole.Upload))
	_, err := bucket.Get(ctx, whole.Key, livestream.ObjectRequest{})
	requireCode(t, livestream.CodeNotFound, err)
}

// An address is good for one part of one upload, in its size, for its time.
func TestAnAddressIsForItsPartAlone(t *testing.T) {
	t.Parallel()
	bucket := open(t, config(t))
	r, other := begin(t, bucket), begin(t, bucket)
	address := r.urls[1]
	for what, url := range map[string]string{
		"another key":       strings.Replace(address, r.Key, other.Key, 1),
		"another upload":    strings.Replace(address, r.StorageID, other.StorageID, 1),
		"another part":      strings.Replace(address, "partNumber=2", "partNumber=1", 1),
		"another signature": strings.Replace(address, "X-Amz-Signature=", "X-Amz-Signature=0", 1),
		"a longer time":     strings.Replace(address, "X-Amz-Expires=3600", "X-Amz-Expires=7200", 1),
	} {
		require.NotEqual(t, address, url, what)
		status, _ := put(t, url, r.part(2))
		require.Equal(t, http.StatusForbidden, status, what)
	}
	status, _ := put(t, address, r.part(2)[1:])
	require.Equal(t, http.StatusForbidden, status, "another size")
	r.put(t, 2)

	url, err := bucket.PresignPart(testenv.Context(t), r.Key, r.StorageID, 2, int64(len(r.part(2))), time.Second)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, _ := put(t, url, r.part(2))
		return status == http.StatusForbidden
	}, 10*time.Second, 100*time.Millisecond, "an address that has expired")
}

// Clients may reach the store by another name than we do.
func TestAddressesAreThePublicOnes(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.PublicEndpoint = "https://media.example.com"
	url, err := open(t, c).PresignPart(testenv.Context(t), "recordings/a", "upload", 1, 1, time.Hour)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(url, "https://media.example.com/"+c.Bucket+"/recordings/a?"), url)
}
