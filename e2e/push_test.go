package e2e

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/webpush"
	"github.com/livestream-pro/livestream-pro/internal/webpush/webpushtest"
)

// newPushStack starts a stack that trusts a push service on this machine.
func newPushStack(t *testing.T) (*stack, *webpushtest.Service) {
	service := webpushtest.New(t)
	return newStackOn(t, place{variables: []string{"SSL_CERT_FILE=" + webpushtest.RootsFile(t, service)}}, api|worker), service
}

// subscribe gives a member a browser that is told.
func (s *stack) subscribe(m member, service *webpushtest.Service) *webpushtest.Browser {
	s.Helper()
	var key struct {
		PublicKey string `json:"public_key"`
	}
	m.must(http.MethodGet, "/api/push-key", nil, &key)
	b := service.Subscribe(s, key.PublicKey)
	m.must(http.MethodPost, "/api/push-subscriptions", b.JSON(), nil)
	return b
}

// subscribedBy gives followers of a creator a browser each, straight in the database.
func (s *stack) subscribedBy(creator member, service *webpushtest.Service) (browsers []*webpushtest.Browser) {
	s.Helper()
	keys, err := webpush.LoadKeys(s.env.VAPIDKeyFile)
	require.NoError(s, err)
	rows, err := s.db.Query(s.ctx, "SELECT follower_id FROM follows WHERE following_id = $1", creator.id)
	require.NoError(s, err)
	var followers []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		require.NoError(s, rows.Scan(&id))
		followers = append(followers, id)
	}
	require.NoError(s, rows.Err())
	for _, follower := range followers {
		b := service.Subscribe(s, keys.Public)
		_, err := s.db.Exec(s.ctx, "INSERT INTO push_subscriptions (user_id, endpoint, key, secret, server_key) VALUES ($1, $2, $3, $4, $5)",
			follower, b.Endpoint, b.Key(), b.Secret(), keys.Public)
		require.NoError(s, err)
		browsers = append(browsers, b)
	}
	return browsers
}

// A worker that is killed while it tells browsers leaves none out. Those whom it told
// last are told once more, of the same thing: their browser shows it once.
func TestWorkerKilledWhileItTellsBrowsers(t *testing.T) {
	t.Parallel()
	const followers = 1000
	s, service := newPushStack(t)
	ada := s.register("ada")
	s.followedBy(ada, followers)
	browsers := s.subscribedBy(ada, service)
	require.Len(t, browsers, followers)
	stream := ada.start(false)
	got := func() (all, told int) {
		for _, b := range browsers {
			n := len(b.Got())
			if all += n; n > 0 {
				told++
			}
		}
		return all, told
	}
	s.until("some browsers have been told", func() bool { _, told := got(); return told > followers/4 })
	s.kill(s.worker)
	_, told := got()
	require.Less(t, told, followers, "it was killed too late")
	s.restart(s.worker)

	s.until("all of them have", func() bool { _, told := got(); return told == followers })
	var push string
	require.NoError(t, s.db.QueryRow(s.ctx, "SELECT 'push/stream_live:' || $1::text || '/' || max(user_id::text) FROM push_subscriptions", stream.ID).Scan(&push))
	s.completed(push)
	all, _ := got()
	t.Logf("%d messages for %d browsers", all, followers)
	require.Less(t, all, 2*followers, "it went on about where it was")
	for _, b := range browsers {
		topics := map[string]bool{}
		for _, m := range b.Got() {
			topics[m.Header.Get("Topic")] = true
		}
		require.Len(t, topics, 1)
	}
	require.Empty(t, service.Refused())
	require.EqualValues(t, followers, s.number("SELECT count(*) FROM notifications WHERE key = $1", "stream_live:"+stream.ID))
	ada.end(stream)
}

// pushSent is recorded: a browser is told, by the worker of a stack of its own.
func pushSent(s *stack, service *webpushtest.Service) string {
	ada, bob := s.register("ada"), s.register("bob")
	b := s.subscribe(bob, service)
	bob.follow(ada)
	stream := ada.start(false)
	s.until("the browser is told", func() bool { return len(b.Got()) > 0 })
	id := "push/stream_live:" + stream.ID + "/" + bob.id
	s.completed(id)
	ada.end(stream)
	return id
}
