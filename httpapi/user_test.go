package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestProfileIsPublicButNotItsAddress(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	got := p.anybody(t).get("/api/users/"+ada.id).ok(t, http.StatusOK)
	require.Equal(t, ada.name, got.text(t, "username"))
	require.NotContains(t, string(got.body), ada.email)
	p.anybody(t).get("/api/users/"+uuid.NewString()).problem(t, http.StatusNotFound, "user_not_found")
}

func TestUpdateMeChangesWhatIsGiven(t *testing.T) {
	ada := api(t).mustRegister(t)
	ada.do(http.MethodPatch, "/api/users/me", map[string]any{"bio": "I build <b>things</b>.", "avatar_url": "https://example.com/a.png"}).ok(t, http.StatusOK)
	got := ada.do(http.MethodPatch, "/api/users/me", map[string]any{"display_name": "Ada"}).ok(t, http.StatusOK)
	require.Equal(t, "I build <b>things</b>.", got.text(t, "bio"))
	require.Equal(t, "Ada", got.text(t, "display_name"))
	require.Equal(t, "https://example.com/a.png", ada.get("/api/users/me").text(t, "avatar_url"), "who wrote reads it")
	ada.do(http.MethodPatch, "/api/users/me", map[string]any{"avatar_url": ""}).ok(t, http.StatusOK)
	require.Nil(t, ada.get("/api/users/me").json(t)["avatar_url"])
	for _, bad := range []map[string]any{{}, {"bio": strings.Repeat("b", 501)}, {"avatar_url": "javascript:alert(1)"}, {"role": "admin"}, {"display_name": nil}} {
		ada.do(http.MethodPatch, "/api/users/me", bad).problem(t, http.StatusBadRequest, "invalid_request")
	}
}

func TestFollowIsIdempotentAndCounts(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	for range 2 {
		bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	}
	require.EqualValues(t, 1, bob.get("/api/users/" + ada.id).json(t)["follower_count"])
	require.EqualValues(t, 1, bob.get("/api/users/me").json(t)["following_count"])
	followers := p.anybody(t).get("/api/users/"+ada.id+"/followers").ok(t, http.StatusOK).data(t)
	require.Len(t, followers, 1)
	require.Equal(t, bob.id, followers[0]["id"])
	require.NotEmpty(t, followers[0]["followed_at"])
	require.Equal(t, ada.id, p.anybody(t).get("/api/users/" + bob.id + "/following").data(t)[0]["id"])
	notes := ada.get("/api/notifications").data(t)
	require.Len(t, notes, 1, "told once")
	require.Equal(t, "new_follower", notes[0]["type"])
	require.Equal(t, map[string]any{"user_id": bob.id, "username": bob.name, "count": 1.0}, notes[0]["data"])
	for range 2 {
		bob.do(http.MethodDelete, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	}
	require.EqualValues(t, 0, bob.get("/api/users/" + ada.id).json(t)["follower_count"])
	require.Empty(t, bob.get("/api/users/"+ada.id+"/followers").data(t))
}

func TestFollowRefusesOneselfAndTheUnknown(t *testing.T) {
	ada := api(t).mustRegister(t)
	ada.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).problem(t, http.StatusUnprocessableEntity, "cannot_follow_self")
	ada.do(http.MethodDelete, "/api/users/"+ada.id+"/follow", nil).problem(t, http.StatusUnprocessableEntity, "cannot_follow_self")
	ada.do(http.MethodPut, "/api/users/"+uuid.NewString()+"/follow", nil).problem(t, http.StatusNotFound, "user_not_found")
	ada.get("/api/users/"+uuid.NewString()+"/followers").problem(t, http.StatusNotFound, "user_not_found")
	ada.get("/api/users/not-a-uuid").problem(t, http.StatusBadRequest, "invalid_request")
}

