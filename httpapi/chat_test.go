package httpapi_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

// say says something in a chat, as a chat node does.
func (c *caller) say(stream string, texts ...string) (ids []int64) {
	c.t.Helper()
	for _, text := range texts {
		event, _, err := c.p.chat.Append(c.t.Context(), livestream.NewChatEvent{
			StreamID: uuid.MustParse(stream), Type: livestream.ChatMessage,
			Body: livestream.ChatMessageBody{
				User: livestream.ChatUser{ID: uuid.MustParse(c.id), Username: c.name, DisplayName: c.name, Roles: []string{}},
				Text: text, SentAt: time.Now().UTC(), Nonce: "n" + text,
			},
		})
		require.NoError(c.t, err)
		ids = append(ids, event.ID)
	}
	return ids
}

// keep writes what was said to Postgres, as a chat node does.
func (p *product) keep(t *testing.T, stream string) {
	t.Helper()
	id := uuid.MustParse(stream)
	events, err := p.chat.Last(t.Context(), id, 0, 10_000)
	require.NoError(t, err)
	var saved []livestream.ChatSaved
	for _, e := range events {
		record, err := livestream.ReadChatRecord(e)
		require.NoError(t, err)
		saved = append(saved, livestream.ChatSaved{StreamID: id, ChatEvent: e, Type: record.Type})
	}
	require.NoError(t, p.chats.Save(t.Context(), saved))
}

func messagesPath(stream string) string { return "/api/streams/" + stream + "/chat/messages" }

// texts reads all messages, page by page.
func (c *caller) texts(stream string, limit int) (texts []string) {
	c.t.Helper()
	before, last := "", int64(1<<62)
	for {
		got := c.get(fmt.Sprintf("%s?limit=%d%s", messagesPath(stream), limit, before)).ok(c.t, http.StatusOK)
		data := got.data(c.t)
		require.LessOrEqual(c.t, len(data), limit)
		for _, m := range data {
			id := int64(m["id"].(float64))
			require.Less(c.t, id, last, "newest first, each once")
			last = id
			texts = append(texts, m["text"].(string))
		}
		next := got.text(c.t, "next_cursor")
		if next == "" {
			return texts
		}
		before = "&before=" + next
	}
}

// What was said is there at once, later, and when Redis has long let go of it.
func TestChatMessagesFromRedisAndPostgres(t *testing.T) {
	p := api(t)
	ada, bob, nobody := p.mustRegister(t), p.mustRegister(t), p.anybody(t)
	stream := ada.mustStart(nil)
	require.Empty(t, nobody.texts(stream, 10))
	bob.say(stream, "1", "2", "3")
	require.Equal(t, []string{"3", "2", "1"}, nobody.texts(stream, 100), "what only Redis has")
	p.keep(t, stream)
	bob.say(stream, "4", "5")
	for _, limit := range []int{1, 2, 3, 100} {
		require.Equal(t, []string{"5", "4", "3", "2", "1"}, nobody.texts(stream, limit), "both have some")
	}
	p.keep(t, stream)
	ada.mustEnd(stream)
	channel := "chat:{" + stream + "}"
	require.NoError(t, p.redis.Del(t.Context(), channel+":id", channel+":history", channel+":state").Err())
	require.Equal(t, []string{"5", "4", "3", "2", "1"}, nobody.texts(stream, 2), "what only Postgres has, after the end")
	first := nobody.get(messagesPath(stream)+"?limit=1").ok(t, http.StatusOK).data(t)[0]
	require.Equal(t, map[string]any{"id": bob.id, "username": bob.name, "display_name": bob.name, "roles": []any{}}, first["user"])
	require.NotEmpty(t, first["sent_at"])

	// Redis has lost the chat: what is said now comes behind what was.
	ids := bob.say(stream, "6")
	require.Greater(t, ids[0], int64(first["id"].(float64)))
	require.Equal(t, []string{"6", "5", "4", "3", "2", "1"}, nobody.texts(stream, 2))

	nobody.get(messagesPath(uuid.NewString())).problem(t, http.StatusNotFound, "stream_not_found")
	for _, query := range []string{"?before=x", "?before=0", "?before=-1", "?limit=0", "?limit=101", "?before=99999999999999999999"} {
		nobody.get(messagesPath(stream)+query).problem(t, http.StatusBadRequest, "invalid_request")
	}
}

