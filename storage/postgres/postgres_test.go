package postgres_test

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// store is a database of a test's own, with everything that is kept in it. Its URL is
// the server's own.
type store struct {
	*postgres.DB
	URL           string
	Users         *postgres.Users
	Sessions      *postgres.Sessions
	Follows       *postgres.Follows
	Streams       *postgres.Streams
	Recordings    *postgres.Recordings
	Archives      *postgres.Archives
	Notifications *postgres.Notifications
	Browsers      *postgres.PushSubscriptions
	Transactions  *postgres.Transactions
	Refunds       *postgres.Refunds
	Disputes      *postgres.Disputes
	Keys          *postgres.IdempotencyKeys
	StripeEvents  *postgres.StripeEvents
}

func newStore(tb testing.TB) *store {
	tb.Helper()
	// What waits for a machine that is busy with other tests fails nothing.
	return storeAt(tb, postgres.Config{URL: testenv.Database(tb), StatementTimeout: time.Minute, LockTimeout: time.Minute})
}

func storeAt(tb testing.TB, config postgres.Config) *store {
	tb.Helper()
	direct := config.URL
	if *pooler != "" {
		config.URL = pooled(tb, config.URL)
	}
	db, err := postgres.Open(testenv.Context(tb), config)
	require.NoError(tb, err)
	tb.Cleanup(db.Close)
	return &store{
		DB: db, URL: direct, Browsers: postgres.NewPushSubscriptions(db), Users: postgres.NewUsers(db), Sessions: postgres.NewSessions(db), Follows: postgres.NewFollows(db),
		Streams: postgres.NewStreams(db), Recordings: postgres.NewRecordings(db), Archives: postgres.NewArchives(db),
		Notifications: postgres.NewNotifications(db), Transactions: postgres.NewTransactions(db), Refunds: postgres.NewRefunds(db), Disputes: postgres.NewDisputes(db), Keys: postgres.NewIdempotencyKeys(db),
		StripeEvents: postgres.NewStripeEvents(db),
	}
}

// MustExec runs SQL past the stores, as somebody with a prompt would.
func (s *store) MustExec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	require.NoError(tb, s.Exec(tb, sql, args...))
}

func (s *store) Exec(tb testing.TB, sql string, args ...any) error {
	tb.Helper()
	ctx := testenv.Context(tb)
	conn, err := pgx.Connect(ctx, s.URL)
	require.NoError(tb, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// Number reads one number past the stores.
func (s *store) Number(tb testing.TB, sql string, args ...any) int64 {
	tb.Helper()
	ctx := testenv.Context(tb)
	conn, err := pgx.Connect(ctx, s.URL)
	require.NoError(tb, err)
	defer conn.Close(ctx)
	var n int64
	require.NoError(tb, conn.QueryRow(ctx, sql, args...).Scan(&n))
	return n
}

func newID(tb testing.TB) uuid.UUID {
	tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(tb, err)
	return id
}

// testClockTolerance is how far the clocks of a test and of its database may differ.
const testClockTolerance = 5 * time.Second

// hold is how long a creator's part of a payment stays pending.
const hold = 7 * 24 * time.Hour

// now is a time that Postgres keeps as it is.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// someone is a member whom nobody has heard of.
func someone(tb testing.TB) livestream.NewUser {
	name := "u" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20]
	return livestream.NewUser{ID: newID(tb), Username: name, Email: name + "@example.com", DisplayName: name, PasswordHash: "hash"}
}

func (s *store) MustCreateUser(tb testing.TB) livestream.User {
	tb.Helper()
	user, err := s.Users.Create(testenv.Context(tb), someone(tb))
	require.NoError(tb, err)
	return user
}

// MustCreateFollowers makes n members who follow a creator, in the order of their
// ids.
func (s *store) MustCreateFollowers(tb testing.TB, creator uuid.UUID, n int) []uuid.UUID {
	tb.Helper()
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = newID(tb)
	}
	s.MustExec(tb, `INSERT INTO users (id, username, email, display_name, password_hash)
		SELECT id, 'f' || left(md5(id::text), 20), id || '@example.com', 'follower', 'hash' FROM unnest($1::uuid[]) id`, ids)
	s.MustExec(tb, `INSERT INTO follows (follower_id, following_id) SELECT id, $2 FROM unnest($1::uuid[]) id`, ids, creator)
	s.MustExec(tb, `INSERT INTO follow_counts AS c (user_id, followers) VALUES ($1, $2)
		ON CONFLICT (user_id) DO UPDATE SET followers = c.followers + EXCLUDED.followers`, creator, n)
	return ids
}

func newStream(tb testing.TB, user uuid.UUID) livestream.NewStream {
	return livestream.NewStream{ID: newID(tb), UserID: user, Title: "A title", Ingest: livestream.IngestExternal, Record: true}
}

