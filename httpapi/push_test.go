package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/webpush/webpushtest"
)

// mustSubscribe gives a member a browser that is told.
func (c *caller) mustSubscribe(at *webpushtest.Service) *webpushtest.Browser {
	c.t.Helper()
	b := at.Subscribe(c.t, c.get("/api/push-key").ok(c.t, http.StatusOK).text(c.t, "public_key"))
	c.post("/api/push-subscriptions", b.JSON()).ok(c.t, http.StatusCreated)
	return b
}

func TestBrowsersSubscribe(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	require.Equal(t, p.pushKey, ada.get("/api/push-key").ok(t, http.StatusOK).text(t, "public_key"))
	b := p.pushes.Subscribe(t, p.pushKey)

	first := ada.post("/api/push-subscriptions", b.JSON()).ok(t, http.StatusCreated)
	require.Equal(t, b.Endpoint, first.text(t, "endpoint"))
	require.NotContains(t, string(first.body), "keys", "nobody needs them back")
	id := first.text(t, "id")
	require.Equal(t, id, ada.post("/api/push-subscriptions", b.JSON()).ok(t, http.StatusCreated).text(t, "id"))
	require.Equal(t, id, bob.post("/api/push-subscriptions", b.JSON()).ok(t, http.StatusCreated).text(t, "id"), "who uses the browser now")

	ada.do(http.MethodDelete, "/api/push-subscriptions/"+id, nil).problem(t, http.StatusNotFound, "push_subscription_not_found")
	require.EqualValues(t, 1, p.number(t, "SELECT count(*) FROM push_subscriptions WHERE user_id = $1", bob.id), "another's is left alone")
	bob.do(http.MethodDelete, "/api/push-subscriptions/"+id, nil).ok(t, http.StatusNoContent)
	bob.do(http.MethodDelete, "/api/push-subscriptions/"+id, nil).problem(t, http.StatusNotFound, "push_subscription_not_found")
	require.Zero(t, p.number(t, "SELECT count(*) FROM push_subscriptions WHERE user_id = $1", bob.id))

	for range livestream.MaxPushSubscriptions + 2 {
		ada.mustSubscribe(p.pushes)
	}
	require.EqualValues(t, livestream.MaxPushSubscriptions, p.number(t, "SELECT count(*) FROM push_subscriptions WHERE user_id = $1", ada.id))
}

