package httpapi_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/cdn"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// mustPublish makes an archive that can be played, and gives its id and where its
// files are for everybody.
func (c *caller) mustPublish() (id, media string) {
	c.t.Helper()
	stream := c.mustStart(nil)
	id = c.mustArchive(stream)
	prefix := livestream.ArchivePrefix(uuid.MustParse(id))
	for file, content := range map[string][2]string{
		"master.m3u8": {"#EXTM3U", "application/vnd.apple.mpegurl"}, "720p/index.m3u8": {"#EXTM3U", "application/vnd.apple.mpegurl"},
		"720p/init.mp4": {"init", "video/mp4"}, "720p/seg_00001.m4s": {"0123456789", "video/mp4"}, "thumbnail.jpg": {"picture", "image/jpeg"},
	} {
		cacheControl := "public, max-age=60"
		if strings.HasPrefix(content[1], "video") {
			cacheControl = "public, max-age=31536000, immutable"
		}
		require.NoError(c.t, c.p.bucket.UploadBytes(c.t.Context(), prefix+file, []byte(content[0]), content[1], cacheControl))
	}
	ladder := []livestream.Rendition{{Name: "720p", Width: 1280, Height: 720, Bitrate: 2_800_000}}
	_, err := postgres.NewArchives(c.p.db).MarkReady(c.t.Context(), uuid.MustParse(id), livestream.MediaInfo{DurationSeconds: 4}, ladder, 10, time.Now())
	require.NoError(c.t, err)
	c.mustEnd(stream)
	return id, "/media/" + prefix
}

// path is an address's, as the API gave it.
func (c *caller) path(address any) string {
	c.t.Helper()
	path, ours := strings.CutPrefix(address.(string), c.p.url)
	require.True(c.t, ours, address)
	return path
}

func TestMediaIsServedAsAnOriginShould(t *testing.T) {
	p := api(t)
	_, media := p.mustRegister(t).mustPublish()
	nobody, path, content := p.anybody(t), media+"720p/seg_00001.m4s", []byte("0123456789")
	whole := nobody.get(path).ok(t, http.StatusOK)
	require.Equal(t, content, whole.body)
	require.Equal(t, "video/mp4", whole.header.Get("Content-Type"))
	require.Contains(t, whole.header.Get("Cache-Control"), "immutable")
	require.Equal(t, "bytes", whole.header.Get("Accept-Ranges"))
	require.Equal(t, "*", whole.header.Get("Access-Control-Allow-Origin"))
	part := nobody.get(path, "Range", "bytes=2-4").ok(t, http.StatusPartialContent)
	require.Equal(t, "234", string(part.body))
	require.Equal(t, "bytes 2-4/10", part.header.Get("Content-Range"))
	nobody.get(path, "Range", "bytes=50-60").ok(t, http.StatusRequestedRangeNotSatisfiable)
	for _, ignored := range []string{"bytes=0-1,3-4", "bytes=5-2", "lines=1-2", "bytes=x-"} {
		require.Equal(t, content, nobody.get(path, "Range", ignored).ok(t, http.StatusOK).body, ignored)
	}
	require.Equal(t, "89", string(nobody.get(path, "Range", "bytes=-2").ok(t, http.StatusPartialContent).body))
	etag := whole.header.Get("ETag")
	require.Equal(t, "234", string(nobody.get(path, "Range", "bytes=2-4", "If-Range", etag).ok(t, http.StatusPartialContent).body))
	require.Equal(t, content, nobody.get(path, "Range", "bytes=2-4", "If-Range", `"another"`).ok(t, http.StatusOK).body)
	require.NotEmpty(t, etag)
	same := nobody.get(path, "If-None-Match", etag).ok(t, http.StatusNotModified)
	require.Empty(t, same.body)
	require.Equal(t, whole.header.Get("Cache-Control"), same.header.Get("Cache-Control"))
	require.Equal(t, "application/vnd.apple.mpegurl", nobody.get(media+"master.m3u8").ok(t, http.StatusOK).header.Get("Content-Type"))
	require.Equal(t, "public, max-age=60", nobody.get(media+"master.m3u8").header.Get("Cache-Control"))
	head := nobody.do(http.MethodHead, path, nil).ok(t, http.StatusOK)
	require.Equal(t, "10", head.header.Get("Content-Length"))
	require.Empty(t, head.body)
	require.Contains(t, nobody.do(http.MethodOptions, path, nil).ok(t, http.StatusNoContent).header.Get("Access-Control-Allow-Headers"), "Range")
}

