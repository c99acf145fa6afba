package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// views is what an archive says of itself once the counts are stored.
func (c *caller) views(id string) int {
	c.t.Helper()
	require.NoError(c.t, c.p.views.Flush(c.t.Context()))
	return int(c.get("/api/archives/" + id).json(c.t)["view_count"].(float64))
}

func TestAViewIsCountedWhenThePlaylistIsRead(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{})
	ada := p.mustRegister(t)
	id, media := ada.mustPublish()
	require.Zero(t, ada.views(id))
	for _, file := range []string{"720p/index.m3u8", "720p/seg_00001.m4s", "thumbnail.jpg"} {
		ada.get(media+file).ok(t, http.StatusOK)
	}
	ada.do(http.MethodHead, media+"master.m3u8", nil).ok(t, http.StatusOK)
	require.Zero(t, ada.views(id), "nobody has begun to play")
	etag := ada.get(media+"master.m3u8").ok(t, http.StatusOK).header.Get("ETag")
	ada.get(media+"master.m3u8", "If-None-Match", etag).ok(t, http.StatusNotModified)
	ada.post("/api/archives/"+id+"/views", nil).ok(t, http.StatusNoContent)
	require.Equal(t, 1, ada.views(id), "once a day")

	// What Redis holds tells nobody's address.
	keys, err := p.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		require.NotContains(t, key, "127.0.0.1")
	}
	// A count that cannot be made holds up nobody who watches.
	require.NoError(t, p.redis.Set(t.Context(), "views:salt:"+time.Now().UTC().Format(time.DateOnly), "no salt", 0).Err())
	require.NoError(t, p.redis.Set(t.Context(), "views:pending", "no set", 0).Err())
	ada.get(media+"master.m3u8").ok(t, http.StatusOK)
}

func TestViewsOfACDNsViewersAreToldByTheirPlayers(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{mediaURL: "https://media.example.com"})
	ada, bob, nobody := p.mustRegister(t), p.mustRegister(t), p.anybody(t)
	id, media := ada.mustPublish()
	nobody.get(media+"master.m3u8").ok(t, http.StatusOK)
	require.Zero(t, ada.views(id), "it is the CDN that asks")
	path := "/api/archives/" + id + "/views"
	for _, c := range []*caller{ada, bob, nobody, bob, nobody} {
		c.post(path, nil).ok(t, http.StatusNoContent)
	}
	require.Equal(t, 3, ada.views(id))
	nobody.post("/api/archives/"+uuid.NewString()+"/views", nil).problem(t, http.StatusNotFound, "archive_not_found")
	ada.do(http.MethodPatch, "/api/archives/"+id, map[string]any{"visibility": "private"}).ok(t, http.StatusOK)
	bob.post(path, nil).problem(t, http.StatusNotFound, "archive_not_found")
	unfinished := "/api/archives/" + ada.mustArchive(ada.mustStart(nil)) + "/views"
	ada.post(unfinished, nil).ok(t, http.StatusNoContent)
}

// dies is a flush that is killed after it has stored, before it could say so.
type dies struct{ *redis.Views }

func (dies) Settle(context.Context, []livestream.ArchiveViews) error { return errors.New("killed") }

func TestViewsAreNeitherLostNorStoredTwice(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{mediaURL: "https://media.example.com"})
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id, _ := ada.mustPublish()
	other, _ := bob.mustPublish()
	view := func(c *caller, id string) { c.post("/api/archives/"+id+"/views", nil).ok(t, http.StatusNoContent) }
	view(ada, id)
	view(bob, other)
	killed := &activities.Views{Counts: dies{p.views.Counts.(*redis.Views)}, Store: p.views.Store}
	require.Error(t, killed.Flush(t.Context()))
	require.Equal(t, 1, ada.views(id))
	view(bob, id)
	require.Error(t, killed.Flush(t.Context()))
	require.Error(t, killed.Flush(t.Context()))
	require.Equal(t, 2, ada.views(id))
	require.Equal(t, 1, ada.views(other))

	// Two at once, while more come.
	for range 20 {
		view(p.anybody(t), other)
		view(p.mustRegister(t), other)
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- p.views.Flush(t.Context()) }()
		}
		require.NoError(t, <-done)
		require.NoError(t, <-done)
	}
	require.Equal(t, 22, ada.views(other))

	// An archive that is deleted does not keep the others' views from being stored.
	view(ada, other)
	view(p.anybody(t), id)
	bob.do(http.MethodDelete, "/api/archives/"+other, nil).ok(t, http.StatusNoContent)
	require.Equal(t, 3, ada.views(id))
	pending, _, err := p.views.Counts.Pending(t.Context(), 0)
	require.NoError(t, err)
	require.Empty(t, pending)
}
