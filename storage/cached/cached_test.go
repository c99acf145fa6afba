package cached_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	driver "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/httpapi"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/cached"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/storage/redis"
)

// They stand in for the stores that they wrap.
var (
	_ httpapi.Users             = (*cached.Users)(nil)
	_ httpapi.Follows           = (*cached.Follows)(nil)
	_ httpapi.Streams           = (*cached.Streams)(nil)
	_ httpapi.Archives          = (*cached.Archives)(nil)
	_ httpapi.Recordings        = (*cached.Recordings)(nil)
	_ httpapi.Viewers           = (*cached.Viewers)(nil)
	_ cached.ViewerStore        = (*redis.Presence)(nil)
	_ activities.UserReader     = (*cached.Users)(nil)
	_ activities.StreamStore    = (*cached.Streams)(nil)
	_ activities.TimelineStore  = (*cached.Streams)(nil)
	_ activities.RecordingStore = (*cached.Recordings)(nil)
	_ activities.ArchiveStore   = (*cached.Archives)(nil)
	_ activities.ProgressStore  = (*cached.Archives)(nil)
	_ cached.Database           = (*postgres.DB)(nil)
)

// process is what one process has: its own pools and its own cache.
type process struct {
	db         *postgres.DB
	users      *cached.Users
	follows    *cached.Follows
	streams    *cached.Streams
	recordings *cached.Recordings
	archives   *cached.Archives
}

// newProcess reads from the replicas of a database, where the policy allows it.
func newProcess(tb testing.TB, database, redisURL string) *process {
	tb.Helper()
	db := openDatabase(tb, database)
	return newProcessOn(tb, db, db, redisURL)
}

func openDatabase(tb testing.TB, database string) *postgres.DB {
	tb.Helper()
	db, err := postgres.Open(testenv.Context(tb), postgres.Config{URL: database, ReplicaURLs: testenv.ReplicaURLs(tb, database)})
	require.NoError(tb, err)
	tb.Cleanup(db.Close)
	return db
}

func newProcessOn(tb testing.TB, db *postgres.DB, positions cached.Database, redisURL string) *process {
	tb.Helper()
	client, err := redis.Open(testenv.Context(tb), redis.Config{URL: redisURL})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = client.Close() })
	cache := cached.New(redis.NewCache(client, redis.CacheConfig{Timeout: 5 * time.Second}), positions)
	return &process{
		db: db, users: cached.NewUsers(cache, postgres.NewUsers(db)), follows: cached.NewFollows(cache, postgres.NewFollows(db)),
		streams: cached.NewStreams(cache, postgres.NewStreams(db)), recordings: cached.NewRecordings(cache, postgres.NewRecordings(db)),
		archives: cached.NewArchives(cache, postgres.NewArchives(db)),
	}
}

// reading is the context of a client that has seen everything that is committed.
func (p *process) reading(tb testing.TB) context.Context {
	tb.Helper()
	ctx := testenv.Context(tb)
	position, err := p.db.Position(ctx)
	require.NoError(tb, err)
	return livestream.WithReadPolicy(ctx, livestream.ReadPolicy{Replica: true, After: position})
}

// scene is a creator with a stream, and somebody else.
type scene struct {
	creator, viewer uuid.UUID
	stream          uuid.UUID
	upload          livestream.Upload
	archive         uuid.UUID
}

func newID(tb testing.TB) uuid.UUID {
	tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(tb, err)
	return id
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func (p *process) mustCreateUser(tb testing.TB) uuid.UUID {
	tb.Helper()
	name := "u" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20]
	user, err := p.users.Create(testenv.Context(tb), livestream.NewUser{
		ID: newID(tb), Username: name, Email: name + "@example.com", DisplayName: name, PasswordHash: "hash",
	})
	require.NoError(tb, err)
	return user.ID
}