func TestMediaGivesNothingButArchives(t *testing.T) {
	p := api(t)
	id := uuid.New()
	require.NoError(t, p.bucket.UploadBytes(t.Context(), "recordings/secret", []byte("for nobody's eyes"), "video/mp4", ""))
	require.NoError(t, p.bucket.UploadBytes(t.Context(), "work/"+id.String()+"/chunk_00000.json", []byte("{}"), "application/json", ""))
	for _, path := range []string{
		"/media/recordings/secret", "/media/archives/" + id.String() + "/../../recordings/secret",
		"/media/archives/" + id.String() + "/%2e%2e/%2e%2e/recordings/secret", "/media/archives/" + id.String() + "/..%2f..%2frecordings%2fsecret",
		"/media/archives/" + strings.ToUpper(id.String()) + "/master.m3u8", "/media/archives/x/master.m3u8", "/media/archives/" + id.String() + "/master.m3u8",
		"/media/archives/" + id.String() + "/", "/media/archives/" + id.String() + "/720p/seg_00001.m4s.bak", "/media/work/" + id.String() + "/chunk_00000.json",
		"/media/", "/media",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url, nil)
		require.NoError(t, err)
		request.URL.Opaque = path // as it is written
		response, err := (&http.Transport{}).RoundTrip(request)
		require.NoError(t, err, path)
		said, _ := io.ReadAll(response.Body)
		response.Body.Close()
		require.Contains(t, []int{http.StatusNotFound, http.StatusBadRequest}, response.StatusCode, "%s: %s", path, said)
		require.NotContains(t, string(said), "eyes", path)
	}
}

