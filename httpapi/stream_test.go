package httpapi_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestStartedStreamIsLiveInTheAnswer(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	got := ada.post("/api/streams", map[string]any{"title": "first light", "category": "making", "tags": []string{"wood", "glue"}}).ok(t, http.StatusCreated)
	id := got.text(t, "id")
	require.Equal(t, "live", got.text(t, "status"))
	require.Equal(t, "stream/"+id, got.text(t, "workflow_id"))
	require.Equal(t, "ws://chat.test/ws/streams/"+id+"/chat", got.text(t, "chat_url"))
	require.Nil(t, got.json(t)["stream_key"])
	stream := p.anybody(t).get("/api/streams/"+id).ok(t, http.StatusOK)
	require.Equal(t, []any{"wood", "glue"}, stream.json(t)["tags"])
	require.NotContains(t, string(stream.body), "stream_key", "for its owner alone")
	require.Equal(t, id, ada.get("/api/users/me").text(t, "live_stream_id"))
}

func TestOneStreamACreator(t *testing.T) {
	ada := api(t).mustRegister(t)
	var (
		wait    sync.WaitGroup
		answers [20]answer
	)
	for i := range answers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			answers[i] = ada.post("/api/streams", map[string]any{"title": "race"})
		}()
	}
	wait.Wait()
	live := 0
	for _, got := range answers {
		if got.status == http.StatusCreated {
			live++
			continue
		}
		got.problem(t, http.StatusConflict, "already_streaming")
	}
	require.Equal(t, 1, live)
	require.Len(t, ada.get("/api/streams?user_id="+ada.id).data(t), 1)
}

func TestStartWithAKeyGivesTheFirstAnswerAgain(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	in := map[string]any{"title": "once"}
	first := ada.post("/api/streams", in, "Idempotency-Key", "start 1").ok(t, http.StatusCreated)
	ada.mustEnd(first.text(t, "id"))
	again := ada.post("/api/streams", in, "Idempotency-Key", "start 1").ok(t, http.StatusCreated)
	require.JSONEq(t, string(first.body), string(again.body))
	ada.post("/api/streams", map[string]any{"title": "other"}, "Idempotency-Key", "start 1").
		problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	other := bob.post("/api/streams", in, "Idempotency-Key", "start 1").ok(t, http.StatusCreated)
	require.NotEqual(t, first.text(t, "id"), other.text(t, "id"), "keys belong to one user")
	ada.post("/api/streams", in, "Idempotency-Key", strings.Repeat("k", 256)).problem(t, http.StatusBadRequest, "invalid_request")
}

func TestStartRefusesBadInput(t *testing.T) {
	ada := api(t).mustRegister(t)
	ada.post("/api/streams", map[string]any{"title": "x", "ingest": "rtmp"}).problem(t, http.StatusUnprocessableEntity, "ingest_unavailable")
	for _, body := range []string{
		``, `{}`, `[]`, `null`, `"x"`, `{"title":""}`, `{"title":"   "}`, `{"title":"` + strings.Repeat("x", 141) + `"}`, `{"title":7}`,
		`{"title":"x","tags":["` + strings.Repeat("t", 31) + `"]}`, `{"title":"x","tags":["1","2","3","4","5","6","7","8","9","10","11"]}`,
		`{"title":"x","description":"` + strings.Repeat("d", 5001) + `"}`, `{"title":"x","category":"` + strings.Repeat("c", 51) + `"}`,
		`{"title":"x","ingest":"smoke"}`, `{"title":"x","record":"yes"}`, `{"title":"x","owner":"me"}`,
		`{"title":"x"} trailing`, `{"title":"x"}{"title":"y"}`, `{"title":"x","title":"y"}`, `{"title":"nul \u0000"}`, `{"title":"half \ud800"}`,
		"{\"title\":\"bad \xff\"}", `{"title":"x"`, strings.Repeat(`{"a":`, 100),
	} {
		got := ada.post("/api/streams", body)
		require.Equal(t, http.StatusBadRequest, got.status, "%s: %s", body, got.body)
		got.problem(t, http.StatusBadRequest, "invalid_request")
	}
	ada.post("/api/streams", `{"title":"`+strings.Repeat("x", 1<<20)+`"}`).problem(t, http.StatusRequestEntityTooLarge, "payload_too_large")
	ada.post("/api/streams", `{"title":"x"}`, "Content-Type", "text/plain").problem(t, http.StatusBadRequest, "invalid_request")
	require.Empty(t, ada.get("/api/streams?user_id="+ada.id).data(t))
}

func TestEndingTwiceIsTheSame(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id := ada.mustStart(nil)
	bob.post("/api/streams/"+id+"/end", nil).problem(t, http.StatusForbidden, "forbidden")
	p.anybody(t).post("/api/streams/"+id+"/end", nil).problem(t, http.StatusUnauthorized, "unauthorized")
	ada.post("/api/streams/"+uuid.NewString()+"/end", nil).problem(t, http.StatusNotFound, "stream_not_found")
	require.Contains(t, []string{"ending", "ended"}, ada.post("/api/streams/"+id+"/end", nil).ok(t, http.StatusAccepted).text(t, "status"))
	ada.mustEnd(id)
	got := ada.post("/api/streams/"+id+"/end", nil).ok(t, http.StatusAccepted)
	require.Equal(t, "ended", got.text(t, "status"))
	require.NotEmpty(t, got.text(t, "ended_at"))
	require.Nil(t, ada.get("/api/users/me").json(t)["live_stream_id"])
	ada.mustStart(nil) // the creator is free again
}

