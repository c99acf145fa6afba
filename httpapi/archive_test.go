package httpapi_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

type upload struct {
	ID    string `json:"upload_id"`
	Parts []struct {
		Number int    `json:"part_number"`
		URL    string `json:"url"`
	} `json:"parts"`
	PartSize    int64  `json:"part_size"`
	CompleteURL string `json:"complete_url"`
}

func (c *caller) mustOpenUpload(stream string, size int) upload {
	c.t.Helper()
	got := c.post("/api/streams/"+stream+"/recording", map[string]any{"content_type": "video/mp4", "size_bytes": size}).ok(c.t, http.StatusCreated)
	var u upload
	require.NoError(c.t, json.Unmarshal(got.body, &u))
	return u
}

// put sends each part to where it belongs, and gives what completes the upload.
func (u upload) put(t *testing.T, content []byte) map[string]any {
	t.Helper()
	var parts []map[string]any
	for _, p := range u.Parts {
		part := content[:min(u.PartSize, int64(len(content)))]
		content = content[len(part):]
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.URL, bytes.NewReader(part))
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		said, _ := io.ReadAll(response.Body)
		response.Body.Close()
		require.Equal(t, http.StatusOK, response.StatusCode, "%s", said)
		parts = append(parts, map[string]any{"part_number": p.Number, "etag": response.Header.Get("ETag")})
	}
	return map[string]any{"parts": parts}
}

func (u upload) completePath(t *testing.T) string {
	t.Helper()
	address, err := url.Parse(u.CompleteURL)
	require.NoError(t, err)
	return address.Path
}

func TestRecordingBecomesAnArchiveOnceTheStreamHasEnded(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	content := make([]byte, livestream.MinRecordingPart+1000)
	_, _ = rand.Read(content)
	u := ada.mustOpenUpload(stream, len(content))
	require.Len(t, u.Parts, 2)
	require.True(t, strings.HasPrefix(u.CompleteURL, p.url), "it is a whole address")
	complete := u.completePath(t)
	parts := u.put(t, content)
	bob.post(complete, parts).problem(t, http.StatusForbidden, "forbidden")
	id := ada.post(complete, parts).ok(t, http.StatusAccepted).text(t, "archive_id")
	require.Equal(t, id, ada.post(complete, parts).ok(t, http.StatusAccepted).text(t, "archive_id"), "the same again")
	archive := p.anybody(t).get("/api/archives/"+id).ok(t, http.StatusOK)
	require.Equal(t, "processing", archive.text(t, "status"))
	require.Nil(t, archive.json(t)["playback_url"])
	require.Equal(t, id, ada.get("/api/streams/"+stream).text(t, "archive_id"))
	require.Len(t, ada.get("/api/archives?stream_id="+stream+"&status=processing").data(t), 1)
	require.Len(t, ada.get("/api/archives?user_id="+ada.id).data(t), 1)
	ada.post("/api/streams/"+stream+"/recording", map[string]any{"content_type": "video/mp4", "size_bytes": 1}).
		problem(t, http.StatusConflict, "recording_exists")
}

// A stream that has ended and handed its recording over takes no other: nobody would
// wait for it.
func TestRecordingOfADeletedArchiveIsNotUploadedAgain(t *testing.T) {
	ada := api(t).mustRegister(t)
	stream := ada.mustStart(nil)
	content := []byte("a short one")
	u := ada.mustOpenUpload(stream, len(content))
	id := ada.post(u.completePath(t), u.put(t, content)).ok(t, http.StatusAccepted).text(t, "archive_id")
	ada.mustEnd(stream)
	ada.do(http.MethodDelete, "/api/archives/"+id, nil).ok(t, http.StatusNoContent)
	ada.post("/api/streams/"+stream+"/recording", map[string]any{"content_type": "video/mp4", "size_bytes": 1}).
		problem(t, http.StatusConflict, "recording_closed")
}

func TestStreamHasSoManyUploadsUnderWay(t *testing.T) {
	ada := api(t).mustRegister(t)
	stream := ada.mustStart(nil)
	for range livestream.MaxOpenUploads {
		ada.mustOpenUpload(stream, 1)
	}
	refused := ada.post("/api/streams/"+stream+"/recording", map[string]any{"content_type": "video/mp4", "size_bytes": 1})
	refused.problem(t, http.StatusTooManyRequests, "rate_limited")
	require.NotEmpty(t, refused.header.Get("Retry-After"))
}