func newStream(id, user uuid.UUID) livestream.NewStream {
	return livestream.NewStream{ID: id, UserID: user, Title: "A title", Tags: []string{"go"}, Ingest: livestream.IngestExternal, Record: true}
}

// requireSeen says that a client of this process reads what is in the database.
func (s scene) requireSeen(tb testing.TB, p *process, what string) {
	tb.Helper()
	primary, replica := testenv.Context(tb), p.reading(tb)
	for _, id := range []uuid.UUID{s.creator, s.viewer} {
		want, err := p.users.ByID(primary, id)
		require.NoError(tb, err)
		got, err := p.users.ByID(replica, id)
		require.NoError(tb, err)
		want.Email, want.Role = "", "" // a copy has neither
		require.Equal(tb, want, got, what)
	}
	playback, missing := p.archives.Playback(primary, s.archive)
	seen, err := p.archives.Playback(replica, s.archive)
	require.Equal(tb, livestream.CodeOf(missing), livestream.CodeOf(err), what)
	require.Equal(tb, playback, seen, what)
	want, wantErr := p.streams.ByID(primary, s.stream)
	got, err := p.streams.ByID(replica, s.stream)
	require.Equal(tb, livestream.CodeOf(wantErr), livestream.CodeOf(err), what)
	if wantErr == nil {
		require.Equal(tb, want, got, what)
	}
}

// Whatever is written in one process is read in another by the next read, which
// had a copy of what was there before.
func TestEveryWriteIsSeenByTheNextRead(t *testing.T) {
	t.Parallel()
	var (
		ctx           = testenv.Context(t)
		database      = testenv.Database(t)
		redisURL      = testenv.Redis(t)
		writer, other = newProcess(t, database, redisURL), newProcess(t, database, redisURL)
	)
	s := scene{creator: writer.mustCreateUser(t), viewer: writer.mustCreateUser(t), stream: newID(t), archive: newID(t)}
	name, title := "Ada", "Another title"
	deadline := now().Add(time.Minute)
	for _, write := range []struct {
		name string
		make func() error
	}{
		{"follow", func() error { _, err := writer.follows.Follow(ctx, s.viewer, s.creator); return err }},
		{"follow again", func() error { _, err := writer.follows.Follow(ctx, s.viewer, s.creator); return err }},
		{"update the profile", func() error {
			_, err := writer.users.Update(ctx, s.creator, livestream.UserPatch{DisplayName: &name})
			return err
		}},
		{"go live", func() error { _, err := writer.streams.Create(ctx, newStream(s.stream, s.creator), now()); return err }},
		{"update the stream", func() error {
			_, err := writer.streams.Update(ctx, s.stream, s.creator, livestream.StreamPatch{Title: &title})
			return err
		}},
		{"lose the encoder", func() error {
			_, err := writer.streams.SetStatus(ctx, s.stream, livestream.StreamReconnecting, now(), &deadline)
			return err
		}},
		{"find it again", func() error {
			_, err := writer.streams.SetStatus(ctx, s.stream, livestream.StreamLive, now(), nil)
			return err
		}},
		{"be ending", func() error {
			_, err := writer.streams.SetStatus(ctx, s.stream, livestream.StreamEnding, now(), nil)
			return err
		}},
		{"end", func() error { _, err := writer.streams.Finish(ctx, s.stream, now(), 7, 9); return err }},
		{"upload", func() error {
			s.upload = livestream.Upload{ID: newID(t), StreamID: s.stream, Key: "recordings/x", StorageID: "x", ContentType: "video/mp4", SizeBytes: 1, PartSize: 1}
			return writer.recordings.Create(ctx, s.upload)
		}},
		{"complete the recording", func() error {
			_, err := writer.recordings.Complete(ctx, s.upload.ID, s.archive, now())
			return err
		}},
		{"fail the archive", func() error {
			return writer.archives.MarkFailed(ctx, s.archive, livestream.Failure{Code: "internal", Message: "no"}, 1, now())
		}},
		{"process it again", func() error { return writer.archives.MarkProcessing(ctx, s.archive) }},
		{"publish it", func() error {
			_, err := writer.archives.MarkReady(ctx, s.archive, livestream.MediaInfo{}, nil, 1, now())
			return err
		}},
		{"hide it", func() error {
			_, err := writer.archives.SetVisibility(ctx, s.archive, s.creator, livestream.VisibilityPrivate)
			return err
		}},
		{"delete it", func() error { return writer.archives.Delete(ctx, s.archive, s.stream, s.creator) }},
		{"unfollow", func() error { return writer.follows.Unfollow(ctx, s.viewer, s.creator) }},
	} {
		s.requireSeen(t, other, "before: "+write.name)
		require.NoError(t, write.make(), write.name)
		s.requireSeen(t, other, write.name)
		s.requireSeen(t, writer, write.name)
	}
}

