package chat_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// newLonelyWorld is newWorld with a Redis of its own: its channels are those of all
// databases of a server, so that nodes hear the pushes of other tests too.
func newLonelyWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, testenv.Context(t), "redis://"+newServer(t).address+"/0")
}

// queries remembers what a node asks its database.
type queries struct {
	mu   sync.Mutex
	seen []pgx.TraceQueryStartData
	// paused is the name of a query whose next answer waits.
	paused           string
	reached, release chan struct{}
}

type querySQL struct{}

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seen = append(q.seen, data)
	return context.WithValue(ctx, querySQL{}, data.SQL)
}

func (q *queries) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	q.mu.Lock()
	wait := q.paused != "" && isNamed(ctx.Value(querySQL{}).(string), q.paused)
	if wait {
		q.paused = ""
		close(q.reached)
	}
	q.mu.Unlock()
	if wait {
		<-q.release
	}
}

func isNamed(sql, name string) bool { return strings.HasPrefix(sql, "-- name: "+name+"\n") }

// pause keeps the next answer to a query from the one who asked. reached waits for it,
// and release lets it go.
func (q *queries) pause(t *testing.T, name string) (reached, release func()) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused, q.reached, q.release = name, make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(q.release) })
	t.Cleanup(release)
	return func() {
		t.Helper()
		select {
		case <-q.reached:
		case <-time.After(patience):
			require.Fail(t, "nobody asked", name)
		}
	}, release
}

// inboxes gives whose inboxes each query read.
func (q *queries) inboxes() [][]uuid.UUID {
	q.mu.Lock()
	defer q.mu.Unlock()
	var users [][]uuid.UUID
	for _, data := range q.seen {
		if isNamed(data.SQL, "notifications.since") {
			users = append(users, data.Args[0].([]uuid.UUID))
		}
	}
	return users
}

// witness connects somebody, and gives what waits until the node has heard all that
// was published before: their logout, which comes behind it.
func (w *world) witness(tb testing.TB, n *node) (heard func()) {
	tb.Helper()
	m := w.member(tb)
	s := w.inbox(tb, n, m)
	return func() {
		tb.Helper()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				if _, err := s.read(); err != nil {
					return
				}
			}
		}()
		require.Eventually(tb, func() bool {
			require.NoError(tb, w.tell.PublishLogout(w.ctx, m.family))
			select {
			case <-gone:
				return true
			default:
				return false
			}
		}, patience, 50*time.Millisecond)
	}
}

// What a push that was lost would have brought comes with the next one, in order.
func TestAPushThatIsLostIsMadeUpForByTheNext(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	n := w.node(t, fast)
	ada := w.member(t)
	plain := w.inbox(t, n, ada)
	lost := w.write(t, ada.ID, "lost")
	next := w.notify(t, ada.ID, "next")
	plain.told(lost, next)

	back := w.inbox(t, n, ada, "since", fmt.Sprint(lost.Seq))
	back.told(next)
	lost = w.write(t, ada.ID, "lost too")
	next = w.notify(t, ada.ID, "next one")
	for _, s := range []*socket{plain, back} {
		s.told(lost, next)
	}
}

// More than is read at once comes whole.
func TestManyPushesThatAreLost(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	n := w.node(t, fast)
	ada := w.member(t)
	s := w.inbox(t, n, ada)
	var all []livestream.Notification
	for i := range 250 {
		all = append(all, w.write(t, ada.ID, fmt.Sprint(i)))
	}
	s.told(append(all, w.notify(t, ada.ID, "next"))...)
}

// A push that comes while a connection reads what it missed, from before the push, is
// told behind that.
func TestAPushWhileAConnectionJoins(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	asked := &queries{}
	n := w.nodeOn(t, fast, w.redisURL, nil, w.openDB(t, postgres.Config{URL: w.databaseURL, Tracer: asked}))
	ada, bob := w.member(t), w.member(t)
	b := w.inbox(t, n, bob)
	first := w.write(t, ada.ID, "first")
	reached, release := asked.pause(t, "notifications.since")
	joined := make(chan *socket, 1)
	go func() { joined <- w.inbox(t, n, ada, "since", "0") }()
	reached()
	second := w.notify(t, ada.ID, "second")
	b.told(w.notify(t, bob.ID, "his")) // by then the node has done with hers
	release()
	a := <-joined
	a.told(first, second)
}

// The database hangs, and then fails, while a push waits for it. The next push does
// not go ahead of it.
func TestAPushWhileTheDatabaseFails(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	proxy, url := testenv.NewProxy(t, w.databaseURL)
	n := w.nodeOn(t, fast, w.redisURL, nil, w.openDB(t, postgres.Config{URL: url}))
	ada := w.member(t)
	s, heard := w.inbox(t, n, ada), w.witness(t, n)
	proxy.Freeze()
	first := w.notify(t, ada.ID, "first")
	heard()
	proxy.Thaw()
	second := w.notify(t, ada.ID, "second")
	s.told(first, second)
}