func TestWhatIsNoSubscription(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	encode := base64.RawURLEncoding.EncodeToString
	good := p.pushes.Subscribe(t, p.pushKey)
	compressed := append([]byte{2}, good.Key()[1:33]...)
	beside := append([]byte{}, good.Key()...)
	beside[64] ^= 1
	for name, c := range map[string]struct {
		change func(in, keys map[string]any)
		field  string
	}{
		"no endpoint":            {func(in, _ map[string]any) { delete(in, "endpoint") }, "endpoint"},
		"without TLS":            {func(in, _ map[string]any) { in["endpoint"] = "http://push.example.com/x" }, "endpoint"},
		"another scheme":         {func(in, _ map[string]any) { in["endpoint"] = "javascript:alert(1)" }, "endpoint"},
		"no host":                {func(in, _ map[string]any) { in["endpoint"] = "https:///x" }, "endpoint"},
		"a password":             {func(in, _ map[string]any) { in["endpoint"] = "https://a:b@push.example.com/x" }, "endpoint"},
		"a fragment":             {func(in, _ map[string]any) { in["endpoint"] = "https://push.example.com/x#y" }, "endpoint"},
		"a blank":                {func(in, _ map[string]any) { in["endpoint"] = "https://push.example.com/ x" }, "endpoint"},
		"too long":               {func(in, _ map[string]any) { in["endpoint"] = "https://e.com/" + strings.Repeat("x", 1024) }, "endpoint"},
		"not even an address":    {func(in, _ map[string]any) { in["endpoint"] = "https://[::1" }, "endpoint"},
		"a number":               {func(in, _ map[string]any) { in["endpoint"] = 7 }, "endpoint"},
		"no keys":                {func(in, _ map[string]any) { delete(in, "keys") }, "keys"},
		"no public key":          {func(_, keys map[string]any) { delete(keys, "p256dh") }, "keys.p256dh"},
		"no base64":              {func(_, keys map[string]any) { keys["p256dh"] = "?" }, "keys.p256dh"},
		"the other base64":       {func(_, keys map[string]any) { keys["p256dh"] = base64.StdEncoding.EncodeToString(beside) + "+/" }, "keys.p256dh"},
		"a short key":            {func(_, keys map[string]any) { keys["p256dh"] = encode(good.Key()[:64]) }, "keys.p256dh"},
		"a compressed key":       {func(_, keys map[string]any) { keys["p256dh"] = encode(compressed) }, "keys.p256dh"},
		"a point beside":         {func(_, keys map[string]any) { keys["p256dh"] = encode(beside) }, "keys.p256dh"},
		"the point of nowhere":   {func(_, keys map[string]any) { keys["p256dh"] = encode([]byte{0}) }, "keys.p256dh"},
		"a short secret":         {func(_, keys map[string]any) { keys["auth"] = encode(make([]byte, 15)) }, "keys.auth"},
		"a long secret":          {func(_, keys map[string]any) { keys["auth"] = encode(make([]byte, 17)) }, "keys.auth"},
		"no secret":              {func(_, keys map[string]any) { keys["auth"] = "" }, "keys.auth"},
		"a field that is not it": {func(in, _ map[string]any) { in["user_id"] = uuid.NewString() }, "body"},
	} {
		in := good.JSON()
		c.change(in, in["keys"].(map[string]any))
		problem := ada.post("/api/push-subscriptions", in).problem(t, http.StatusBadRequest, "invalid_request")
		require.Contains(t, problem["errors"].([]any)[0].(map[string]any)["field"], c.field, name)
	}
	require.Zero(t, p.number(t, "SELECT count(*) FROM push_subscriptions WHERE user_id = $1", ada.id))

	padded := good.JSON()
	padded["keys"] = map[string]any{"p256dh": base64.URLEncoding.EncodeToString(good.Key()), "auth": base64.URLEncoding.EncodeToString(good.Secret())}
	delete(padded, "expirationTime")
	ada.post("/api/push-subscriptions", padded).ok(t, http.StatusCreated)

	nobody := p.anybody(t)
	nobody.get("/api/push-key").problem(t, http.StatusUnauthorized, "unauthorized")
	nobody.post("/api/push-subscriptions", good.JSON()).problem(t, http.StatusUnauthorized, "unauthorized")
	nobody.do(http.MethodDelete, "/api/push-subscriptions/"+uuid.NewString(), nil).problem(t, http.StatusUnauthorized, "unauthorized")
	ada.do(http.MethodDelete, "/api/push-subscriptions/x", nil).problem(t, http.StatusBadRequest, "invalid_request")
}

// In production push services are where those of browsers are.
func TestPushServicesAreOnTheInternet(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{noWorkers: true, pushesOnInternet: true})
	ada := p.mustRegister(t)
	for endpoint, taken := range map[string]bool{
		"https://push.example.com/1": true, "https://push.example.com:443/2": true, "https://[2606:4700::1111]:443/3": true,
		"https://push.example.com:80/4": false, "https://push.example.com:6379/5": false, "https://[2606:4700::1111]:8443/6": false,
		"https://10.0.0.1/7": false, "https://169.254.169.254/8": false, "https://127.0.0.1/9": false, "https://[fe80::1]/10": false, "https://0.0.0.0/11": false,
		"https://[::ffff:192.168.1.1]/12": false, "https://postgres/13": false, "https://2130706433/14": false, "https://./15": false,
	} {
		in := p.pushes.Subscribe(t, p.pushKey).JSON()
		in["endpoint"] = endpoint
		answer := ada.post("/api/push-subscriptions", in)
		if taken {
			answer.ok(t, http.StatusCreated)
			continue
		}
		problem := answer.problem(t, http.StatusBadRequest, "invalid_request")
		require.Equal(t, "endpoint", problem["errors"].([]any)[0].(map[string]any)["field"], endpoint)
	}
}

func TestWithoutAKeyNobodySubscribes(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{noWorkers: true, noPushes: true})
	ada := p.mustRegister(t)
	ada.get("/api/push-key").problem(t, http.StatusUnprocessableEntity, "push_unavailable")
	ada.post("/api/push-subscriptions", p.pushes.Subscribe(t, "").JSON()).problem(t, http.StatusUnprocessableEntity, "push_unavailable")
}