func TestChatMessagesAreDeletedByThoseWhoMay(t *testing.T) {
	p := api(t)
	ada, mod, bob, eve := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	ids := bob.say(stream, "1", "2", "3", "4")
	path := func(id int64) string { return fmt.Sprintf("%s/%d", messagesPath(stream), id) }
	p.anybody(t).do(http.MethodDelete, path(ids[0]), nil).problem(t, http.StatusUnauthorized, "unauthorized")
	for _, c := range []*caller{bob, eve, mod} {
		c.do(http.MethodDelete, path(ids[0]), nil).problem(t, http.StatusForbidden, "forbidden")
	}
	ada.do(http.MethodDelete, path(ids[0]), nil).ok(t, http.StatusNoContent)
	require.Equal(t, []string{"4", "3", "2"}, eve.texts(stream, 2))
	p.keep(t, stream) // the writer comes later than the deletion
	require.Equal(t, []string{"4", "3", "2"}, eve.texts(stream, 2))
	ada.do(http.MethodPut, "/api/users/me/moderators/"+mod.id, nil).ok(t, http.StatusNoContent)
	mod.do(http.MethodDelete, path(ids[1]), nil).ok(t, http.StatusNoContent)
	mod.do(http.MethodDelete, path(ids[1]), nil).ok(t, http.StatusNoContent)
	admin := p.mustRegister(t)
	p.exec(t, "UPDATE users SET role = 'admin' WHERE id = $1", admin.id)
	admin.token = admin.post("/api/auth/login", map[string]any{"email": admin.email, "password": password}).ok(t, http.StatusOK).text(t, "access_token")
	admin.do(http.MethodDelete, path(ids[2]), nil).ok(t, http.StatusNoContent)
	require.Equal(t, []string{"4"}, eve.texts(stream, 2))
	ada.do(http.MethodDelete, path(ids[3]+100), nil).problem(t, http.StatusNotFound, "message_not_found")
	ada.do(http.MethodDelete, messagesPath(stream)+"/x", nil).problem(t, http.StatusBadRequest, "invalid_request")
	ada.do(http.MethodDelete, messagesPath(uuid.NewString())+"/1", nil).problem(t, http.StatusNotFound, "stream_not_found")

	told, err := p.chat.Last(t.Context(), uuid.MustParse(stream), 0, 100)
	require.NoError(t, err)
	var deletions []string
	for _, e := range told {
		if record, _ := livestream.ReadChatRecord(e); record.Type == livestream.ChatMessageDeleted {
			deletions = append(deletions, string(e.JSON))
		}
	}
	require.Len(t, deletions, 3, "each is told once")
	require.Contains(t, deletions[0], fmt.Sprintf(`"message_id":%d`, ids[0]))
}

func TestChatBans(t *testing.T) {
	p := api(t)
	ada, mod, bob := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	ban := func(c *caller, user string, in any) answer {
		return c.do(http.MethodPut, "/api/streams/"+stream+"/chat/bans/"+user, in)
	}
	rules := func() livestream.ChatRules {
		r, err := p.chats.Rules(t.Context(), uuid.MustParse(stream))
		require.NoError(t, err)
		return r
	}
	id := uuid.MustParse(bob.id)
	ban(bob, mod.id, nil).problem(t, http.StatusForbidden, "forbidden")
	ada.do(http.MethodPut, "/api/users/me/moderators/"+mod.id, nil).ok(t, http.StatusNoContent)
	for _, who := range []*caller{ada, mod} {
		ban(mod, who.id, nil).problem(t, http.StatusForbidden, "forbidden")
	}
	ban(ada, mod.id, nil).problem(t, http.StatusForbidden, "forbidden")
	ban(mod, uuid.NewString(), nil).problem(t, http.StatusNotFound, "user_not_found")
	for _, in := range []any{map[string]any{"duration_seconds": 0}, map[string]any{"duration_seconds": "1"}, map[string]any{"for": 1}, "{", "[]"} {
		ban(mod, bob.id, in).problem(t, http.StatusBadRequest, "invalid_request")
	}
	require.False(t, rules().Banned(id, time.Now()))
	ban(mod, bob.id, nil).ok(t, http.StatusNoContent)
	require.True(t, rules().Banned(id, time.Now().Add(1000*time.Hour)))
	ban(mod, bob.id, map[string]any{"duration_seconds": 600, "reason": "spam"}).ok(t, http.StatusNoContent)
	require.True(t, rules().Banned(id, time.Now().Add(9*time.Minute)))
	require.False(t, rules().Banned(id, time.Now().Add(11*time.Minute)), "a timeout ends by itself")
	unban := func(c *caller) answer {
		return c.do(http.MethodDelete, "/api/streams/"+stream+"/chat/bans/"+bob.id, nil)
	}
	unban(bob).problem(t, http.StatusForbidden, "forbidden")
	unban(mod).ok(t, http.StatusNoContent)
	unban(mod).ok(t, http.StatusNoContent)
	require.False(t, rules().Banned(id, time.Now()))
	ada.do(http.MethodPut, "/api/streams/"+uuid.NewString()+"/chat/bans/"+bob.id, nil).problem(t, http.StatusNotFound, "stream_not_found")
}

