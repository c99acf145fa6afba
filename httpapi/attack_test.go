package httpapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/httpapi"
)

// What is done without a login: anything else that changes something needs one. A
// media server's callbacks are not among it.
var forAnybody = map[string]bool{
	"register": true, "login": true, "refresh": true, "logout": true,
	"stripeWebhook": true, // which is signed
	"createView":    true, // which counts once a day and address
}

// operations gives the contract's, each with its path filled in.
func operations(t *testing.T, visit func(method, path string, operation *openapi3.Operation)) {
	t.Helper()
	contract, err := httpapi.LoadContract()
	require.NoError(t, err)
	for path, item := range contract.Paths.Map() {
		for method, operation := range item.Operations() {
			visit(method, path, operation)
		}
	}
}

func TestNothingIsChangedWithoutALogin(t *testing.T) {
	p := api(t)
	nobody := p.anybody(t)
	operations(t, func(method, path string, operation *openapi3.Operation) {
		if forAnybody[operation.OperationID] {
			return
		}
		if !needsLogin(operation) {
			require.Equal(t, http.MethodGet, method, "%s is for anybody, and changes something", operation.OperationID)
			return
		}
		for _, name := range []string{"{id}", "{user_id}", "{upload_id}"} {
			path = strings.ReplaceAll(path, name, uuid.NewString())
		}
		nobody.do(method, strings.ReplaceAll(path, "{message_id}", "1"), exampleOf(operation), "Idempotency-Key", "x").problem(t, http.StatusUnauthorized, "unauthorized")
	})
}

func needsLogin(operation *openapi3.Operation) bool {
	return operation.Security != nil && !slices.ContainsFunc(*operation.Security, func(one openapi3.SecurityRequirement) bool { return len(one) == 0 })
}

// exampleOf is a request body, where an operation takes one.
func exampleOf(operation *openapi3.Operation) any {
	if operation.RequestBody == nil {
		return nil
	}
	return operation.RequestBody.Value.Content.Get("application/json").Example
}

// A check that one path has and the one beside it has not is a hole: what belongs to a
// member is tried by another one on each path that names it.
func TestStrangersChangeNothing(t *testing.T) {
	p := api(t)
	ada, eve := p.mustRegister(t), p.mustRegister(t)
	stream := ada.mustStart(nil)
	message := ada.say(stream, "hello")[0]
	payment := p.mustRegister(t).mustTip(ada)
	u := ada.mustOpenUpload(stream, 4)
	archive := ada.post(u.completePath(t), u.put(t, []byte("film"))).ok(t, http.StatusAccepted).text(t, "archive_id")
	subscription := ada.post("/api/push-subscriptions", p.pushes.Subscribe(t, p.pushKey).JSON()).ok(t, http.StatusCreated).text(t, "id")
	tried := map[string]struct {
		path   string
		status int
		code   string
	}{
		"updateStream":            {stream, http.StatusForbidden, "forbidden"},
		"endStream":               {stream, http.StatusForbidden, "forbidden"},
		"getTimeline":             {stream, http.StatusForbidden, "forbidden"},
		"getNotificationProgress": {stream, http.StatusForbidden, "forbidden"},
		"deleteChatMessage":       {stream, http.StatusForbidden, "forbidden"},
		"banFromChat":             {stream, http.StatusForbidden, "forbidden"},
		"unbanFromChat":           {stream, http.StatusForbidden, "forbidden"},
		"updateChatSettings":      {stream, http.StatusForbidden, "forbidden"},
		"createRecording":         {stream, http.StatusForbidden, "forbidden"},
		"completeRecording":       {stream, http.StatusForbidden, "forbidden"},
		"updateArchive":           {archive, http.StatusForbidden, "forbidden"},
		"restoreArchive":          {archive, http.StatusConflict, "archive_not_ready"}, // anybody may ask for one that is ready
		"deleteArchive":           {archive, http.StatusForbidden, "forbidden"},
		"getTransaction":          {payment, http.StatusNotFound, "transaction_not_found"},
		"deletePushSubscription":  {subscription, http.StatusNotFound, "push_subscription_not_found"},
		"refundTransaction":       {payment, http.StatusNotFound, "transaction_not_found"},
	}
	before := ada.get("/api/streams/" + stream).json(t)
	operations(t, func(method, path string, operation *openapi3.Operation) {
		if !strings.Contains(path, "{id}") || !needsLogin(operation) {
			return
		}
		c, ok := tried[operation.OperationID]
		require.True(t, ok, "%s is not tried", operation.OperationID)
		delete(tried, operation.OperationID)
		path = strings.NewReplacer("{id}", c.path, "{user_id}", ada.id, "{upload_id}", u.ID, "{message_id}", fmt.Sprint(message)).Replace(path)
		eve.do(method, path, exampleOf(operation), "Idempotency-Key", "eve").problem(t, c.status, c.code)
	})
	require.Empty(t, tried, "the contract has no such operation")
	require.Equal(t, before["title"], ada.get("/api/streams/" + stream).json(t)["title"])
	require.Equal(t, "live", ada.get("/api/streams/"+stream).text(t, "status"))
	require.Equal(t, []string{"hello"}, ada.texts(stream, 10))
	require.Empty(t, eve.get("/api/transactions").data(t), "nor by a list")
	require.NotContains(t, string(eve.get("/api/streams?user_id="+ada.id).body), "stream_key")
}