func (s *store) MustCreateStream(tb testing.TB, user uuid.UUID) livestream.Stream {
	tb.Helper()
	stream, err := s.Streams.Create(testenv.Context(tb), newStream(tb, user), now())
	require.NoError(tb, err)
	return stream
}

// MustCreateEnded makes a stream that is over, with its viewers.
func (s *store) MustCreateEnded(tb testing.TB, user uuid.UUID, viewers int64) livestream.Stream {
	tb.Helper()
	stream, err := s.Streams.Finish(testenv.Context(tb), s.MustCreateStream(tb, user).ID, now(), viewers, viewers)
	require.NoError(tb, err)
	return stream
}

func newUpload(tb testing.TB, stream uuid.UUID) livestream.Upload {
	id := newID(tb)
	return livestream.Upload{
		ID: id, StreamID: stream, Key: "recordings/" + id.String(), StorageID: "storage's own", ContentType: "video/mp4",
		SizeBytes: 40 << 20, PartSize: livestream.MinRecordingPart,
	}
}

func (s *store) MustCreateUpload(tb testing.TB, stream uuid.UUID) livestream.Upload {
	tb.Helper()
	upload := newUpload(tb, stream)
	require.NoError(tb, s.Recordings.Create(testenv.Context(tb), upload))
	return upload
}

// MustCreateArchive makes a stream that is over and the archive of its recording.
func (s *store) MustCreateArchive(tb testing.TB, user uuid.UUID) livestream.Archive {
	tb.Helper()
	upload := s.MustCreateUpload(tb, s.MustCreateEnded(tb, user, 0).ID)
	archive, err := s.Recordings.Complete(testenv.Context(tb), upload.ID, newID(tb), now())
	require.NoError(tb, err)
	return archive
}

func newTip(tb testing.TB, sender, recipient uuid.UUID, amount int64) livestream.NewTransaction {
	id := newID(tb)
	return livestream.NewTransaction{
		ID: id, WorkflowID: "payment/" + id.String(), Kind: livestream.KindTip, Amount: amount, Currency: "eur",
		SenderID: sender, RecipientID: recipient, Message: "well done",
	}
}

func (s *store) MustCreateTip(tb testing.TB, sender, recipient uuid.UUID, amount int64) livestream.Transaction {
	tb.Helper()
	tip, err := s.Transactions.Create(testenv.Context(tb), newTip(tb, sender, recipient, amount), livestream.TipLimits{})
	require.NoError(tb, err)
	return tip
}

// requireCode says which error a client would see.
func requireCode(tb testing.TB, want livestream.Code, err error) {
	tb.Helper()
	require.Equal(tb, want, livestream.CodeOf(err), "%v", err)
}

// requireRefused says which constraint refused an SQL statement.
func requireRefused(tb testing.TB, constraint string, err error) {
	tb.Helper()
	var refused *pgconn.PgError
	require.ErrorAs(tb, err, &refused)
	require.Equal(tb, constraint, refused.ConstraintName, "%v", err)
}

// race runs n calls at the same moment, and gives their errors.
func race(n int, call func(i int) error) []error {
	errs, start := make([]error, n), make(chan struct{})
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	wait.Wait()
	return errs
}

// codes counts what the calls of a race gave; the empty code is success.
func codes(errs []error) map[livestream.Code]int {
	count := map[livestream.Code]int{}
	for _, err := range errs {
		count[livestream.CodeOf(err)]++
	}
	return count
}

// readAll reads a list to its end, limit rows at a time, each cursor through the
// form that clients pass back.
func readAll[T any](tb testing.TB, limit int, list func(livestream.Page) (livestream.List[T], error)) []T {
	tb.Helper()
	var data []T
	page := livestream.Page{Limit: limit}
	for {
		got, err := list(page)
		require.NoError(tb, err)
		require.LessOrEqual(tb, len(got.Data), limit)
		data = append(data, got.Data...)
		if got.Next == nil {
			return data
		}
		require.Len(tb, got.Data, limit, "a page that is not the last is full")
		page.After, err = livestream.ParseCursor(got.Next.String())
		require.NoError(tb, err)
		require.Less(tb, len(data), 10_000, "the list does not end")
	}
}

func collect[T, R any](list []T, of func(T) R) []R {
	out := make([]R, len(list))
	for i, item := range list {
		out[i] = of(item)
	}
	return out
}

// proxied gives another address for a database, with a wire in between that can be
// cut.
func proxied(tb testing.TB, database string) (string, *toxiproxy.Proxy) {
	tb.Helper()
	address, err := url.Parse(database)
	require.NoError(tb, err)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "postgres", "127.0.0.1:0", address.Host)
	require.NoError(tb, proxy.Start())
	tb.Cleanup(proxy.Stop)
	address.Host = proxy.Listen
	return address.String(), proxy
}

// closedPort is an address where nobody listens.
func closedPort(tb testing.TB) string {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer listener.Close()
	return listener.Addr().String()
}