// Each kind of notification reaches the browsers of its recipient, with the content
// and the id of the inbox, and of nobody else.
func TestBrowsersAreTold(t *testing.T) {
	p := api(t)
	ada, bob, eve := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	laptop, phone, hers, other := bob.mustSubscribe(p.pushes), bob.mustSubscribe(p.pushes), ada.mustSubscribe(p.pushes), eve.mustSubscribe(p.pushes)
	told := func(b *webpushtest.Browser, to *caller, kind string) {
		t.Helper()
		to.eventually(func() bool { return len(b.Got()) > 0 && b.Got()[len(b.Got())-1].Type == kind })
		m, n := b.Got()[len(b.Got())-1], to.get("/api/notifications").data(t)[0]
		data, err := json.Marshal(n["data"])
		require.NoError(t, err)
		require.Equal(t, n["id"], m.ID.String())
		require.Equal(t, n["created_at"], m.Created)
		require.JSONEq(t, string(data), string(m.Data))
		require.Equal(t, false, n["read"], "a push reads nothing")
	}

	bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	told(hers, ada, "new_follower")
	stream := ada.mustStart(nil)
	told(laptop, bob, "stream_live")
	told(phone, bob, "stream_live")
	require.EqualValues(t, 1, bob.get("/api/notifications").json(t)["unread_count"])
	bob.settled(bob.mustTip(ada))
	told(hers, ada, "tip_received")
	ada.mustEnd(stream)

	again := ada.mustStart(nil) // within 10 minutes, and so it does not ring
	ada.eventually(func() bool {
		return ada.get("/api/streams/"+again+"/notification-progress").text(t, "status") == "completed"
	})
	require.Len(t, laptop.Got(), 1)
	require.Zero(t, other.Tries(), "eve follows nobody")
	require.Empty(t, p.pushes.Refused())
}

// Beyond the cap of an hour a notice waits in the inbox, silently.
func TestSilentNoticesReachNoBrowser(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	b := bob.mustSubscribe(p.pushes)
	p.exec(t, "INSERT INTO inboxes (user_id, last_seq, rung, rung_since) VALUES ($1, 1, $2, now())", bob.id, livestream.RingsPerHour)
	bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	stream := ada.mustStart(nil)
	ada.eventually(func() bool {
		return ada.get("/api/streams/"+stream+"/notification-progress").text(t, "status") == "completed"
	})
	require.Len(t, bob.get("/api/notifications").data(t), 1)
	push := "push/" + livestream.StreamLiveKey(uuid.MustParse(stream)) + "/" + bob.id
	require.NoError(t, p.temporal.GetWorkflow(t.Context(), push, "").Get(t.Context(), nil), "it looked, and found nobody")
	require.Zero(t, b.Tries())
}

// After a logout nobody is told in that browser, until somebody logs in there again.
func TestALogoutEndsPushes(t *testing.T) {
	p := api(t)
	ada := p.mustRegister(t)
	b, stays := ada.mustSubscribe(p.pushes), p.pushes.Subscribe(t, p.pushKey)
	logIn := func() *caller {
		c := *ada
		c.token = ada.post("/api/auth/login", map[string]any{"email": ada.email, "password": password}).ok(t, http.StatusOK).text(t, "access_token")
		return &c
	}
	elsewhere := logIn()
	elsewhere.post("/api/push-subscriptions", stays.JSON()).ok(t, http.StatusCreated)
	tell := func(want ...*webpushtest.Browser) {
		t.Helper()
		before := map[*webpushtest.Browser]int{}
		for _, b := range want {
			before[b] = len(b.Got())
		}
		p.mustRegister(t).do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
		for _, b := range want {
			ada.eventually(func() bool { return len(b.Got()) > before[b] })
		}
		elsewhere.post("/api/notifications/read", map[string]any{"all": true}).ok(t, http.StatusNoContent) // the next one is a notice of its own
	}
	tell(b, stays)
	ada.post("/api/auth/logout", map[string]any{"refresh_token": ada.refresh}).ok(t, http.StatusNoContent)
	tell(stays)
	require.Equal(t, 1, b.Tries())
	ada.post("/api/push-subscriptions", b.JSON()).problem(t, http.StatusUnauthorized, "unauthorized")
	back := logIn()
	back.post("/api/push-subscriptions", b.JSON()).ok(t, http.StatusCreated)
	tell(b, stays)
}

