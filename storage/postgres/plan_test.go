package postgres_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/bigdata"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// At 1 the data alone takes minutes to make; plans are the same from about 0.02 on.
var scale = flag.Float64("scale", 0.05, "size of the database that queries are explained on: 1 has 1 million members")

// large is the number of rows from which on reading a whole table is a mistake.
const large = 1000

// statements remembers what went through a store.
type statements struct{ seen []pgx.TraceQueryStartData }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if nameOf(data.SQL) != "" {
		s.seen = append(s.seen, data)
	}
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// of gives the statements that a call sends.
func (s *statements) of(tb testing.TB, call func() error) []pgx.TraceQueryStartData {
	tb.Helper()
	s.seen = nil
	require.NoError(tb, call())
	require.NotEmpty(tb, s.seen)
	return s.seen
}

var named = regexp.MustCompile(`^-- name: ([a-z_]+\.[a-z_]+)\n`)

func nameOf(sql string) string {
	if m := named.FindStringSubmatch(sql); m != nil {
		return m[1]
	}
	return ""
}

// queryNames reads the names of all queries from the package's source.
func queryNames(tb testing.TB) map[string]bool {
	tb.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(tb, err)
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		require.NoError(tb, err)
		parsed = append(parsed, f)
	}
	// Imports are not needed to evaluate strings, and not there.
	checker := types.Config{Error: func(error) {}, Importer: noImports{}}
	pkg, _ := checker.Check("postgres", set, parsed, nil)
	names := map[string]bool{}
	for _, name := range pkg.Scope().Names() {
		if !strings.HasSuffix(name, "SQL") {
			continue
		}
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok {
			continue
		}
		query := nameOf(constant.StringVal(c.Val()))
		require.NotEmpty(tb, query, "%s does not begin with -- name: noun.action", name)
		require.False(tb, names[query], "two queries are named %s", query)
		names[query] = true
	}
	return names
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