func TestUploadThatIsNotWholeIsRefused(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	stream := ada.mustStart(nil)
	content := []byte("not quite a video")
	u := ada.mustOpenUpload(stream, len(content)+1)
	complete := u.completePath(t)
	ada.post(complete, map[string]any{"parts": []any{map[string]any{"part_number": 1, "etag": `"none"`}}}).
		problem(t, http.StatusUnprocessableEntity, "upload_incomplete")
	for _, bad := range []string{`{}`, `{"parts":[]}`, `{"parts":[{"part_number":0,"etag":"x"}]}`, `{"parts":[{"part_number":1}]}`, `{"parts":[{"part_number":1,"etag":""}]}`} {
		ada.post(complete, bad).problem(t, http.StatusBadRequest, "invalid_request")
	}
	ada.post("/api/streams/"+stream+"/recording/"+uuid.NewString()+"/complete", map[string]any{"parts": []any{map[string]any{"part_number": 1, "etag": "x"}}}).
		problem(t, http.StatusNotFound, "upload_not_found")
}

func TestStreamThatIsNotRecordedTakesNoRecording(t *testing.T) {
	ada := api(t).mustRegister(t)
	stream := ada.mustStart(map[string]any{"title": "gone tomorrow", "record": false})
	ada.post("/api/streams/"+stream+"/recording", map[string]any{"content_type": "video/mp4", "size_bytes": 1}).
		problem(t, http.StatusConflict, "recording_disabled")
	ada.post("/api/streams/"+stream+"/recording/"+uuid.NewString()+"/complete", map[string]any{"parts": []any{map[string]any{"part_number": 1, "etag": "x"}}}).
		problem(t, http.StatusConflict, "recording_disabled")
	for _, bad := range []string{`{"content_type":"text/html","size_bytes":1}`, `{"content_type":"video/mp4","size_bytes":0}`, `{"content_type":"video/mp4","size_bytes":107374182401}`} {
		ada.post("/api/streams/"+stream+"/recording", bad).problem(t, http.StatusBadRequest, "invalid_request")
	}
}

func TestDeletedArchiveIsGoneWithItsFiles(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	content := []byte("soon gone")
	u := ada.mustOpenUpload(stream, len(content))
	id := ada.post(u.completePath(t), u.put(t, content)).ok(t, http.StatusAccepted).text(t, "archive_id")
	archive, err := uuid.Parse(id)
	require.NoError(t, err)
	require.NoError(t, p.bucket.UploadBytes(t.Context(), livestream.ArchivePrefix(archive)+"master.m3u8", []byte("#EXTM3U"), "application/vnd.apple.mpegurl", ""))
	bob.do(http.MethodDelete, "/api/archives/"+id, nil).problem(t, http.StatusForbidden, "forbidden")
	p.anybody(t).do(http.MethodDelete, "/api/archives/"+id, nil).problem(t, http.StatusUnauthorized, "unauthorized")
	ada.do(http.MethodDelete, "/api/archives/"+id, nil).ok(t, http.StatusNoContent)
	ada.get("/api/archives/"+id).problem(t, http.StatusNotFound, "archive_not_found")
	ada.do(http.MethodDelete, "/api/archives/"+id, nil).problem(t, http.StatusNotFound, "archive_not_found")
	require.Nil(t, ada.get("/api/streams/" + stream).json(t)["archive_id"])
	ada.eventually(func() bool { return ada.get("/media/archives/"+id+"/master.m3u8").status == http.StatusNotFound })
	ada.eventually(func() bool {
		_, err := p.bucket.ReadAll(t.Context(), fmt.Sprintf("%s%s", livestream.RecordingPrefix(uuid.MustParse(stream)), u.ID))
		return livestream.CodeOf(err) == livestream.CodeNotFound
	})
}

func TestADeletionFinishesWhenTheStoreIsBack(t *testing.T) {
	t.Parallel()
	proxy, endpoint := testenv.NewProxy(t, testenv.Load(t).S3Endpoint)
	p := newProduct(t, options{s3Endpoint: endpoint})
	ada := p.mustRegister(t)
	id, media := ada.mustPublish()
	neighbour, neighbours := ada.mustPublish()
	stream := ada.get("/api/archives/"+id).text(t, "stream_id")
	proxy.Cut()
	ada.do(http.MethodDelete, "/api/archives/"+id, nil).ok(t, http.StatusNoContent)
	ada.get("/api/archives/"+id).problem(t, http.StatusNotFound, "archive_not_found")
	ada.get(media+"master.m3u8").problem(t, http.StatusNotFound, "not_found")
	require.True(t, p.stored(t, "archives/"+id), "nothing could be removed yet")
	proxy.Restore()
	ada.eventually(func() bool { return !p.stored(t, "archives/"+id) && !p.stored(t, "recordings/"+stream) })
	require.True(t, p.stored(t, "archives/"+neighbour))
	ada.get(neighbours+"master.m3u8").ok(t, http.StatusOK)
}

// stored says whether the store has files below a folder.
func (p *product) stored(t *testing.T, folder string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(filepath.Join(testenv.Load(t).S3Dir, p.bucketName, folder), func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = true
		}
		return nil // it goes while we look
	})
	require.NoError(t, err)
	return found
}