func TestAPrivateArchiveIsItsOwnersAlone(t *testing.T) {
	p := api(t)
	ada, bob, nobody := p.mustRegister(t), p.mustRegister(t), p.anybody(t)
	id, media := ada.mustPublish()
	stream := ada.get("/api/archives/"+id).text(t, "stream_id")
	lists := []string{"/api/archives", "/api/archives?status=ready", "/api/archives?user_id=" + ada.id, "/api/archives?stream_id=" + stream}
	has := func(c *caller, list string) bool {
		for _, a := range c.get(list + strings.Replace("?limit=100", "?", map[bool]string{true: "&", false: "?"}[strings.Contains(list, "?")], 1)).data(t) {
			if a["id"] == id {
				return true
			}
		}
		return false
	}
	for _, list := range lists {
		require.True(t, has(nobody, list), list)
	}
	require.NotNil(t, nobody.get("/api/streams/" + stream).json(t)["playback_url"])
	nobody.get(media+"master.m3u8").ok(t, http.StatusOK)

	patch := func(c *caller, visibility string) answer {
		return c.do(http.MethodPatch, "/api/archives/"+id, map[string]any{"visibility": visibility})
	}
	patch(bob, "private").problem(t, http.StatusForbidden, "forbidden")
	patch(nobody, "private").problem(t, http.StatusUnauthorized, "unauthorized")
	patch(ada, "secret").problem(t, http.StatusBadRequest, "invalid_request")
	ada.do(http.MethodPatch, "/api/archives/"+id, map[string]any{}).problem(t, http.StatusBadRequest, "invalid_request")
	changed := patch(ada, "private").ok(t, http.StatusOK).json(t)
	require.Equal(t, "private", changed["visibility"])

	for _, c := range []*caller{bob, nobody} {
		c.get("/api/archives/"+id).problem(t, http.StatusNotFound, "archive_not_found")
		c.get("/api/archives/"+id+"/chat").problem(t, http.StatusNotFound, "archive_not_found")
		c.get(media+"master.m3u8").problem(t, http.StatusForbidden, "forbidden")
		c.get(media+"720p/seg_00001.m4s").problem(t, http.StatusForbidden, "forbidden")
		for _, list := range lists {
			require.False(t, has(c, list), list)
		}
	}
	patch(bob, "public").problem(t, http.StatusNotFound, "archive_not_found")
	bob.do(http.MethodDelete, "/api/archives/"+id, nil).problem(t, http.StatusNotFound, "archive_not_found")
	require.Nil(t, nobody.get("/api/streams/" + stream).json(t)["playback_url"])

	require.True(t, has(ada, lists[2]))
	require.True(t, has(ada, lists[3]))
	require.False(t, has(ada, lists[0]), "the lists of everybody are the same for all")
	playback := ada.path(ada.get("/api/archives/" + id).json(t)["playback_url"])
	require.Equal(t, "#EXTM3U", string(nobody.get(playback).ok(t, http.StatusOK).body), "a player needs no token")
	segment := nobody.get(strings.TrimSuffix(playback, "master.m3u8")+"720p/seg_00001.m4s", "Range", "bytes=0-1").ok(t, http.StatusPartialContent)
	require.Equal(t, "private, max-age=31536000, immutable", segment.header.Get("Cache-Control"), "no cache of others keeps it")
	nobody.get(ada.path(changed["thumbnail_url"])).ok(t, http.StatusOK)

	// The grant opens nothing else, and no other grant opens this.
	bobs, _ := bob.mustPublish()
	bob.do(http.MethodPatch, "/api/archives/"+bobs, map[string]any{"visibility": "private"}).ok(t, http.StatusOK)
	grant := strings.Split(playback, "/")[3]
	bobsGrant := strings.Split(bob.path(bob.get("/api/archives/" + bobs).json(t)["playback_url"]), "/")[3]
	for _, path := range []string{
		"/media/private/" + grant + "/archives/" + bobs + "/master.m3u8", "/media/private/" + bobsGrant + "/archives/" + id + "/master.m3u8",
		"/media/private/x/archives/" + id + "/master.m3u8", "/media/private/" + bob.token + "/archives/" + id + "/master.m3u8",
		"/media/private/" + grant[:len(grant)-5] + "AAAAA/archives/" + id + "/master.m3u8",
	} {
		nobody.get(path).problem(t, http.StatusForbidden, "forbidden")
	}
	patch(ada, "public").ok(t, http.StatusOK)
	nobody.get(media+"master.m3u8").ok(t, http.StatusOK)
}

// standStill begins to fetch a file of more than what the sockets hold, and reads none of
// it.
func (p *product) standStill(t *testing.T, id, media string) *http.Response {
	t.Helper()
	require.NoError(t, p.bucket.UploadBytes(t.Context(), livestream.ArchivePrefix(uuid.MustParse(id))+"720p/seg_00002.m4s", bytes.Repeat([]byte("x"), 32<<20), "video/mp4", ""))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+media+"720p/seg_00002.m4s", nil)
	require.NoError(t, err)
	slow, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, slow.StatusCode)
	return slow
}

func TestMediaSendsSoManyFilesAtOnce(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{maxMedia: 1})
	ada := p.mustRegister(t)
	id, media := ada.mustPublish()
	slow := p.standStill(t, id, media)
	defer slow.Body.Close()

	busy := ada.get(media + "master.m3u8")
	busy.problem(t, http.StatusServiceUnavailable, "unavailable")
	require.NotEmpty(t, busy.header.Get("Retry-After"))
	ada.get("/api/archives/"+id).ok(t, http.StatusOK) // all else goes on

	require.NoError(t, slow.Body.Close()) // the viewer goes away
	ada.eventually(func() bool { return ada.get(media+"master.m3u8").status == http.StatusOK })
}

