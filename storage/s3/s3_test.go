package s3_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/s3"
)

func config(tb testing.TB) s3.Config {
	env := testenv.Load(tb)
	return s3.Config{Endpoint: env.S3Endpoint, Bucket: testenv.Bucket(tb), AccessKey: env.S3AccessKey, SecretKey: env.S3SecretKey}
}

func open(tb testing.TB, config s3.Config) *s3.Bucket {
	bucket, err := s3.Open(testenv.Context(tb), config)
	require.NoError(tb, err)
	return bucket
}

func requireCode(tb testing.TB, code livestream.Code, err error) {
	tb.Helper()
	require.Error(tb, err)
	require.Equal(tb, code, livestream.CodeOf(err), "%v", err)
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	_, err := s3.Open(t.Context(), s3.Config{AccessKey: "a", SecretKey: "b"})
	require.ErrorContains(t, err, "a bucket is needed")
	_, err = s3.Open(t.Context(), s3.Config{Bucket: "b", AccessKey: "a"})
	require.ErrorContains(t, err, "go together")
}

// Without keys in its configuration a process has those of its role, which whoever
// runs the container gives out at an address of the environment.
func TestTheKeysOfARole(t *testing.T) {
	c := config(t)
	asked := make(chan string, 10)
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": c.AccessKey, "SecretAccessKey": c.SecretKey, "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		})
	}))
	t.Cleanup(role.Close)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_CONFIG_FILE": os.DevNull,
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": role.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the container's",
	} {
		t.Setenv(name, value)
	}
	bucket := open(t, s3.Config{Endpoint: c.Endpoint, Bucket: c.Bucket})
	ctx := testenv.Context(t)
	require.NoError(t, bucket.UploadBytes(ctx, "a/file", []byte("content"), "text/plain", "no-cache"))
	require.NoError(t, bucket.Ping(ctx))
	require.Equal(t, "the container's", <-asked)
	require.Empty(t, asked, "the keys are kept until they expire")
}

func TestAMissingBucketIsNotReady(t *testing.T) {
	t.Parallel()
	c := config(t)
	require.NoError(t, open(t, c).Ping(testenv.Context(t)))
	c.Bucket = "there-is-no-such-bucket"
	require.Error(t, open(t, c).Ping(testenv.Context(t)))
}

// A store that is away is told from one that refuses, and found out soon: clients
// get 503 instead of waiting.
func TestAStoreThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.CallTimeout = 2 * time.Second
	ctx := testenv.Context(t)
	require.NoError(t, open(t, c).UploadBytes(ctx, "a/file", []byte("content"), "text/plain", "no-cache"))
	proxy, endpoint := testenv.NewProxy(t, c.Endpoint)
	c.Endpoint = endpoint
	bucket := open(t, c)
	upload := livestream.Upload{Key: "a/recording", StorageID: "none", SizeBytes: 1}
	everything := map[string]func() error{
		"ping":     func() error { return bucket.Ping(ctx) },
		"get":      func() error { _, err := bucket.Get(ctx, "a/file", livestream.ObjectRequest{}); return err },
		"upload":   func() error { return bucket.UploadBytes(ctx, "a/other", []byte("x"), "text/plain", "") },
		"create":   func() error { _, err := bucket.CreateUpload(ctx, "a/recording", "video/mp4"); return err },
		"complete": func() error { return bucket.CompleteUpload(ctx, upload, nil) },
		"abort":    func() error { return bucket.AbortUpload(ctx, upload) },
		"delete":   func() error { return bucket.Delete(ctx, "a/file") },
		"prefix":   func() error { return bucket.DeletePrefix(ctx, "a/", func() {}) },
	}
	proxy.Cut()
	for name, call := range everything {
		t.Log(name)
		requireCode(t, livestream.CodeUnavailable, call())
	}
	proxy.Restore()
	object, err := bucket.Get(ctx, "a/file", livestream.ObjectRequest{})
	require.NoError(t, err, "it works again by itself")
	object.Body.Close()

	proxy.Freeze()
	_, err = bucket.Get(ctx, "a/file", livestream.ObjectRequest{})
	requireCode(t, livestream.CodeUnavailable, err)
	requireCode(t, livestream.CodeUnavailable, bucket.Ping(ctx))
}