func TestAMemberIsTheSameFromTheCacheAndFromTheDatabase(t *testing.T) {
	t.Parallel()
	ctx, p := testenv.Context(t), newProcess(t, testenv.Database(t), testenv.Redis(t))
	s := scene{creator: p.mustCreateUser(t), viewer: p.mustCreateUser(t), stream: newID(t)}
	_, err := p.follows.Follow(ctx, s.viewer, s.creator)
	require.NoError(t, err)
	_, err = p.streams.Create(ctx, newStream(s.stream, s.creator), now())
	require.NoError(t, err)
	for range 2 { // loaded, then copied
		user, err := p.users.ByID(p.reading(t), s.creator)
		require.NoError(t, err)
		require.Equal(t, int64(1), user.FollowerCount)
		require.Equal(t, &s.stream, user.LiveStreamID)
		require.Empty(t, user.Email, "an address is not for everybody")
		s.requireSeen(t, p, "all of it")
	}
}

func TestUnknownThingsAreNotFoundTwice(t *testing.T) {
	t.Parallel()
	p := newProcess(t, testenv.Database(t), testenv.Redis(t))
	user, stream := newID(t), newID(t)
	for range 2 {
		_, err := p.users.ByID(p.reading(t), user)
		require.Equal(t, livestream.CodeUserNotFound, livestream.CodeOf(err))
		_, err = p.streams.ByID(p.reading(t), stream)
		require.Equal(t, livestream.CodeStreamNotFound, livestream.CodeOf(err))
	}
	creator := p.mustCreateUser(t)
	_, err := p.streams.Create(testenv.Context(t), newStream(stream, creator), now())
	require.NoError(t, err)
	_, err = p.streams.ByID(p.reading(t), stream)
	require.NoError(t, err, "what is made is there at once")
}

// What decides (a login, an owner's right, money) reads under the zero policy: no
// copy answers it.
func TestThePrimaryIsNeverAnsweredFromACopy(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	p := newProcess(t, database, testenv.Redis(t))
	id := p.mustCreateUser(t)
	ctx := testenv.Context(t)
	before, err := p.users.ByID(ctx, id)
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, database)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "UPDATE users SET role = 'admin', password_hash = 'another' WHERE id = $1", id) // past the stores
	require.NoError(t, err)
	copied, err := p.users.ByID(p.reading(t), id)
	require.NoError(t, err)
	require.Empty(t, copied.Role, "a copy is too old to say")
	user, err := p.users.ByID(ctx, id)
	require.NoError(t, err)
	require.Equal(t, livestream.RoleAdmin, user.Role)
	credentials, err := p.users.CredentialsByEmail(p.reading(t), before.Email)
	require.NoError(t, err)
	require.Equal(t, "another", credentials.PasswordHash)
}