func TestMediaSendsSoManyFilesToAnAddress(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{maxMedia: 10, perAddress: 1})
	ada := p.mustRegister(t)
	id, media := ada.mustPublish()
	slow := p.standStill(t, id, media)
	defer slow.Body.Close()

	refused := ada.get(media + "master.m3u8")
	refused.problem(t, http.StatusTooManyRequests, "rate_limited")
	require.NotEmpty(t, refused.header.Get("Retry-After"))
	ada.get("/media/archives/"+uuid.NewString()+"/master.m3u8").problem(t, http.StatusNotFound, "not_found") // what sends nothing is answered

	require.NoError(t, slow.Body.Close())
	ada.eventually(func() bool { return ada.get(media+"master.m3u8").status == http.StatusOK })
}

func TestMediaWithoutTheStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	proxy, endpoint := testenv.NewProxy(t, testenv.Load(t).S3Endpoint)
	p := newProduct(t, options{s3Endpoint: endpoint, maxMedia: 2})
	ada := p.mustRegister(t)
	_, media := ada.mustPublish()
	ada.get(media+"master.m3u8").ok(t, http.StatusOK)
	unavailable := func(method string) {
		t.Helper()
		got := ada.do(method, media+"master.m3u8", nil)
		require.Equal(t, http.StatusServiceUnavailable, got.status)
		require.NotEmpty(t, got.header.Get("Retry-After"))
	}
	proxy.Cut()
	for range 3 { // more than there are slots
		unavailable(http.MethodGet)
	}
	unavailable(http.MethodHead)
	proxy.Restore()
	ada.get(media+"master.m3u8").ok(t, http.StatusOK)
	proxy.Freeze()
	unavailable(http.MethodGet)
	unavailable(http.MethodHead)
	proxy.Thaw()
	ada.eventually(func() bool { return ada.get(media+"master.m3u8").status == http.StatusOK })
}

