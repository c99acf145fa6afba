package s3_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/s3"
)

func TestAStoreWithoutClassesSaysSo(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	classes, err := bucket.HasClasses(ctx)
	require.NoError(t, err)
	require.False(t, classes)
	require.NoError(t, bucket.Walk(ctx, "", func(o livestream.StoredObject) error { return errors.New(o.Key + " stays") }))
}

func TestWalkListsWhatIsBelowAPrefix(t *testing.T) {
	t.Parallel()
	bucket, ctx := open(t, config(t)), testenv.Context(t)
	for _, key := range []string{"archives/1/b", "archives/1/a", "archives/10/a", "archives/2/a"} {
		require.NoError(t, bucket.UploadBytes(ctx, key, []byte("four"), "video/mp4", "no-cache"))
	}
	var found []string
	require.NoError(t, bucket.Walk(ctx, "archives/1/", func(o livestream.StoredObject) error {
		found = append(found, o.Key)
		require.EqualValues(t, 4, o.SizeBytes)
		require.Equal(t, livestream.StorageStandard, o.Class)
		require.False(t, o.ModifiedAt.IsZero())
		return nil
	}))
	require.Equal(t, []string{"archives/1/a", "archives/1/b"}, found)
	stop := errors.New("enough")
	require.ErrorIs(t, bucket.Walk(ctx, "archives/1/", func(livestream.StoredObject) error { return stop }), stop)
	require.NoError(t, bucket.SetClass(ctx, "archives/1/a", livestream.StorageStandard), "a copy onto itself")
	same, err := bucket.Head(ctx, "archives/1/a", livestream.ObjectRequest{})
	require.NoError(t, err)
	require.Equal(t, "video/mp4", same.ContentType)
	require.Equal(t, "no-cache", same.CacheControl)
	requireCode(t, livestream.CodeNotFound, bucket.SetClass(ctx, "archives/1/none", livestream.StorageStandard))
}

// classes speaks as much of S3 as storage classes need, by its documentation: no store
// that has them runs here.
type classes struct {
	mu      sync.Mutex
	class   map[string]string
	restore map[string]string // as the listing has it
	copied  []http.Header
}

func (s *classes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/bucket/")
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
	}
	class, there := s.class[key]
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2":
		type object struct {
			Key, StorageClass string
			Size              int
			RestoreStatus     struct {
				IsRestoreInProgress bool
				RestoreExpiryDate   string `xml:",omitempty"`
			}
		}
		out := struct {
			XMLName  xml.Name `xml:"ListBucketResult"`
			Contents []object
		}{}
		for key, class := range s.class {
			o := object{Key: key, StorageClass: class, Size: 1}
			if r.Header.Get("x-amz-optional-object-attributes") == "RestoreStatus" {
				o.RestoreStatus.IsRestoreInProgress = s.restore[key] == "in progress"
				if s.restore[key] == "done" {
					o.RestoreStatus.RestoreExpiryDate = "2030-01-01T00:00:00Z"
				}
			}
			out.Contents = append(out.Contents, o)
		}
		_ = xml.NewEncoder(w).Encode(out)
	case r.Method == http.MethodHead && there:
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Type", "video/mp4")
		w.Header().Set("Cache-Control", "immutable")
		if class != "STANDARD" {
			w.Header().Set("x-amz-storage-class", class)
		}
	case r.Method == http.MethodPut && r.Header.Get("x-amz-copy-source") != "":
		if class == "GLACIER" && s.restore[key] != "done" {
			refuse(http.StatusForbidden, "InvalidObjectState")
			return
		}
		s.copied = append(s.copied, r.Header.Clone())
		s.class[key] = r.Header.Get("x-amz-storage-class")
		fmt.Fprint(w, `<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>`)
	case r.Method == http.MethodPut:
		s.class[key] = r.Header.Get("x-amz-storage-class")
	case r.Method == http.MethodPost && r.URL.Query().Has("restore") && there:
		if s.restore[key] == "in progress" {
			refuse(http.StatusConflict, "RestoreAlreadyInProgress")
			return
		}
		s.restore[key] = "in progress"
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodDelete:
		delete(s.class, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(http.StatusNotFound, "NoSuchKey")
	}
}

func TestClassesOfAStoreThatHasThem(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	store := &classes{class: map[string]string{"archives/1/a": "STANDARD", "archives/1/b": "GLACIER"}, restore: map[string]string{}}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	bucket := open(t, s3.Config{Endpoint: server.URL, Bucket: "bucket", AccessKey: "a", SecretKey: "b"})
	list := func() map[string]livestream.StoredObject {
		out := map[string]livestream.StoredObject{}
		require.NoError(t, bucket.Walk(ctx, "archives/1/", func(o livestream.StoredObject) error { out[o.Key] = o; return nil }))
		return out
	}
	has, err := bucket.HasClasses(ctx)
	require.NoError(t, err)
	require.True(t, has)
	require.Len(t, list(), 2, "nothing is left of the question")

	require.NoError(t, bucket.SetClass(ctx, "archives/1/a", livestream.StorageIntelligent))
	require.Equal(t, livestream.StorageIntelligent, list()["archives/1/a"].Class)
	sent := store.copied[0]
	require.Equal(t, "bucket/archives/1/a", sent.Get("x-amz-copy-source"))
	require.Equal(t, "REPLACE", sent.Get("x-amz-metadata-directive"))
	require.Equal(t, "video/mp4", sent.Get("Content-Type"))
	require.Equal(t, "immutable", sent.Get("Cache-Control"))

	require.Error(t, bucket.SetClass(ctx, "archives/1/b", livestream.StorageStandard), "it cannot be read yet")
	for range 2 {
		require.NoError(t, bucket.Restore(ctx, "archives/1/b"))
	}
	require.True(t, list()["archives/1/b"].Restoring)
	require.False(t, list()["archives/1/b"].Restored)
	store.restore["archives/1/b"] = "done"
	require.True(t, list()["archives/1/b"].Restored)
	require.NoError(t, bucket.SetClass(ctx, "archives/1/b", livestream.StorageStandard))
	require.Equal(t, livestream.StorageStandard, list()["archives/1/b"].Class)
	requireCode(t, livestream.CodeNotFound, bucket.Restore(ctx, "archives/1/none"))
}