// Whoever reads the stores cannot log in with what they find.
func TestSecretsAreStoredAsHashesAlone(t *testing.T) {
	p := api(t)
	ada, secret := p.mustRegister(t), "secret "+uuid.NewString()
	own := map[string]any{"username": "own_" + ada.name[:20], "email": "own." + ada.email, "password": secret}
	p.anybody(t).post("/api/auth/register", own).ok(t, http.StatusCreated)
	next := p.anybody(t).post("/api/auth/refresh", map[string]any{"refresh_token": ada.refresh}).ok(t, http.StatusOK)
	login := p.anybody(t).post("/api/auth/login", map[string]any{"email": own["email"], "password": secret}).ok(t, http.StatusOK)
	ticket := ada.post("/api/ws-tickets", map[string]any{"purpose": "notifications"}).ok(t, http.StatusCreated).text(t, "ticket")
	ada.post("/api/streams", map[string]any{"title": "by a key"}, "Idempotency-Key", "once").ok(t, http.StatusCreated)

	stores := append(p.everyRow(t), p.everyKey(t)...)
	require.Contains(t, string(stores), ada.email, "the accounts are there")
	for what, secret := range map[string]string{
		"the password": secret, "the ticket": ticket,
		"the first refresh token": ada.refresh, "its successor": next.text(t, "refresh_token"), "the login's": login.text(t, "refresh_token"),
		"the access token": ada.token, "the login's access token": login.text(t, "access_token"),
	} {
		require.NotEmpty(t, secret, what)
		require.False(t, bytes.Contains(stores, []byte(secret)), "%s is stored as it is", what)
	}
}

// everyRow is all that the database has, as text.
func (p *product) everyRow(t *testing.T) (out []byte) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 15)
	for _, table := range tables {
		var text string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM "+table+" t").Scan(&text))
		out = append(out, text...)
	}
	return out
}

// everyKey is all that Redis has: keys and what is in them.
func (p *product) everyKey(t *testing.T) (out []byte) {
	t.Helper()
	ctx, found := t.Context(), 0
	keys := p.redis.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		kind, err := p.redis.Type(ctx, key).Result()
		require.NoError(t, err)
		var value any
		switch kind {
		case "string":
			value, err = p.redis.Get(ctx, key).Result()
		case "hash":
			value, err = p.redis.HGetAll(ctx, key).Result()
		case "set":
			value, err = p.redis.SMembers(ctx, key).Result()
		case "zset":
			value, err = p.redis.ZRange(ctx, key, 0, -1).Result()
		case "list":
			value, err = p.redis.LRange(ctx, key, 0, -1).Result()
		case "stream":
			value, err = p.redis.XRange(ctx, key, "-", "+").Result()
		case "none": // it has expired meanwhile
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
		if !errors.Is(err, driver.Nil) {
			require.NoError(t, err)
		}
		found++
		out = fmt.Append(out, key, " ", value, "\n")
	}
	require.NoError(t, keys.Err())
	require.Positive(t, found)
	return out
}

// A member's picture is an address for browsers: nothing of ours goes there.
func TestAddressesThatMembersGiveAreNotFetched(t *testing.T) {
	p := api(t)
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer inside.Close()
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	address := "http://" + inside.Addr().String() + "/latest/meta-data"
	ada.do(http.MethodPatch, "/api/users/me", map[string]any{"avatar_url": address}).ok(t, http.StatusOK)
	for _, bad := range []string{"file:///etc/passwd", "gopher://127.0.0.1/", "javascript:alert(1)", "data:text/html,x", "//example.com/x"} {
		ada.do(http.MethodPatch, "/api/users/me", map[string]any{"avatar_url": bad}).problem(t, http.StatusBadRequest, "invalid_request")
	}
	bob.do(http.MethodPut, "/api/users/"+ada.id+"/follow", nil).ok(t, http.StatusNoContent)
	require.Equal(t, address, bob.get("/api/users/"+ada.id).text(t, "avatar_url"))
	stream := ada.mustStart(nil)
	bob.settled(bob.mustTip(ada))
	ada.eventually(func() bool { return len(bob.get("/api/notifications").data(t)) == 1 })
	ada.mustEnd(stream)

	require.NoError(t, inside.(*net.TCPListener).SetDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = inside.Accept()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "something called")
}

// An error says what the client can do, and nothing of what is behind: here the
// database has lost a table.
func TestErrorsSayNothingOfWhatIsBehind(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{noWorkers: true})
	ada := p.mustRegister(t)
	p.exec(t, "ALTER TABLE follows RENAME TO follows_gone")
	got := p.anybody(t).get("/api/users/"+ada.id+"/followers").ok(t, http.StatusInternalServerError)
	got.problem(t, http.StatusInternalServerError, "internal")
	for _, secret := range []string{"SELECT", "select", "follows", "relation", "SQLSTATE", "42P01", "pgx", "127.0.0.1", ".go:"} {
		detail := got.text(t, "detail") + got.text(t, "title")
		require.NotContains(t, detail, secret)
	}
}