func TestARefusedWriteDropsNoCopy(t *testing.T) {
	t.Parallel()
	ctx, redisURL := testenv.Context(t), testenv.Redis(t)
	p := newProcess(t, testenv.Database(t), redisURL)
	creator, stranger, stream := p.mustCreateUser(t), p.mustCreateUser(t), newID(t)
	_, err := p.streams.Create(ctx, newStream(stream, creator), now())
	require.NoError(t, err)
	_, err = p.streams.ByID(p.reading(t), stream)
	require.NoError(t, err)
	require.True(t, copied(t, redisURL, stream))
	title := "Mine"
	_, err = p.streams.Update(ctx, stream, stranger, livestream.StreamPatch{Title: &title})
	require.Equal(t, livestream.CodeForbidden, livestream.CodeOf(err))
	require.True(t, copied(t, redisURL, stream), "strangers cannot empty the cache")
}

// A worker that is killed between a deletion and its invalidation leaves a copy, which
// goes when the next one deletes again.
func TestADeletionThatIsRepeatedIsSeen(t *testing.T) {
	t.Parallel()
	ctx, redisURL := testenv.Context(t), testenv.Redis(t)
	p := newProcess(t, testenv.Database(t), redisURL)
	s := scene{creator: p.mustCreateUser(t), viewer: p.mustCreateUser(t), stream: newID(t), archive: newID(t)}
	_, err := p.streams.Create(ctx, newStream(s.stream, s.creator), now())
	require.NoError(t, err)
	upload := livestream.Upload{ID: newID(t), StreamID: s.stream, Key: "recordings/x", StorageID: "x", ContentType: "video/mp4", SizeBytes: 1, PartSize: 1}
	require.NoError(t, p.recordings.Create(ctx, upload))
	_, err = p.recordings.Complete(ctx, upload.ID, s.archive, now())
	require.NoError(t, err)
	s.requireSeen(t, p, "before")
	require.True(t, copied(t, redisURL, s.stream))
	require.NoError(t, postgres.NewArchives(p.db).Delete(ctx, s.archive, s.stream, s.creator)) // and then it is killed
	err = p.archives.Delete(ctx, s.archive, s.stream, s.creator)
	require.Equal(t, livestream.CodeArchiveNotFound, livestream.CodeOf(err))
	s.requireSeen(t, p, "after")
}

// The write is made, its position cannot be had: the copy goes all the same.
func TestAWriteWhosePositionIsUnknownIsSeen(t *testing.T) {
	t.Parallel()
	database, redisURL := testenv.Database(t), testenv.Redis(t)
	proxy, proxied := testenv.NewProxy(t, database)
	positions, err := postgres.Open(testenv.Context(t), postgres.Config{URL: proxied})
	require.NoError(t, err)
	t.Cleanup(positions.Close)
	p := newProcessOn(t, openDatabase(t, database), positions, redisURL)
	s := scene{creator: p.mustCreateUser(t), viewer: p.mustCreateUser(t), stream: newID(t)}
	s.requireSeen(t, p, "before")
	proxy.Cut()
	bio := "changed"
	_, err = p.users.Update(testenv.Context(t), s.creator, livestream.UserPatch{Bio: &bio})
	require.NoError(t, err)
	s.requireSeen(t, p, "after")
	require.True(t, copied(t, redisURL, s.creator), "and copied again")
}

// The caller hangs up in the middle of a write that is made.
func TestAWriteOfACallerWhoHasGoneIsSeen(t *testing.T) {
	t.Parallel()
	database, redisURL := testenv.Database(t), testenv.Redis(t)
	p := newProcess(t, database, redisURL)
	s := scene{creator: p.mustCreateUser(t), viewer: p.mustCreateUser(t), stream: newID(t)}
	s.requireSeen(t, p, "before")
	ctx, hangUp := context.WithCancel(testenv.Context(t))
	hasty := cached.NewUsers(cacheOf(t, p.db, redisURL), hangsUp{postgres.NewUsers(p.db), hangUp})
	bio := "changed"
	_, err := hasty.Update(ctx, s.creator, livestream.UserPatch{Bio: &bio})
	require.NoError(t, err)
	require.Error(t, ctx.Err())
	s.requireSeen(t, p, "after")
}