func TestChatSettings(t *testing.T) {
	p := api(t)
	ada, mod, bob := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	path := "/api/streams/" + stream + "/chat/settings"
	set := func(c *caller, in any) answer { return c.do(http.MethodPatch, path, in) }
	require.JSONEq(t, `{"slow_mode_seconds":0,"followers_only":false,"follower_min_age_seconds":0}`, string(p.anybody(t).get(path).ok(t, http.StatusOK).body))
	require.JSONEq(t, `{"slow_mode_seconds":0,"followers_only":false,"follower_min_age_seconds":0,"blocked_terms":[]}`, string(ada.get(path).ok(t, http.StatusOK).body))
	set(bob, map[string]any{"slow_mode_seconds": 1}).problem(t, http.StatusForbidden, "forbidden")
	ada.do(http.MethodPut, "/api/users/me/moderators/"+mod.id, nil).ok(t, http.StatusNoContent)
	got := set(mod, map[string]any{"slow_mode_seconds": 120, "blocked_terms": []string{"Spam"}}).ok(t, http.StatusOK)
	require.JSONEq(t, `{"slow_mode_seconds":120,"followers_only":false,"follower_min_age_seconds":0,"blocked_terms":["Spam"]}`, string(got.body))
	set(ada, map[string]any{"followers_only": true, "follower_min_age_seconds": 60}).ok(t, http.StatusOK)
	require.JSONEq(t, `{"slow_mode_seconds":120,"followers_only":true,"follower_min_age_seconds":60}`, string(bob.get(path).ok(t, http.StatusOK).body))
	require.Contains(t, string(mod.get(path).ok(t, http.StatusOK).body), "Spam")
	for _, in := range []any{
		map[string]any{}, map[string]any{"slow_mode_seconds": 121}, map[string]any{"slow_mode_seconds": -1}, map[string]any{"followers_only": 1},
		map[string]any{"blocked_terms": []string{""}}, map[string]any{"blocked_terms": []string{"  "}}, map[string]any{"emote_only": true},
	} {
		set(ada, in).problem(t, http.StatusBadRequest, "invalid_request")
	}
	p.anybody(t).get("/api/streams/"+uuid.NewString()+"/chat/settings").problem(t, http.StatusNotFound, "stream_not_found")
	events, err := p.chat.Last(t.Context(), uuid.MustParse(stream), 0, 100)
	require.NoError(t, err)
	for _, e := range events {
		require.NotContains(t, string(e.JSON), "Spam", "viewers are not told")
	}
}

func TestModeratorsDoNotActAgainstTheirPeers(t *testing.T) {
	p := api(t)
	ada, mod, peer, bob := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	for _, m := range []*caller{mod, peer} {
		ada.do(http.MethodPut, "/api/users/me/moderators/"+m.id, nil).ok(t, http.StatusNoContent)
	}
	stream := ada.mustStart(nil)
	path := func(id int64) string { return fmt.Sprintf("%s/%d", messagesPath(stream), id) }
	ban := func(c *caller) string { return "/api/streams/" + stream + "/chat/bans/" + c.id }
	for _, above := range []*caller{ada, peer} {
		id := above.say(stream, "untouched")[0]
		mod.do(http.MethodDelete, path(id), nil).problem(t, http.StatusForbidden, "forbidden")
		mod.do(http.MethodPut, ban(above), nil).problem(t, http.StatusForbidden, "forbidden")
	}
	p.keep(t, stream) // it holds for what only Postgres has too
	kept := peer.say(stream, "kept")[0]
	p.keep(t, stream)
	require.NoError(t, p.redis.Del(t.Context(), "chat:{"+stream+"}:history").Err())
	mod.do(http.MethodDelete, path(kept), nil).problem(t, http.StatusForbidden, "forbidden")
	mod.do(http.MethodDelete, path(mod.say(stream, "their own")[0]), nil).ok(t, http.StatusNoContent)
	mod.do(http.MethodDelete, path(bob.say(stream, "anybody's")[0]), nil).ok(t, http.StatusNoContent)
	ada.do(http.MethodDelete, path(kept), nil).ok(t, http.StatusNoContent)
}