// With a CDN, addresses are the CDN's, and a private archive's owner gets cookies
// that CloudFront takes.
func TestMediaBehindACDN(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600))
	cookies, err := cdn.NewCloudFront(cdn.Config{KeyPairID: "K2JCJMDEHXQW5F", PrivateKeyFile: file, Domain: "example.com"})
	require.NoError(t, err)
	p := newProduct(t, options{mediaURL: "https://media.example.com/", cookies: cookies, perAddress: 1})
	ada := p.mustRegister(t)
	id, media := ada.mustPublish()

	public := p.anybody(t).get("/api/archives/" + id)
	require.Equal(t, "https://media.example.com"+media+"master.m3u8", public.text(t, "playback_url"))
	require.Equal(t, "https://media.example.com"+media+"thumbnail.jpg", public.text(t, "thumbnail_url"))
	require.Empty(t, public.header.Values("Set-Cookie"))
	stream := p.anybody(t).get("/api/streams/" + public.text(t, "stream_id"))
	require.Equal(t, public.text(t, "playback_url"), stream.text(t, "playback_url"))

	ada.do(http.MethodPatch, "/api/archives/"+id, map[string]any{"visibility": "private"}).ok(t, http.StatusOK)
	mine := ada.get("/api/archives/"+id, "Origin", "https://app.test").ok(t, http.StatusOK)
	require.Equal(t, "true", mine.header.Get("Access-Control-Allow-Credentials"))
	playback := mine.text(t, "playback_url")
	below, _, _ := strings.Cut(playback, "archives/")
	require.True(t, strings.HasPrefix(below, "https://media.example.com/media/private/"), below)
	jar := map[string]*http.Cookie{}
	for _, cookie := range (&http.Response{Header: mine.header}).Cookies() {
		require.True(t, cookie.Secure && cookie.HttpOnly, cookie.Name)
		require.Equal(t, []string{"example.com", strings.TrimPrefix(below, "https://media.example.com")}, []string{cookie.Domain, cookie.Path})
		jar[cookie.Name] = cookie
	}
	require.Len(t, jar, 3)
	require.Equal(t, "K2JCJMDEHXQW5F", jar["CloudFront-Key-Pair-Id"].Value)
	decode := func(name string) []byte { // CloudFront's own alphabet
		content, err := base64.StdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "=", "~", "/").Replace(jar[name].Value))
		require.NoError(t, err)
		return content
	}
	var policy struct {
		Statement []struct {
			Resource  string
			Condition struct {
				DateLessThan struct {
					Until int64 `json:"AWS:EpochTime"`
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(decode("CloudFront-Policy"), &policy))
	require.Equal(t, below+"*", policy.Statement[0].Resource, "all of the playlist's files, and nothing else")
	until := time.Unix(policy.Statement[0].Condition.DateLessThan.Until, 0)
	require.WithinRange(t, until, time.Now().Add(11*time.Hour), time.Now().Add(14*time.Hour))
	digest := sha1.Sum(decode("CloudFront-Policy"))
	require.NoError(t, rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA1, digest[:], decode("CloudFront-Signature")))
	require.NotEmpty(t, ada.get("/api/archives?user_id="+ada.id).header.Values("Set-Cookie"), "lists have pictures to show")

	// What the CDN asks of its origin.
	origin := p.anybody(t)
	path := strings.TrimPrefix(playback, "https://media.example.com")
	got := origin.get(path, "Origin", "https://app.test").ok(t, http.StatusOK)
	require.Equal(t, "https://app.test", got.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", got.header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, "public, max-age=60", got.header.Get("Cache-Control"), "the CDN keeps it, and gives it to those with the cookies")
	require.Empty(t, origin.get(path, "Origin", "https://evil.test").header.Get("Access-Control-Allow-Origin"))
	origin.get(media+"master.m3u8").problem(t, http.StatusForbidden, "forbidden")
}

// What is in GLACIER is asked for by whoever plays it. The store of the tests has no
// classes, so that all is there at once.
func TestAnArchiveInGlacierIsRestored(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id, media := ada.mustPublish()
	freeze := func() {
		p.exec(t, "UPDATE archives SET storage_class = 'GLACIER', tier = 'GLACIER' WHERE id = $1", id)
	}
	plays := func() bool { return p.anybody(t).get(media+"720p/seg_00001.m4s").status == http.StatusOK }
	bob.post("/api/archives/"+id+"/restore", nil).ok(t, http.StatusOK)
	require.Equal(t, "ready", bob.post("/api/archives/"+id+"/restore", nil).text(t, "status"))

	freeze()
	p.anybody(t).get(media+"thumbnail.jpg").ok(t, http.StatusOK)
	got := p.anybody(t).get(media+"master.m3u8").ok(t, http.StatusAccepted)
	require.Equal(t, "restoring", got.text(t, "status"))
	require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	require.NotEmpty(t, got.header.Get("Retry-After"))
	ada.eventually(plays)
	restore, err := p.temporal.DescribeWorkflowExecution(t.Context(), "archive/"+id+"/restore", "")
	require.NoError(t, err)
	require.Equal(t, livestream.RestoreWindow, restore.GetExecutionConfig().GetWorkflowExecutionTimeout().AsDuration(), "it is not open for ever")
	p.exec(t, "UPDATE archives SET storage_class = 'GLACIER' WHERE id = $1", id)
	for range 20 { // a player that is loaded again and again begins nothing
		p.anybody(t).get(media+"master.m3u8").ok(t, http.StatusAccepted)
	}
	p.exec(t, "UPDATE archives SET storage_class = 'STANDARD' WHERE id = $1", id)
	require.Equal(t, "STANDARD", bob.get("/api/archives/"+id).text(t, "storage_class"))

	freeze()
	require.Equal(t, "GLACIER", bob.get("/api/archives/"+id).text(t, "storage_class"))
	require.Equal(t, "restoring", bob.post("/api/archives/"+id+"/restore", nil).ok(t, http.StatusAccepted).text(t, "status"))
	ada.eventually(plays)
	ada.eventually(func() bool { return len(bob.get("/api/notifications").data(t)) == 1 })
	told := bob.get("/api/notifications").data(t)[0]
	require.Equal(t, "archive_ready", told["type"])
	require.Equal(t, id, told["data"].(map[string]any)["archive_id"])

	ada.do(http.MethodPatch, "/api/archives/"+id, map[string]any{"visibility": "private"}).ok(t, http.StatusOK)
	bob.post("/api/archives/"+id+"/restore", nil).problem(t, http.StatusNotFound, "archive_not_found")
}