// hangsUp is a caller who goes when the write is made.
type hangsUp struct {
	*postgres.Users
	hangUp func()
}

func (h hangsUp) Update(ctx context.Context, id uuid.UUID, patch livestream.UserPatch) (livestream.User, error) {
	defer h.hangUp()
	return h.Users.Update(ctx, id, patch)
}

func TestWritesWithoutRedisAreMadeAndSeen(t *testing.T) {
	t.Parallel()
	database, redisURL := testenv.Database(t), testenv.Redis(t)
	proxy, proxied := testenv.NewProxy(t, redisURL)
	p := newProcess(t, database, proxied)
	s := scene{creator: p.mustCreateUser(t), viewer: p.mustCreateUser(t), stream: newID(t)}
	s.requireSeen(t, p, "before")
	proxy.Cut()
	for i := range 3 {
		bio := fmt.Sprint("changed ", i)
		_, err := p.users.Update(testenv.Context(t), s.creator, livestream.UserPatch{Bio: &bio})
		require.NoError(t, err)
		s.requireSeen(t, p, "while Redis is away")
	}
	_, err := p.follows.Follow(testenv.Context(t), s.viewer, s.creator)
	require.NoError(t, err)
	s.requireSeen(t, p, "while Redis is away")
	proxy.Restore()
	require.Eventually(t, func() bool {
		s.requireSeen(t, p, "when it is back")
		return copied(t, redisURL, s.creator) && copied(t, redisURL, s.viewer)
	}, 20*time.Second, 20*time.Millisecond)
	s.requireSeen(t, p, "when copies are used again")
}

// Two processes write one member's counts while both read them: in the end nobody
// sees another number than the database's.
func TestCountsAreRightAfterARace(t *testing.T) {
	t.Parallel()
	ctx, database, redisURL := testenv.Context(t), testenv.Database(t), testenv.Redis(t)
	processes := []*process{newProcess(t, database, redisURL), newProcess(t, database, redisURL)}
	creator := processes[0].mustCreateUser(t)
	fans := make([]uuid.UUID, 8)
	for i := range fans {
		fans[i] = processes[0].mustCreateUser(t)
	}
	errs := make(chan error, len(fans))
	var wait sync.WaitGroup
	for i, fan := range fans {
		p := processes[i%2]
		reading := p.reading(t)
		wait.Go(func() {
			for round := range 9 {
				var err error
				if round%2 == 0 {
					_, err = p.follows.Follow(ctx, fan, creator)
				} else {
					err = p.follows.Unfollow(ctx, fan, creator)
				}
				if err == nil {
					_, err = p.users.ByID(reading, creator)
				}
				if err == nil {
					var me livestream.User
					me, err = p.users.ByID(reading, fan)
					if want := int64((round + 1) % 2); err == nil && me.FollowingCount != want {
						err = fmt.Errorf("follows %d after the write, not %d", me.FollowingCount, want)
					}
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	for _, p := range processes {
		user, err := p.users.ByID(p.reading(t), creator)
		require.NoError(t, err)
		require.Equal(t, int64(len(fans)), user.FollowerCount)
	}
}

func cacheOf(tb testing.TB, db *postgres.DB, redisURL string) *cached.Cache {
	tb.Helper()
	client, err := redis.Open(testenv.Context(tb), redis.Config{URL: redisURL})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = client.Close() })
	return cached.New(redis.NewCache(client, redis.CacheConfig{Timeout: 5 * time.Second}), db)
}

// copied says whether Redis has a copy of a thing.
func copied(tb testing.TB, redisURL string, id uuid.UUID) bool {
	tb.Helper()
	options, err := driver.ParseURL(redisURL)
	require.NoError(tb, err)
	client := driver.NewClient(options)
	defer client.Close()
	n, err := client.Exists(testenv.Context(tb), "user:{"+id.String()+"}", "stream:{"+id.String()+"}").Result()
	require.NoError(tb, err)
	return n > 0
}