func TestModerators(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	const path = "/api/users/me/moderators"
	require.Empty(t, ada.pages(path, 10))
	var names []string
	for range 5 {
		mod := p.mustRegister(t)
		names = append([]string{mod.name}, names...)
		for range 2 {
			ada.do(http.MethodPut, path+"/"+mod.id, nil).ok(t, http.StatusNoContent)
		}
	}
	var listed []string
	list := ada.pages(path, 2)
	for _, m := range list {
		require.NotEmpty(t, m["added_at"])
		listed = append(listed, m["username"].(string))
	}
	require.Equal(t, names, listed)
	last := list[0]["id"].(string)
	for range 2 {
		ada.do(http.MethodDelete, path+"/"+last, nil).ok(t, http.StatusNoContent)
	}
	require.Len(t, ada.pages(path, 10), 4)
	ada.do(http.MethodPut, path+"/"+ada.id, nil).problem(t, http.StatusUnprocessableEntity, "cannot_moderate_self")
	ada.do(http.MethodPut, path+"/"+uuid.NewString(), nil).problem(t, http.StatusNotFound, "user_not_found")
	p.anybody(t).get(path).problem(t, http.StatusUnauthorized, "unauthorized")
}

// S1: the list by viewers has the counts as they are now, page by page.
func TestStreamsByLiveViewers(t *testing.T) {
	p := api(t)
	category := "c" + uuid.NewString()[:20]
	viewers := map[uuid.UUID]livestream.ChatViewers{}
	var want []string
	for i := range 7 {
		stream := p.mustRegister(t).mustStart(map[string]any{"title": "watched", "category": category})
		if i > 1 { // two have nobody
			viewers[uuid.MustParse(stream)] = livestream.ChatViewers{Count: i}
		}
		want = append([]string{stream}, want...)
	}
	_, err := p.presence.SetViewers(t.Context(), "node", viewers)
	require.NoError(t, err)
	for _, limit := range []int{1, 2, 3, 100} {
		var got []string
		last := 1e9
		for _, stream := range p.anybody(t).pages("/api/streams?status=live&sort=viewers&category="+category, limit) {
			count := stream["viewer_count"].(float64)
			require.LessOrEqual(t, count, last)
			last = count
			got = append(got, stream["id"].(string))
		}
		require.Equal(t, want, got, "limit %d", limit)
	}
}

// A page of what is watched costs what a page costs, however many streams are on.
func TestStreamsByLiveViewersReadAPage(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{noWorkers: true})
	owner := p.mustRegister(t)
	p.exec(t, `INSERT INTO users (id, username, email, display_name, password_hash)
		SELECT uuid_v7(), 'many_' || n, 'many_' || n || '@example.com', 'Many', 'hash' FROM generate_series(1, 300) n`)
	p.exec(t, `INSERT INTO streams (id, user_id, title, status, ingest, record, started_at, created_at)
		SELECT uuid_v7(), id, 'one of many', 'live', 'external', false, now(), now() FROM users WHERE username LIKE 'many_%'`)
	viewers := map[uuid.UUID]livestream.ChatViewers{}
	for _, stream := range owner.pages("/api/streams?status=live", 100) {
		viewers[uuid.MustParse(stream["id"].(string))] = livestream.ChatViewers{Count: 1 + len(viewers)%50}
	}
	require.Len(t, viewers, 300)
	_, err := p.presence.SetViewers(t.Context(), "node", viewers)
	require.NoError(t, err)

	before := p.queries(t, "streams.list_by_viewers")
	list := owner.get("/api/streams?status=live&sort=viewers&limit=10").data(t)
	require.Len(t, list, 10)
	require.EqualValues(t, 50, list[0]["viewer_count"])
	require.LessOrEqual(t, p.queries(t, "streams.list_by_viewers")-before, uint64(1))
	require.Len(t, owner.pages("/api/streams?status=live&sort=viewers", 100), 300)
}

// queries is how often a query was sent.
func (p *product) queries(t *testing.T, name string) uint64 {
	t.Helper()
	families, err := p.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "db_query_duration_seconds" && metric.GetLabel()[0].GetValue() == name {
				return metric.GetHistogram().GetSampleCount()
			}
		}
	}
	return 0
}