// Redis was cut off, and before the inboxes were looked into for what was missed, a
// push comes. It does not go ahead of that.
func TestAPushBeforeTheCatchUp(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	cut, redisURL := testenv.NewProxy(t, w.redisURL)
	slow, databaseURL := testenv.NewProxy(t, w.databaseURL)
	n := w.nodeOn(t, fast, redisURL, nil, w.openDB(t, postgres.Config{URL: databaseURL}))
	ada, bob := w.member(t), w.member(t)
	a, b := w.inbox(t, n, ada), w.inbox(t, n, bob)
	heardAgain, heard := w.witness(t, n), w.witness(t, n)
	cut.Cut()
	missed, others := w.notify(t, ada.ID, "missed"), w.notify(t, bob.ID, "his")
	slow.Freeze()
	cut.Restore()
	heardAgain()
	next := w.notify(t, ada.ID, "next")
	heard()
	slow.Thaw()
	a.told(missed, next)
	b.told(others)
}

// Of a range in which many are connected and few follow the creator, the inboxes of
// those few alone are read.
func TestARangeAsksForFollowersAlone(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	asked := &queries{}
	n := w.nodeOn(t, fast, w.redisURL, nil, w.openDB(t, postgres.Config{URL: w.databaseURL, Tracer: asked}))
	stream := w.stream(t)
	var members []*member
	var sockets []*socket
	for range 6 {
		m := w.member(t)
		members, sockets = append(members, m), append(sockets, w.inbox(t, n, m))
	}
	away := w.member(t)
	for _, m := range []*member{members[1], members[4], away} {
		_, err := w.follows.Follow(w.ctx, m.ID, stream.UserID)
		require.NoError(t, err)
	}
	live := livestream.GoLive{StreamID: stream.ID, CreatorID: stream.UserID, Title: stream.Title, Before: time.Now().Add(time.Minute)}
	all := livestream.FollowerRange{Upto: away.ID, Count: 3}
	result, err := w.notifications.NotifyRange(w.ctx, live, all)
	require.NoError(t, err)
	require.Equal(t, livestream.RangeResult{Notified: 3}, result)
	require.NoError(t, w.tell.Publish(w.ctx, livestream.NotificationPush{Key: livestream.StreamLiveKey(stream.ID), Range: &all, CreatorID: stream.UserID}))
	for _, i := range []int{1, 4} {
		require.Equal(t, "stream_live", sockets[i].notification().Notification.Type)
	}
	read := asked.inboxes()
	require.Len(t, read, 1)
	require.ElementsMatch(t, []uuid.UUID{members[1].ID, members[4].ID}, read[0])
	for _, i := range []int{0, 2, 3, 5} {
		sockets[i].told(w.notify(t, members[i].ID, "own")) // and nothing before it
	}
}

// Each connected follower is told where more follow than when the range was planned,
// and where a worker does not say whom.
func TestARangeThatHasGrown(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	n := w.node(t, fast)
	var members []*member
	var sockets []*socket
	for range 3 {
		m := w.member(t)
		members, sockets = append(members, m), append(sockets, w.inbox(t, n, m))
	}
	all := livestream.FollowerRange{Upto: members[2].ID, Count: 1}
	for _, says := range []bool{true, false} {
		stream := w.stream(t)
		push := livestream.NotificationPush{Key: livestream.StreamLiveKey(stream.ID), Range: &all}
		if says {
			push.CreatorID = stream.UserID
		}
		for _, m := range members {
			_, err := w.follows.Follow(w.ctx, m.ID, stream.UserID)
			require.NoError(t, err)
		}
		live := livestream.GoLive{StreamID: stream.ID, CreatorID: stream.UserID, Title: stream.Title, Before: time.Now().Add(time.Minute)}
		_, err := w.notifications.NotifyRange(w.ctx, live, all)
		require.NoError(t, err)
		require.NoError(t, w.tell.Publish(w.ctx, push))
		for _, s := range sockets {
			require.Contains(t, string(s.notification().Notification.Data), stream.ID.String())
		}
	}
}

// More pushes come than a node lets wait: it forgets them, and looks into the inboxes
// of all who are connected.
func TestTooManyPushesAtOnce(t *testing.T) {
	t.Parallel()
	w := newLonelyWorld(t)
	asked := &queries{}
	n := w.nodeOn(t, fast, w.redisURL, nil, w.openDB(t, postgres.Config{URL: w.databaseURL, Tracer: asked}))
	ada, bob := w.member(t), w.member(t)
	a, b, heard := w.inbox(t, n, ada), w.inbox(t, n, bob), w.witness(t, n)
	first, unheard := w.write(t, ada.ID, "first"), w.write(t, bob.ID, "unheard")

	reached, release := asked.pause(t, "notifications.since")
	require.NoError(t, w.tell.Publish(w.ctx, livestream.NotificationPush{User: &ada.ID}))
	reached()
	for range 300 {
		stranger := newID(t)
		require.NoError(t, w.tell.Publish(w.ctx, livestream.NotificationPush{User: &stranger}))
	}
	heard()
	release()
	a.told(first)
	b.told(unheard)
	require.Equal(t, []uuid.UUID{ada.ID}, asked.inboxes()[0])
	require.Subset(t, asked.inboxes()[1], []uuid.UUID{ada.ID, bob.ID})
}