func TestBlockEndsFollowsAndRefusesThemAndTips(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	ada.do(http.MethodPut, "/api/users/"+bob.id+"/follow", nil).ok(t, http.StatusNoContent)
	bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	for range 2 {
		ada.do(http.MethodPut, "/api/users/"+bob.id+"/block", nil).ok(t, http.StatusNoContent)
	}
	for _, c := range []*caller{ada, bob} {
		got := c.get("/api/users/me").json(t)
		require.EqualValues(t, 0, got["follower_count"])
		require.EqualValues(t, 0, got["following_count"])
	}
	bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).problem(t, http.StatusForbidden, "blocked")
	ada.do(http.MethodPut, "/api/users/"+bob.id+"/follow", nil).problem(t, http.StatusForbidden, "blocked")
	require.Empty(t, bob.pages("/api/users/me/blocks", 10), "who is blocked is not told so")
	stream := tip(ada.id)
	delete(stream, "recipient_id")
	stream["stream_id"] = ada.mustStart(nil)
	bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "blocked").problem(t, http.StatusForbidden, "blocked")
	bob.post("/api/transactions", stream, "Idempotency-Key", "blocked stream").problem(t, http.StatusForbidden, "blocked")
	ada.post("/api/transactions", tip(bob.id), "Idempotency-Key", "blocker").problem(t, http.StatusForbidden, "blocked")
	require.Empty(t, bob.get("/api/transactions").data(t), "nothing was begun")

	for range 2 {
		ada.do(http.MethodDelete, "/api/users/"+bob.id+"/block", nil).ok(t, http.StatusNoContent)
	}
	require.Empty(t, p.anybody(t).get("/api/users/"+ada.id+"/followers").data(t), "it brings no follow back")
	bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	bob.post("/api/transactions", tip(ada.id), "Idempotency-Key", "forgiven").ok(t, http.StatusCreated)
}

func TestBlocksAreListed(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	const path = "/api/users/me/blocks"
	require.Empty(t, ada.pages(path, 10))
	var names []string
	for range 5 {
		blocked := p.mustRegister(t)
		names = append([]string{blocked.name}, names...)
		ada.do(http.MethodPut, "/api/users/"+blocked.id+"/block", nil).ok(t, http.StatusNoContent)
	}
	var listed []string
	for _, b := range ada.pages(path, 2) {
		require.NotEmpty(t, b["blocked_at"])
		listed = append(listed, b["username"].(string))
	}
	require.Equal(t, names, listed)
	ada.get(path+"?limit=0").problem(t, http.StatusBadRequest, "invalid_request")
	ada.get(path+"?cursor=x").problem(t, http.StatusBadRequest, "invalid_request")
}

func TestBlockRefusesOneselfTheUnknownAndNobody(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	ada.do(http.MethodPut, "/api/users/"+ada.id+"/block", nil).problem(t, http.StatusUnprocessableEntity, "cannot_block_self")
	ada.do(http.MethodPut, "/api/users/"+uuid.NewString()+"/block", nil).problem(t, http.StatusNotFound, "user_not_found")
	ada.do(http.MethodPut, "/api/users/not-a-uuid/block", nil).problem(t, http.StatusBadRequest, "invalid_request")
	p.anybody(t).do(http.MethodPut, "/api/users/"+ada.id+"/block", nil).problem(t, http.StatusUnauthorized, "unauthorized")
	p.anybody(t).do(http.MethodDelete, "/api/users/"+ada.id+"/block", nil).problem(t, http.StatusUnauthorized, "unauthorized")
	p.anybody(t).get("/api/users/me/blocks").problem(t, http.StatusUnauthorized, "unauthorized")
}

func TestFollowersArePagedWithoutLossOrDoubles(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	want := map[string]bool{}
	for range 7 {
		follower := p.mustRegister(t)
		follower.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
		want[follower.id] = true
	}
	for _, limit := range []int{1, 3, 7, 100} {
		got := map[string]bool{}
		for _, follower := range ada.pages("/api/users/"+ada.id+"/followers", limit) {
			require.False(t, got[follower["id"].(string)], "twice")
			got[follower["id"].(string)] = true
		}
		require.Equal(t, want, got)
	}
}