func TestDeadBrowsersAreForgotten(t *testing.T) {
	p := api(t)
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	var gone []*webpushtest.Browser
	for _, status := range []int{http.StatusGone, http.StatusNotFound} {
		b := bob.mustSubscribe(p.pushes)
		b.Answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
		gone = append(gone, b)
	}
	alive := bob.mustSubscribe(p.pushes)
	bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	ada.mustStart(nil)
	bob.eventually(func() bool {
		return len(alive.Got()) == 1 && p.number(t, "SELECT count(*) FROM push_subscriptions WHERE user_id = $1", bob.id) == 1
	})
	for _, b := range gone {
		require.Equal(t, 1, b.Tries())
	}
}

// What a busy service refuses comes once more when its time is over, and others do not
// wait for it.
func TestABusyServiceIsAskedAgain(t *testing.T) {
	p := api(t)
	ada, bob, eve := p.mustRegister(t), p.mustRegister(t), p.mustRegister(t)
	busy := webpushtest.New(t)
	b, other := bob.mustSubscribe(busy), eve.mustSubscribe(p.pushes)
	var asked atomic.Int32
	b.Answer = func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
	for _, follower := range []*caller{bob, eve} {
		follower.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	}
	ada.mustStart(nil)
	eve.eventually(func() bool { return len(other.Got()) == 1 })
	bob.eventually(func() bool { return asked.Load() == 2 })
	require.Equal(t, 1, other.Tries(), "the next attempt knows who has been told")
}

// However many deliveries wait for a service that is busy for a long time, those of
// others go on.
func TestABusyServiceHoldsUpNobodyElse(t *testing.T) {
	p := api(t)
	const deliveries = 20 // more than a worker has under way
	fan, busy := p.mustRegister(t), webpushtest.New(t)
	for range deliveries {
		member := p.mustRegister(t)
		b := member.mustSubscribe(busy)
		b.Answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "100")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		fan.do(http.MethodPut, "/api/users/"+member.id+"/follow", nil).ok(t, http.StatusNoContent)
	}
	eve := p.mustRegister(t)
	b := eve.mustSubscribe(p.pushes)
	fan.do(http.MethodPut, "/api/users/"+eve.id+"/follow", nil).ok(t, http.StatusNoContent)
	eve.eventually(func() bool { return len(b.Got()) == 1 })
}

// More browsers than a delivery keeps in mind, of a service that is busy once: nobody
// is left out, and nobody is told twice.
func TestWhatABusyServicePutsOffIsNotLost(t *testing.T) {
	p := api(t)
	const followers = 700
	ada, busy := p.mustRegister(t), webpushtest.New(t)
	var refused atomic.Bool
	var taken [followers]atomic.Int32
	var ids []uuid.UUID
	var endpoints []string
	var keys, secrets [][]byte
	for i := range followers {
		b := busy.Subscribe(t, p.pushKey)
		b.Answer = func(w http.ResponseWriter, _ *http.Request) {
			if refused.CompareAndSwap(false, true) {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			taken[i].Add(1)
			w.WriteHeader(http.StatusCreated)
		}
		ids, endpoints, keys, secrets = append(ids, uuid.Must(uuid.NewV7())), append(endpoints, b.Endpoint), append(keys, b.Key()), append(secrets, b.Secret())
	}
	p.exec(t, `INSERT INTO users (id, username, email, display_name, password_hash)
		SELECT id, 'f' || left(md5(id::text), 20), id || '@example.com', 'follower', 'hash' FROM unnest($1::uuid[]) id`, ids)
	p.exec(t, "INSERT INTO follows (follower_id, following_id) SELECT id, $2 FROM unnest($1::uuid[]) id", ids, ada.id)
	p.exec(t, "INSERT INTO sessions (id, user_id) SELECT id, id FROM unnest($1::uuid[]) id", ids)
	p.exec(t, "INSERT INTO refresh_tokens (hash, session_id, expires_at) SELECT uuid_send(id), id, now() + interval '1 hour' FROM unnest($1::uuid[]) id", ids)
	p.exec(t, `INSERT INTO push_subscriptions (user_id, session_id, endpoint, key, secret, server_key)
		SELECT id, id, endpoint, key, secret, $5 FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) f (id, endpoint, key, secret)`, ids, endpoints, keys, secrets, p.pushKey)
	stream := uuid.MustParse(ada.mustStart(nil))
	push := "push/" + livestream.StreamLiveKey(stream) + "/" + ids[followers-1].String()
	ada.eventually(refused.Load)
	require.NoError(t, p.temporal.GetWorkflow(t.Context(), push, "").Get(t.Context(), nil))
	for i := range taken {
		require.EqualValues(t, 1, taken[i].Load(), "browser %d", i)
	}
}