// plan is a node of what EXPLAIN says.
type plan struct {
	Type     string  `json:"Node Type"`
	Of       string  `json:"Parent Relationship"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Hit      int64   `json:"Shared Hit Blocks"`
	Read     int64   `json:"Shared Read Blocks"`
	Plans    []plan
}

func (p plan) walk(visit func(plan)) {
	visit(p)
	for _, child := range p.Plans {
		child.walk(visit)
	}
}

// buffers is what it reads, from memory or not, but for what is looked up by key for
// each row, like the archive of a stream: that costs the same on each page, and a
// stream that is live has none.
func (p plan) buffers() int64 {
	read := p.Hit + p.Read
	p.walk(func(p plan) {
		if p.Of == "SubPlan" {
			read -= p.Hit + p.Read
		}
	})
	return read
}

// explainer explains statements on a big database.
type explainer struct {
	*testing.T
	conn      *pgx.Conn
	large     map[string]bool // tables
	explained map[string]bool // queries
}

// explain runs a statement, takes back what it did, and refuses a plan that reads a
// large table whole or more than so many rows.
func (e *explainer) explain(t *testing.T, s pgx.TraceQueryStartData, rows float64) plan {
	t.Helper()
	ctx := testenv.Context(t)
	tx, err := e.conn.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	var out []byte
	err = tx.QueryRow(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+s.SQL, s.Args...).Scan(&out)
	// A write that follows on another one, which this database has not seen, cannot
	// be done here; how it would be done can be said.
	var refused *pgconn.PgError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "23") {
		require.NoError(t, tx.Rollback(ctx))
		err = e.conn.QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+s.SQL, s.Args...).Scan(&out)
	}
	require.NoError(t, err, s.SQL)
	var plans []struct{ Plan plan }
	require.NoError(t, json.Unmarshal(out, &plans))
	top, read := plans[0].Plan, 0.0
	top.walk(func(p plan) {
		if p.Relation == "" {
			return
		}
		require.False(t, p.Type == "Seq Scan" && e.large[p.Relation], "reads all of %s\n%s\n%s", p.Relation, s.SQL, out)
		read += (p.Rows + p.Removed) * max(p.Loops, 1)
	})
	require.LessOrEqual(t, read, rows, "rows read\n%s\n%s", s.SQL, out)
	e.explained[nameOf(s.SQL)] = true
	return top
}

// newBigStore fills a database of a cluster.
func newBigStore(t *testing.T, url string, scale float64, seen *statements) *store {
	t.Helper()
	ctx := t.Context() // at full scale it takes longer than other tests may
	require.NoError(t, postgres.Migrate(ctx, url, nil))
	began := time.Now()
	require.NoError(t, bigdata.Fill(ctx, url, bigdata.Options{Scale: scale}))
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	for _, sql := range []string{
		// Everybody has a browser that is told, and a notice to be told of.
		"INSERT INTO sessions (id, user_id) SELECT id, id FROM users",
		"INSERT INTO refresh_tokens (hash, session_id, expires_at) SELECT sha256(id::text::bytea), id, now() + interval '7 days' FROM users",
		`INSERT INTO push_subscriptions (user_id, session_id, endpoint, key, secret, server_key)
			SELECT id, id, 'https://push.example.com/' || id, decode(repeat('04', 65), 'hex'), decode(repeat('00', 16), 'hex'), 'key' FROM users`,
		`INSERT INTO notifications (user_id, seq, key, type, created_at, data) SELECT user_id, last_seq + 1, 'pushed', 'stream_live', '2025-07-01Z', '{}' FROM inboxes`,
		"UPDATE inboxes SET last_seq = last_seq + 1, unread = unread + 1",
		// Nobody follows the collector but ten, who are spread over all members.
		`INSERT INTO follows (follower_id, following_id)
			SELECT id, '` + bigdata.UserID(bigdata.Collector).String() + `' FROM (SELECT id, row_number() OVER (ORDER BY id) AS n, count(*) OVER () AS total FROM users) u
			WHERE n % (total / 10) = 0`,
		"VACUUM ANALYZE sessions, refresh_tokens, push_subscriptions, notifications, inboxes, follows",
	} {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	t.Logf("filled at scale %v in %s", scale, time.Since(began).Round(time.Millisecond))
	return storeAt(t, postgres.Config{URL: url, Tracer: seen})
}

// S3: no query of this package reads a whole table, and a page far down a list
// costs what the first one does.
func TestEveryQueryReadsAnIndex(t *testing.T) {
	t.Parallel()
	cluster := testenv.Cluster(t, 0)
	execAt(t, cluster.PrimaryURL, "CREATE DATABASE small")
	ctx, seen := t.Context(), &statements{}
	small := newBigStore(t, strings.TrimSuffix(cluster.PrimaryURL, "livestream")+"small", bigdata.MinScale, seen)
	big := newBigStore(t, cluster.PrimaryURL, *scale, seen)
	conn, err := pgx.Connect(ctx, cluster.PrimaryURL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	e := &explainer{T: t, conn: conn, large: map[string]bool{}, explained: map[string]bool{}}
	rows, err := conn.Query(ctx, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples >= $1", large)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 15, "there is something to read")
	for _, table := range tables {
		e.large[table] = true
	}

	for name, list := range lists(big) {
		t.Run("list "+name, func(t *testing.T) { e.pages(t, seen, list) })
	}
	for _, s := range []*store{small, big} {
		s.MustExec(t, "UPDATE streams SET status = 'live', ended_at = NULL WHERE id = $1", bigdata.StreamID(liveStream))
		s.MustExec(t, "UPDATE streams SET user_id = $2, started_at = now() - interval '1 hour', ended_at = now() - interval '1 minute' WHERE id = $1",
			bigdata.StreamID(earlierStream), bigdata.UserID(bigdata.FirstCreator))
	}
	// What writes does so in a small database, which has the same rows as far as it
	// goes, and is explained in the big one.
	for name, call := range calls(small) {
		t.Run(name, func(t *testing.T) {
			for _, s := range seen.of(t, func() error { return call.do(ctx) }) {
				top := e.explain(t, s, max(call.rows, 100))
				if call.check != nil {
					call.check(t, top)
				}
			}
		})
	}

	missing := queryNames(t)
	delete(missing, "db.replayed") // a replica's, of no table
	for name := range e.explained {
		require.Contains(t, missing, name, "the source does not have it")
		delete(missing, name)
	}
	require.Empty(t, slices.Sorted(maps.Keys(missing)), "queries that no example above sends: give them one")
}

// S3 by name.
func TestIndexesThatAreAskedFor(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, begins := range map[string]string{
		"idx_streams_status_started": "streams USING btree (status, started_at DESC", "idx_streams_user_id": "streams USING btree (user_id",
		"idx_follows_following_id": "follows USING btree (following_id", "idx_archives_stream_id": "archives USING btree (stream_id",
	} {
		require.EqualValues(t, 1, s.Number(t, "SELECT count(*) FROM pg_indexes WHERE indexname = $1 AND strpos(indexdef, $2) > 0", name, begins), name)
	}
}

// liveStream is a stream whose followers can be told, in each database, and
// earlierStream one of another creator that has just ended.
const liveStream, earlierStream = 5, 7

// list is a list at one of its filters.
type list struct {
	sort string // the column that it is sorted by
	page func(livestream.Page) error
	// more are the rows that a page may read beside its own: what is live at a time
	// and what one member has are few, and may be sorted or narrowed as they are read.
	more int
}

// pages explains the first page of a list and the 1,000th, or the last.
func (e *explainer) pages(t *testing.T, seen *statements, l list) {
	t.Helper()
	const limit, pages = 20, 1000
	first := seen.of(t, func() error { return l.page(livestream.Page{Limit: limit}) })[0]
	top := e.explain(t, first, float64(5*limit+l.more))
	after, place := e.lastOf(t, first, limit*(pages-1), l.sort)
	if after == nil {
		return
	}
	last := seen.of(t, func() error { return l.page(livestream.Page{Limit: limit, After: after}) })[0]
	most := 2 * top.buffers()
	if place < limit*(pages-1) { // what is left at the end of a shorter list may be a part of a page, or lie in more places
		most = max(most, 3*limit)
	}
	require.LessOrEqual(t, e.explain(t, last, float64(5*limit+l.more)).buffers(), most, "buffers of a page far down; the first reads %d\n%s", top.buffers(), first.SQL)
}

// lastOf gives where the first n rows of a list end, and how many there are; its limit
// is the last argument. There is nothing when the list ends on its first page.
func (e *explainer) lastOf(t *testing.T, s pgx.TraceQueryStartData, n int, sort string) (*livestream.Cursor, int64) {
	t.Helper()
	args := slices.Clone(s.Args)
	args[len(args)-1] = n
	rows, err := e.conn.Query(testenv.Context(t), "SELECT *, count(*) OVER () AS n FROM ("+s.SQL+") l OFFSET greatest(0, (SELECT count(*) FROM ("+s.SQL+") l) - 1)", args...)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	require.NoError(t, err)
	if len(all) == 0 || all[0]["n"].(int64) <= 20 {
		return nil, 0
	}
	cursor := &livestream.Cursor{}
	if id, ok := all[0]["id"].([16]byte); ok {
		cursor.ID = id
	}
	switch at := all[0][sort].(type) {
	case time.Time:
		cursor.Time = at
	case int64:
		cursor.Number = at
	case pgtype.InfinityModifier: // the zero time stands for it
	default:
		t.Fatalf("%s is a %T", sort, at)
	}
	return cursor, all[0]["n"].(int64)
}

// lists are all lists at all combinations of their filters: what much has, what
// little has and what nothing has.
func lists(s *store) map[string]list {
	ctx := context.Background()
	star, someone := bigdata.UserID(bigdata.Star), bigdata.UserID(4000)
	all := map[string]list{
		"followers of a star":   {"followed_at", func(p livestream.Page) error { _, err := s.Follows.Followers(ctx, star, p); return err }, 0},
		"followers of a member": {"followed_at", func(p livestream.Page) error { _, err := s.Follows.Followers(ctx, someone, p); return err }, 0},
		"following of a collector": {"followed_at", func(p livestream.Page) error {
			_, err := s.Follows.Following(ctx, bigdata.UserID(bigdata.Collector), p)
			return err
		}, 0},
		"following of a member": {"followed_at", func(p livestream.Page) error { _, err := s.Follows.Following(ctx, someone, p); return err }, 0},
		"moderators": {"added_at", func(p livestream.Page) error {
			_, err := postgres.NewChats(s.DB).Moderators(ctx, star, p)
			return err
		}, 0},
		"blocks":               {"blocked_at", func(p livestream.Page) error { _, err := s.Follows.Blocks(ctx, star, p); return err }, 0},
		"timeline":             {"seq", func(p livestream.Page) error { _, err := s.Streams.Timeline(ctx, bigdata.StreamID(1), p); return err }, 0},
		"notifications":        {"seq", func(p livestream.Page) error { _, err := s.Notifications.List(ctx, star, false, p); return err }, 0},
		"unread notifications": {"seq", func(p livestream.Page) error { _, err := s.Notifications.List(ctx, star, true, p); return err }, 0},
	}
	for who, user := range map[string]*uuid.UUID{"of anyone": nil, "of a star": &star, "of a member": &someone} {
		more := bigdata.SizesAt(*scale).LiveStreams
		if user != nil {
			more = bigdata.SizesAt(*scale).Streams / 100
		}
		for _, status := range []livestream.StreamStatus{"", livestream.StreamStarting, livestream.StreamLive, livestream.StreamEnded} {
			for _, category := range []string{"", "gaming", "category 7", "none"} {
				for _, sort := range []livestream.StreamSort{livestream.SortStartedAt, livestream.SortViewers} {
					filter := livestream.StreamFilter{UserID: user, Sort: sort}
					if status != "" {
						filter.Status = &status
					}
					if category != "" {
						filter.Category = &category
					}
					column := map[livestream.StreamSort]string{livestream.SortStartedAt: "started_at", livestream.SortViewers: "viewer_count"}[sort]
					all[strings.Join([]string{"streams", who, string(status), category, "by", column}, " ")] = list{column, func(p livestream.Page) error {
						_, err := s.Streams.List(ctx, filter, p)
						return err
					}, more}
				}
			}
		}
		stream := bigdata.StreamID(2)
		for _, status := range []livestream.ArchiveStatus{"", livestream.ArchiveReady, livestream.ArchiveFailed} {
			for of, stream := range map[string]*uuid.UUID{"": nil, "of a stream": &stream} {
				filter := livestream.ArchiveFilter{UserID: user, StreamID: stream}
				if status != "" {
					filter.Status = &status
				}
				all[strings.Join([]string{"archives", who, string(status), of}, " ")] = list{"created_at", func(p livestream.Page) error {
					_, err := s.Archives.List(ctx, filter, p)
					return err
				}, more}
			}
		}
	}
	for who, user := range map[string]uuid.UUID{"of a star": star, "of a payer": bigdata.UserID(bigdata.Collector), "of a member": someone} {
		for _, status := range []livestream.TransactionStatus{"", livestream.TransactionSucceeded, livestream.TransactionFailed, livestream.TransactionRefunded} {
			filter := livestream.TransactionFilter{UserID: user}
			if status != "" {
				filter.Status = &status
			}
			all[strings.Join([]string{"transactions", who, string(status)}, " ")] = list{"created_at", func(p livestream.Page) error {
				_, err := s.Transactions.List(ctx, filter, p)
				return err
			}, 0}
		}
	}
	return all
}

// call is a use of a store that is no list.
type call struct {
	do   func(ctx context.Context) error
	rows float64 // that one of its statements may read; zero is 100
	// check may ask more of the plan of each statement.
	check func(t *testing.T, top plan)
}

// recentMonths refuses a plan that looks into a month of notifications which none of
// this hour is in.
func recentMonths(t *testing.T, top plan) {
	t.Helper()
	recent := []string{}
	for _, at := range []time.Time{now(), now().Add(-2 * time.Hour)} {
		recent = append(recent, at.Format("notifications_2006_01"))
	}
	looked := 0
	top.walk(func(p plan) {
		if strings.HasPrefix(p.Relation, "notifications_2") && p.Loops > 0 {
			require.Contains(t, recent, p.Relation)
			looked++
		}
	})
	require.Positive(t, looked)
}

// calls are all other uses, of rows that are in each database. Each is independent
// of the others.
func calls(s *store) map[string]call {
	member, other, reader, star := bigdata.UserID(4000), bigdata.UserID(4001), bigdata.UserID(4002), bigdata.UserID(bigdata.Star)
	stream := bigdata.StreamID(3) // over, and without an archive
	live := livestream.GoLive{StreamID: bigdata.StreamID(liveStream), CreatorID: star, Title: "Title", Before: now()}
	token := func(text string) []byte { hash := sha256.Sum256([]byte(text)); return hash[:] }
	sizes := bigdata.SizesAt(bigdata.MinScale)
	ending := bigdata.StreamID(sizes.Streams - sizes.LiveStreams)
	title, failure := "Another title", livestream.Failure{Code: "code", Message: "message"}
	newID := func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
	chats := postgres.NewChats(s.DB)
	pushed := func(push livestream.NotificationPush) func(context.Context) error {
		push.Key, push.At = "pushed", time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)
		return func(ctx context.Context) error {
			if any, err := s.Browsers.Any(ctx, push); err != nil || !any {
				return errors.Join(errors.New("nobody has a browser"), err)
			}
			due, err := s.Browsers.Due(ctx, push, push.Before(), 100)
			if err != nil || len(due) == 0 {
				return errors.Join(errors.New("nobody is to be told"), err)
			}
			_, err = s.Browsers.DueOf(ctx, push, []uuid.UUID{due[0].Subscription.ID, newID()})
			return err
		}
	}
	return map[string]call{
		"position": {do: func(ctx context.Context) error { _, err := s.Position(ctx); return err }},

		"create a user": {do: func(ctx context.Context) error {
			_, err := s.Users.Create(ctx, livestream.NewUser{ID: newID(), Username: "newcomer", Email: "newcomer@example.com", DisplayName: "New", PasswordHash: "hash"})
			return err
		}},
		"user": {do: func(ctx context.Context) error { _, err := s.Users.ByID(ctx, member); return err }},
		"credentials": {do: func(ctx context.Context) error {
			_, err := s.Users.CredentialsByEmail(ctx, "member_77@example.com")
			return err
		}},
		"update a user": {do: func(ctx context.Context) error {
			_, err := s.Users.Update(ctx, member, livestream.UserPatch{DisplayName: &title})
			return err
		}},
		"role": {do: func(ctx context.Context) error { return s.Users.SetRole(ctx, "member_77", livestream.RoleAdmin) }},

		"log in": {do: func(ctx context.Context) error {
			return s.Sessions.Create(ctx, livestream.RefreshToken{Hash: token("new"), FamilyID: newID(), UserID: member, ExpiresAt: now()})
		}},
		"refresh, again, and by a thief": {do: func(ctx context.Context) error {
			next := livestream.RefreshToken{Hash: token("next"), ExpiresAt: now()}
			for range 2 {
				if _, _, err := s.Sessions.Rotate(ctx, token("1:2"), next, now()); err != nil {
					return err
				}
			}
			_, _, err := s.Sessions.Rotate(ctx, token("1:2"), livestream.RefreshToken{Hash: token("another")}, now())
			return notFound(err, livestream.CodeRefreshTokenReused)
		}},
		"log out": {do: func(ctx context.Context) error { _, err := s.Sessions.Revoke(ctx, token("5:2")); return err }},
		"ended sessions": {do: func(ctx context.Context) error {
			_, err := s.Sessions.Ended(ctx, []uuid.UUID{member, other})
			return err
		}},
		"old sessions": {rows: 1500, do: func(ctx context.Context) error {
			_, err := s.Sessions.DeleteOld(ctx, now().Add(livestream.RefreshTokenLifetime+time.Hour), 100)
			return err
		}},

		"follow and unfollow": {do: func(ctx context.Context) error {
			if _, err := s.Follows.Follow(ctx, member, other); err != nil {
				return err
			}
			return s.Follows.Unfollow(ctx, member, other)
		}},

		"new followers": {do: func(ctx context.Context) error {
			for n := range 2 {
				if _, err := s.Follows.Follow(ctx, bigdata.UserID(4010+n), bigdata.UserID(4020)); err != nil {
					return err
				}
			}
			return nil
		}},
		"block and unblock": {do: func(ctx context.Context) error {
			if err := s.Follows.Block(ctx, member, other); err != nil {
				return err
			}
			return s.Follows.Unblock(ctx, member, other)
		}},

		"life of a stream": {do: func(ctx context.Context) error {
			created, err := s.Streams.Create(ctx, livestream.NewStream{ID: newID(), UserID: member, Title: "Title", Ingest: livestream.IngestExternal}, now())
			if err != nil {
				return err
			}
			deadline := now()
			if _, err := s.Streams.SetStatus(ctx, created.ID, livestream.StreamReconnecting, now(), &deadline); err != nil {
				return err
			}
			if _, err := s.Streams.ByIDs(ctx, []uuid.UUID{stream, created.ID}); err != nil {
				return err
			}
			_, err = s.Streams.ByID(ctx, stream)
			return err
		}},
		"a line in a timeline": {do: func(ctx context.Context) error {
			return s.Streams.AppendEvent(ctx, livestream.NewStreamEvent{StreamID: stream, Key: "key", Type: livestream.EventRecordingReceived})
		}},
		"a stream that is ending, and another's": {do: func(ctx context.Context) error {
			if _, err := s.Streams.Finish(ctx, ending, now(), 1, 2); err != nil {
				return err
			}
			_, err := s.Streams.Update(ctx, stream, star, livestream.StreamPatch{Title: &title})
			return notFound(err, livestream.CodeForbidden)
		}},

		"an upload": {do: func(ctx context.Context) error {
			upload := livestream.Upload{ID: newID(), StreamID: stream, Key: "key", StorageID: "id", ContentType: "video/mp4", SizeBytes: 1, PartSize: 1}
			if err := s.Recordings.Create(ctx, upload); err != nil {
				return err
			}
			if _, err := s.Recordings.ByID(ctx, stream, upload.ID); err != nil {
				return err
			}
			archive, err := s.Recordings.Complete(ctx, upload.ID, newID(), now())
			if err != nil {
				return err
			}
			if _, err := s.Recordings.OfArchive(ctx, stream, archive.ID); err != nil {
				return err
			}
			return s.Recordings.Delete(ctx, upload.ID)
		}},
		"stale uploads":     {rows: 2100, do: func(ctx context.Context) error { _, err := s.Recordings.Stale(ctx, now()); return err }},
		"abandoned uploads": {do: func(ctx context.Context) error { _, err := s.Recordings.Abandoned(ctx, stream); return err }},

		"an archive": {do: func(ctx context.Context) error {
			archive := bigdata.ArchiveID(51) // failed
			if _, err := s.Archives.ByID(ctx, archive); err != nil {
				return err
			}
			if err := s.Archives.MarkProcessing(ctx, archive); err != nil {
				return err
			}
			if err := s.Archives.SetProgress(ctx, archive, 0.7); err != nil {
				return err
			}
			if err := s.Archives.MarkFailed(ctx, archive, failure, 1, now()); err != nil {
				return err
			}
			_, err := s.Archives.MarkReady(ctx, archive, livestream.MediaInfo{DurationSeconds: 1}, nil, 1, now())
			return err
		}},
		"views of archives": {do: func(ctx context.Context) error {
			views := postgres.NewViews(s.DB)
			day := livestream.ArchiveViews{ArchiveID: bigdata.ArchiveID(75), Day: livestream.Midnight(now()), Views: 3}
			if err := views.Save(ctx, []livestream.ArchiveViews{day}); err != nil {
				return err
			}
			_, err := views.DeleteOld(ctx, now().AddDate(-1, 0, 0), 100)
			return err
		}},
		"who may play an archive": {do: func(ctx context.Context) error {
			if _, err := s.Archives.Playback(ctx, bigdata.ArchiveID(75)); err != nil {
				return err
			}
			_, err := s.Archives.SetVisibility(ctx, bigdata.ArchiveID(75), star, livestream.VisibilityPrivate)
			return err
		}},
		"owners of what is in the bucket": {do: func(ctx context.Context) error {
			owners, ids := postgres.NewOwners(s.DB), []uuid.UUID{newID(), newID(), newID()}
			if _, err := owners.Archives(ctx, ids); err != nil {
				return err
			}
			if _, err := owners.Work(ctx, ids, now()); err != nil {
				return err
			}
			_, err := owners.Recordings(ctx, ids, now())
			return err
		}},
		// A page of them, each with the days of its views.
		"archives by tier": {rows: 8000, do: func(ctx context.Context) error {
			_, err := s.Archives.Tiered(ctx, bigdata.ArchiveID(10), now().AddDate(0, 0, -30), 200)
			return err
		}},
		"an archive that moves and comes back": {do: func(ctx context.Context) error {
			archive := bigdata.ArchiveID(75)
			if _, err := s.Archives.BeginMove(ctx, livestream.TierMove{ArchiveID: archive, To: livestream.StorageGlacier}, true, now()); err != nil {
				return err
			}
			if err := s.Archives.KeepMoving(ctx, archive, livestream.StorageGlacier, now().Add(-time.Hour)); err != nil {
				return err
			}
			if _, err := s.Archives.Tier(ctx, archive); err != nil {
				return err
			}
			if err := s.Archives.BeginRestore(ctx, archive, now()); err != nil {
				return err
			}
			if _, err := s.Archives.EndRestore(ctx, archive, now()); err != nil {
				return err
			}
			_, err := s.Archives.EndMove(ctx, archive, livestream.StorageStandard)
			return err
		}},
		"delete an archive": {do: func(ctx context.Context) error {
			return s.Archives.Delete(ctx, bigdata.ArchiveID(25), bigdata.StreamID(50), star)
		}},

		"open a fan-out": {do: func(ctx context.Context) error {
			_, err := s.Notifications.Open(ctx, live.CreatorID)
			return err
		}},
		"plan a fan-out": {rows: 301, do: func(ctx context.Context) error {
			ranges, err := s.Notifications.PlanRanges(ctx, live, bigdata.UserID(100), 100, 3)
			if err == nil && len(ranges) != 3 {
				err = errors.New("not three ranges")
			}
			return err
		}},
		// Of 100 followers: the follow, the settings, the notification, the inbox.
		"tell a range": {rows: 1000, do: func(ctx context.Context) error {
			told, err := s.Notifications.NotifyRange(ctx, live, livestream.FollowerRange{After: bigdata.UserID(100), Upto: bigdata.UserID(200)})
			if err == nil && told.Notified < 90 {
				err = errors.New("hardly anybody was told")
			}
			return err
		}},
		"tell a range after a restart": {rows: 1500, check: recentMonths, do: func(ctx context.Context) error {
			again := live
			again.CreatorID = bigdata.UserID(bigdata.FirstCreator)
			told, err := s.Notifications.NotifyRange(ctx, again, livestream.FollowerRange{After: bigdata.UserID(100), Upto: bigdata.UserID(800)})
			if err == nil && told.Notified < 80 {
				err = errors.New("hardly anybody was told")
			}
			return err
		}},
		"tell a member": {do: func(ctx context.Context) error {
			_, err := s.Notifications.Notify(ctx, livestream.NewNotification{UserID: member, Key: "key", Type: livestream.NotifyTipReceived, At: dated, Data: map[string]any{}})
			return err
		}},
		// Of 500 inboxes the last one each.
		"notifications since": {rows: 500, do: func(ctx context.Context) error {
			last := map[uuid.UUID]int64{}
			for n := range 500 {
				last[bigdata.UserID(3000+n)] = 2
			}
			news, err := s.Notifications.Since(ctx, last, 20)
			if err == nil && len(news) != 500 {
				err = fmt.Errorf("%d notifications", len(news))
			}
			return err
		}},
		"followers in a range": {do: func(ctx context.Context) error {
			_, err := s.Notifications.FollowersIn(ctx, star, livestream.FollowerRange{After: bigdata.UserID(100), Upto: bigdata.UserID(2000)}, 50)
			return err
		}},
		"last notification": {do: func(ctx context.Context) error { _, err := s.Notifications.LastSeq(ctx, star); return err }},
		"mark some read": {do: func(ctx context.Context) error {
			return s.Notifications.MarkRead(ctx, star, []uuid.UUID{newID(), newID()})
		}},
		"browsers that are told": {do: func(ctx context.Context) error {
			subscription, err := s.Browsers.Subscribe(ctx, livestream.PushSubscription{
				UserID: member, FamilyID: member, Endpoint: "https://push.example.com/one", Key: make([]byte, 65), Secret: make([]byte, 16), ServerKey: "key",
			})
			if err != nil {
				return err
			}
			return s.Browsers.Unsubscribe(ctx, member, subscription.ID)
		}},
		// Of each of 100: the follow, the subscription, its login with a token, and the notification.
		"due pushes to some of very many followers": {rows: 510, do: pushed(livestream.NotificationPush{
			CreatorID: star, Range: &livestream.FollowerRange{After: bigdata.UserID(100), Upto: bigdata.UserID(2000)},
		})},
		"due pushes to ten followers among all members": {do: pushed(livestream.NotificationPush{
			CreatorID: bigdata.UserID(bigdata.Collector), Range: &livestream.FollowerRange{Upto: bigdata.UserID(bigdata.SizesAt(*scale).Users)},
		})},
		"due pushes to a member": {do: pushed(livestream.NotificationPush{User: &reader})},
		"dead browsers":          {do: func(ctx context.Context) error { return s.Browsers.DeleteDead(ctx, []uuid.UUID{newID(), newID()}) }},
		"unread count":           {do: func(ctx context.Context) error { _, err := s.Notifications.Unread(ctx, star); return err }},
		"make months": {do: func(ctx context.Context) error {
			_, err := s.Notifications.MakeMonths(ctx, dated, dated.AddDate(0, 1, 0))
			return err
		}},
		"old months": {rows: 1000, do: func(ctx context.Context) error {
			// The first has a batch to mark, the second no month to drop.
			for _, before := range []time.Time{now(), time.Unix(0, 0)} {
				if _, err := s.Notifications.DeleteOld(ctx, before, 100); err != nil {
					return err
				}
			}
			return nil
		}},
		"mark all read": {do: func(ctx context.Context) error { return s.Notifications.MarkAllRead(ctx, other) }},
		"settings": {do: func(ctx context.Context) error {
			settings, err := s.Notifications.Settings(ctx, member)
			if err != nil {
				return err
			}
			return s.Notifications.SetSettings(ctx, member, settings)
		}},
		"progress of a fan-out": {do: func(ctx context.Context) error {
			progress, err := s.Notifications.Progress(ctx, stream)
			if err != nil {
				return err
			}
			return s.Notifications.SaveProgress(ctx, stream, progress)
		}},

		"what was said": {do: func(ctx context.Context) error {
			if err := chats.Save(ctx, []livestream.ChatSaved{{StreamID: stream, ChatEvent: livestream.ChatEvent{ID: 1, JSON: []byte("{}")}, Type: "message"}}); err != nil {
				return err
			}
			if _, err := chats.Messages(ctx, bigdata.StreamID(1), 1<<62, 50); err != nil {
				return err
			}
			if _, err := chats.Replay(ctx, bigdata.StreamID(1), now().AddDate(-20, 0, 0), now(), livestream.Page{}); err != nil {
				return err
			}
			if _, err := chats.Deleted(ctx, bigdata.StreamID(1), []int64{1, 2, 3}); err != nil {
				return err
			}
			if _, err := chats.LastID(ctx, bigdata.StreamID(1)); err != nil {
				return err
			}
			if err := chats.Delete(ctx, stream, 1, nil); err != nil {
				return err
			}
			return chats.Delete(ctx, stream, 2, []byte("{}"))
		}},
		"rules of a chat": {do: func(ctx context.Context) error {
			if _, err := chats.SetSettings(ctx, stream, livestream.ChatSettingsPatch{}); err != nil {
				return err
			}
			if err := chats.Ban(ctx, livestream.ChatBan{StreamID: stream, UserID: member, By: star}); err != nil {
				return err
			}
			if err := chats.AddModerator(ctx, star, other); err != nil {
				return err
			}
			if _, err := chats.Rules(ctx, stream); err != nil {
				return err
			}
			if err := chats.RemoveModerator(ctx, star, other); err != nil {
				return err
			}
			if err := chats.Unban(ctx, stream, member); err != nil {
				return err
			}
			_, err := chats.FollowedAt(ctx, member, star)
			return err
		}},

		"create a tip": {do: func(ctx context.Context) error {
			tip, err := s.Transactions.Create(ctx, livestream.NewTransaction{
				ID: newID(), WorkflowID: "payment/x", Kind: livestream.KindTip, Amount: 500, Currency: "eur", SenderID: member, RecipientID: star,
			}, livestream.TipLimits{HourlyCount: 1000})
			if err != nil {
				return err
			}
			_, err = s.Transactions.OpenIntent(ctx, tip.ID, livestream.PaymentIntent{ID: "pi_y"}, livestream.TransactionQueued)
			return err
		}},
		"settle a tip": {do: func(ctx context.Context) error {
			tip := bigdata.TransactionID(101) // queued
			if err := s.Transactions.SetIntent(ctx, tip, livestream.PaymentIntent{ID: "pi_101", ClientSecret: "secret"}, livestream.TransactionProcessing); err != nil {
				return err
			}
			if _, err := s.Transactions.Settle(ctx, tip, now(), hold); err != nil {
				return err
			}
			_, err := s.Transactions.Release(ctx, tip, now().Add(hold+time.Hour))
			return err
		}},
		"a tip that fails": {do: func(ctx context.Context) error {
			_, err := s.Transactions.Fail(ctx, bigdata.TransactionID(201), livestream.TransactionFailed, failure, now())
			return err
		}},
		"a tip": {do: func(ctx context.Context) error {
			_, err := s.Transactions.ByID(ctx, bigdata.TransactionID(5), star)
			return err
		}},
		"balances of a member": {do: func(ctx context.Context) error { _, err := s.Transactions.Balances(ctx, member); return err }},
		"balances of a star":   {do: func(ctx context.Context) error { _, err := s.Transactions.Balances(ctx, star); return err }},
		"a refund": {do: func(ctx context.Context) error {
			payment := bigdata.TransactionID(6)
			refund, err := s.Refunds.Create(ctx, livestream.NewRefund{ID: newID(), TransactionID: payment, Amount: 100})
			if err != nil {
				return err
			}
			if _, err := s.Refunds.ByID(ctx, refund.ID); err != nil {
				return err
			}
			_, err = s.Refunds.Book(ctx, livestream.StripeRefund{
				ID: "re_x", Status: livestream.StripeRefundSucceeded, Amount: 100, Currency: "eur", PaymentIntentID: "pi_6", RefundID: refund.ID,
			}, now(), hold)
			return err
		}},
		"what Stripe's lists have": {rows: 700, do: func(ctx context.Context) error {
			books := postgres.NewReconciliation(s.DB)
			intents := make([]string, 100)
			for i := range intents {
				intents[i] = fmt.Sprint("pi_", 1000+i)
			}
			if _, err := books.ByIntents(ctx, intents); err != nil {
				return err
			}
			if err := books.MarkCompared(ctx, intents, now()); err != nil {
				return err
			}
			if _, err := books.Refunds(ctx, intents); err != nil {
				return err
			}
			if _, err := books.Disputes(ctx, intents); err != nil {
				return err
			}
			return books.Report(ctx, livestream.Difference{Kind: livestream.ChargeMissing, ObjectID: "pi_1", Detail: "x"})
		}},
		// The accounts of what was posted within a day, each in the order of an index.
		"what the books alone have": {rows: 1e9, do: func(ctx context.Context) error {
			books := postgres.NewReconciliation(s.DB)
			day := livestream.Window{From: time.Date(2024, 1, 5, 0, 0, 0, 0, time.UTC), To: time.Date(2024, 1, 6, 0, 0, 0, 0, time.UTC)}
			page := livestream.Page{Limit: 50, After: &livestream.Cursor{Time: day.From, ID: newID()}}
			if _, err := books.Uncompared(ctx, day, page); err != nil {
				return err
			}
			if _, err := books.Overdue(ctx, now(), page); err != nil {
				return err
			}
			if _, err := books.RefundsWaiting(ctx, now(), page); err != nil {
				return err
			}
			if _, err := books.DisputesOpen(ctx, now(), page); err != nil {
				return err
			}
			_, err := books.WrongBalances(ctx, now().Add(-24*time.Hour))
			return err
		}},
		"a dispute": {do: func(ctx context.Context) error {
			dispute := livestream.StripeDispute{ID: "dp_x", Status: livestream.DisputeNeedsResponse, Amount: 500, Currency: "eur", PaymentIntentID: "pi_8"}
			if _, err := s.Disputes.Book(ctx, dispute, now(), hold); err != nil {
				return err
			}
			_, err := s.Transactions.ByIntent(ctx, "pi_8")
			return err
		}},
		"a refund that is withdrawn": {do: func(ctx context.Context) error {
			refund, err := s.Refunds.Create(ctx, livestream.NewRefund{ID: newID(), TransactionID: bigdata.TransactionID(9), Amount: 100})
			if err != nil {
				return err
			}
			return s.Refunds.Withdraw(ctx, bigdata.TransactionID(9), refund.ID)
		}},
		"a refund that fails": {do: func(ctx context.Context) error {
			refund, err := s.Refunds.Create(ctx, livestream.NewRefund{ID: newID(), TransactionID: bigdata.TransactionID(7), Amount: 100})
			if err != nil {
				return err
			}
			_, err = s.Refunds.Fail(ctx, refund.ID, failure)
			return err
		}},

		"an idempotency key": {do: func(ctx context.Context) error {
			if _, err := s.Keys.Claim(ctx, livestream.IdempotencyClaim{UserID: member, Operation: "op", Key: "key", RequestHash: []byte("x"), ResourceID: newID()}); err != nil {
				return err
			}
			return s.Keys.SaveResponse(ctx, member, "op", "key", 201, nil)
		}},
		"old idempotency keys": {rows: 500, do: func(ctx context.Context) error { _, err := s.Keys.DeleteOld(ctx, now(), 100); return err }},

		"an event of Stripe's": {do: func(ctx context.Context) error {
			if _, err := s.StripeEvents.Save(ctx, livestream.StripeEvent{ID: "evt_x", Type: "x", CreatedAt: now(), Payload: []byte("{}")}); err != nil {
				return err
			}
			return s.StripeEvents.MarkDelivered(ctx, "evt_x")
		}},
		"old events of Stripe's": {rows: 500, do: func(ctx context.Context) error {
			_, err := s.StripeEvents.DeleteOld(ctx, now().Add(time.Hour), 100)
			return err
		}},
	}
}