func TestUpdateStreamIsForItsOwner(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id := ada.mustStart(map[string]any{"title": "before", "tags": []string{"a"}})
	got := ada.do(http.MethodPatch, "/api/streams/"+id, map[string]any{"title": "after", "tags": []string{}}).ok(t, http.StatusOK)
	require.Equal(t, "after", got.text(t, "title"))
	require.Equal(t, []any{}, got.json(t)["tags"])
	bob.do(http.MethodPatch, "/api/streams/"+id, map[string]any{"title": "mine"}).problem(t, http.StatusForbidden, "forbidden")
	ada.do(http.MethodPatch, "/api/streams/"+uuid.NewString(), map[string]any{"title": "x"}).problem(t, http.StatusNotFound, "stream_not_found")
	ada.do(http.MethodPatch, "/api/streams/"+id, map[string]any{"status": "ended"}).problem(t, http.StatusBadRequest, "invalid_request")
}

func TestTimelineHasEverythingInOrder(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	id := ada.mustStart(nil)
	ada.mustEnd(id)
	want := []string{"created", "live", "notify_started", "notify_finished", "ending", "ended"}
	ada.eventually(func() bool { return len(ada.get("/api/streams/"+id+"/timeline").data(t)) == len(want) })
	var types []string
	for i, event := range ada.pages("/api/streams/"+id+"/timeline", 2) {
		require.EqualValues(t, i+1, event["seq"])
		types = append(types, event["type"].(string))
	}
	require.ElementsMatch(t, want, types)
	bob.get("/api/streams/"+id+"/timeline").problem(t, http.StatusForbidden, "forbidden")
	p.anybody(t).get("/api/streams/"+id+"/timeline").problem(t, http.StatusUnauthorized, "unauthorized")
}

func TestListStreamsFiltersAndPages(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	category := "c" + uuid.NewString()[:8]
	ids := map[string]bool{}
	for range 5 {
		id := ada.mustStart(map[string]any{"title": "one of some", "category": category, "record": false})
		ada.mustEnd(id)
		ids[id] = true
	}
	live := ada.mustStart(map[string]any{"title": "the last", "category": category})
	for _, sort := range []string{"started_at", "viewers"} {
		got := map[string]bool{}
		for _, stream := range ada.pages("/api/streams?category="+category+"&status=ended&sort="+sort, 2) {
			require.False(t, got[stream["id"].(string)], "twice")
			got[stream["id"].(string)] = true
		}
		require.Equal(t, ids, got, sort)
	}
	require.Equal(t, live, ada.get("/api/streams?limit=1&user_id=" + ada.id).data(t)[0]["id"], "the newest first")
	require.Len(t, ada.get("/api/streams?status=live&category="+category).data(t), 1)
	for _, query := range []string{
		"limit=0", "limit=101", "limit=x", "cursor=x", "cursor=AAAA", "status=asleep", "sort=title", "user_id=me",
		"category=" + strings.Repeat("c", 51), "category=%00", "category=%ff", "limit=1&limit=2",
	} {
		ada.get("/api/streams?"+query).problem(t, http.StatusBadRequest, "invalid_request")
	}
}

func TestFollowersAreNotifiedOnceAndProgressIsShown(t *testing.T) {
	p := api(t)
	ada, bob, deaf := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	for _, follower := range []*caller{bob, deaf} {
		follower.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	}
	settings := map[string]any{"stream_live": false, "tip_received": true, "new_follower": true, "archive_ready": true}
	require.JSONEq(t, `{"stream_live":false,"tip_received":true,"new_follower":true,"archive_ready":true}`,
		string(deaf.do(http.MethodPut, "/api/users/me/notification-settings", settings).ok(t, http.StatusOK).body))
	id := ada.mustStart(map[string]any{"title": "tell them"})
	progress := "/api/streams/" + id + "/notification-progress"
	ada.eventually(func() bool { return ada.get(progress).text(t, "status") == "completed" })
	got := ada.get(progress).json(t)
	require.EqualValues(t, 2, got["followers_total"])
	require.EqualValues(t, 1, got["notified"])
	require.EqualValues(t, 1, got["skipped"])
	require.Nil(t, got["seconds_left"])
	bob.get(progress).problem(t, http.StatusForbidden, "forbidden")
	notes := bob.get("/api/notifications?unread=true").data(t)
	require.Len(t, notes, 1)
	require.Equal(t, map[string]any{"stream_id": id, "user_id": ada.id, "username": ada.name, "title": "tell them"}, notes[0]["data"])
	require.Empty(t, deaf.get("/api/notifications").data(t))
	unread := func(c *caller) any { return c.get("/api/notifications?limit=1").json(t)["unread_count"] }
	require.Equal(t, []any{1.0, 0.0}, []any{unread(bob), unread(deaf)})
	ada.post("/api/notifications/read", map[string]any{"ids": []any{notes[0]["id"]}}).ok(t, http.StatusNoContent)
	require.Len(t, bob.get("/api/notifications?unread=true").data(t), 1, "another's ids are ignored")
	bob.post("/api/notifications/read", map[string]any{"ids": []any{notes[0]["id"]}}).ok(t, http.StatusNoContent)
	require.Empty(t, bob.get("/api/notifications?unread=true").data(t))
	require.True(t, bob.get("/api/notifications").data(t)[0]["read"].(bool))
	require.Equal(t, []any{1.0, 0.0}, []any{unread(ada), unread(bob)}, "one notice of two followers, and what was read")
	ada.post("/api/notifications/read", map[string]any{"all": true}).ok(t, http.StatusNoContent)
	require.Empty(t, ada.get("/api/notifications?unread=true").data(t))
	require.Zero(t, unread(ada))
	for _, bad := range []string{`{}`, `{"all":false}`, `{"ids":[]}`, `{"ids":["x"]}`, `{"all":true,"ids":["` + id + `"]}`} {
		bob.post("/api/notifications/read", bad).problem(t, http.StatusBadRequest, "invalid_request")
	}
}
