package postgres_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// statements remembers the last statement that went through a store.
type statements struct{ last pgx.TraceQueryStartData }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, "-- name: ") {
		s.last = data
	}
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// plan is a node of what EXPLAIN says.
type plan struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Plans    []plan
}

func (p plan) walk(visit func(plan)) {
	visit(p)
	for _, child := range p.Plans {
		child.walk(visit)
	}
}

// fill makes a database in which reading a whole table shows: n rows of each kind,
// most of them one member's.
const fill = `
INSERT INTO users (id, username, email, display_name, password_hash)
	SELECT uuid_v7(), 'user' || n, n || '@example.com', 'user', 'hash' FROM generate_series(1, $n) n;
CREATE TABLE me AS SELECT id FROM users WHERE username = 'user1';
ANALYZE users, me;
INSERT INTO follows (follower_id, following_id) SELECT u.id, me.id FROM users u, me WHERE u.id <> me.id;
INSERT INTO follows (follower_id, following_id) SELECT me.id, u.id FROM users u, me WHERE u.id <> me.id;
INSERT INTO follow_counts SELECT id, 1, 1 FROM users;
INSERT INTO streams (id, user_id, title, category, status, ingest, viewer_count, started_at, ended_at)
	SELECT uuid_v7(), CASE WHEN n % 2 = 0 THEN me.id ELSE u.id END, 'title', 'music', 'ended', 'external', n, now() - n * interval '1 minute', now()
	FROM generate_series(1, $n) n JOIN users u ON u.username = 'user' || n CROSS JOIN me;
INSERT INTO streams (id, user_id, title, category, status, ingest, started_at)
	SELECT uuid_v7(), id, 'title', 'music', 'live', 'external', now() - interval '1 year' FROM users LIMIT 30;
INSERT INTO archives (id, stream_id, user_id, title) SELECT uuid_v7(), id, user_id, title FROM streams;
INSERT INTO stream_events (stream_id, seq, key, type, at)
	SELECT s.id, n, n, 'live', now() FROM (SELECT id FROM streams LIMIT 1) s, generate_series(1, $n) n;
INSERT INTO inboxes SELECT id, $n FROM users;
INSERT INTO notification_settings SELECT id FROM users;
INSERT INTO uploads (id, stream_id, key, storage_id, content_type, size_bytes, part_size)
	SELECT uuid_v7(), id, 'key', 'id', 'video/mp4', 1, 1 FROM streams;
INSERT INTO notifications (user_id, seq, key, type, data, read)
	SELECT me.id, n, n, 'new_follower', '{}', n % 100 <> 0 FROM me, generate_series(1, $n) n;
INSERT INTO notifications (user_id, seq, key, type, data) SELECT u.id, 1, 'all', 'new_follower', '{}' FROM users u, me WHERE u.id <> me.id;
INSERT INTO transactions (id, kind, amount, currency, sender_id, recipient_id, workflow_id, status, settled_at)
	SELECT uuid_v7(), 'tip', 500, 'eur', me.id, u.id, u.id::text, 'succeeded', now() FROM users u, me WHERE u.id <> me.id;
INSERT INTO transactions (id, kind, amount, currency, sender_id, recipient_id, workflow_id)
	SELECT uuid_v7(), 'tip', 500, 'eur', u.id, me.id, u.id::text FROM users u, me WHERE u.id <> me.id;
INSERT INTO ledger_accounts (kind, user_id, currency)
	SELECT kind, id, 'eur' FROM users, (VALUES ('card'), ('creator_pending')) k (kind);
INSERT INTO ledger_transactions (id, transaction_id, kind, posted_at) SELECT id, id, 'settlement', now() FROM transactions;
INSERT INTO ledger_entries (ledger_transaction_id, account_id, amount, currency)
	SELECT t.id, a.id, CASE a.kind WHEN 'card' THEN -500 ELSE 500 END, 'eur' FROM transactions t
	JOIN ledger_accounts a ON a.owner = t.sender_id AND a.kind = 'card' OR a.owner = t.recipient_id AND a.kind = 'creator_pending';`

// S3: no list scans a whole table, on its first page or on a later one, however it
// is narrowed.
func TestEveryListReadsAnIndex(t *testing.T) {
	t.Parallel()
	seen := &statements{}
	s, ctx := storeAt(t, postgres.Config{URL: testenv.Database(t), Tracer: seen}), testenv.Context(t)
	s.MustExec(t, strings.ReplaceAll(fill, "$n", "5000")) // one transaction
	s.MustExec(t, "VACUUM ANALYZE")
	conn, err := pgx.Connect(ctx, s.URL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var me, other, stream uuid.UUID
	require.NoError(t, conn.QueryRow(ctx, `SELECT id, (SELECT id FROM users WHERE username = 'user2'), (SELECT stream_id FROM stream_events LIMIT 1)
		FROM me`).Scan(&me, &other, &stream))

	// explain runs the last statement again, and tells how.
	explain := func(t *testing.T) plan {
		t.Helper()
		var out []byte
		require.NoError(t, conn.QueryRow(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+seen.last.SQL, seen.last.Args...).Scan(&out))
		var plans []struct{ Plan plan }
		require.NoError(t, json.Unmarshal(out, &plans))
		return plans[0].Plan
	}
	const limit = 20
	requireBounded := func(t *testing.T, most float64) {
		t.Helper()
		p := explain(t)
		tree, err := json.MarshalIndent(p, "", " ")
		require.NoError(t, err)
		read := 0.0
		p.walk(func(p plan) {
			require.NotEqual(t, "Seq Scan", p.Type, "%s\n%s", seen.last.SQL, tree)
			if p.Relation != "" {
				read += (p.Rows + p.Removed) * max(p.Loops, 1)
			}
		})
		require.LessOrEqual(t, read, most, "%s\n%s", seen.last.SQL, tree)
	}
	// A page is read, and a few rows for each of its rows.
	page := func(t *testing.T, list func(livestream.Page) (*livestream.Cursor, error)) {
		t.Helper()
		next, err := list(livestream.Page{Limit: limit})
		require.NoError(t, err)
		requireBounded(t, 5*limit)
		if next != nil {
			_, err = list(livestream.Page{Limit: limit, After: next})
			require.NoError(t, err)
			requireBounded(t, 5*limit)
		}
	}

	statusLive, statusEnded, starting, music := livestream.StreamLive, livestream.StreamEnded, livestream.StreamStarting, "music"
	for name, filter := range map[string]livestream.StreamFilter{
		"all": {}, "live": {Status: &statusLive}, "ended": {Status: &statusEnded}, "none": {Status: &starting}, "member": {UserID: &me},
		"category": {Category: &music}, "live in a category": {Category: &music, Status: &statusLive}, "none in a category": {Category: &music, Status: &starting},
		"member's in a category": {Category: &music, UserID: &me}, "all three": {Category: &music, UserID: &me, Status: &statusEnded},
	} {
		for _, sort := range []livestream.StreamSort{livestream.SortStartedAt, livestream.SortViewers} {
			t.Run("streams "+name+" by "+string(sort), func(t *testing.T) {
				filter.Sort = sort
				page(t, func(p livestream.Page) (*livestream.Cursor, error) {
					l, err := s.Streams.List(ctx, filter, p)
					return l.Next, err
				})
			})
		}
	}
	ready, processing := livestream.ArchiveReady, livestream.ArchiveProcessing
	for name, filter := range map[string]livestream.ArchiveFilter{
		"all": {}, "processing": {Status: &processing}, "none": {Status: &ready}, "member": {UserID: &me}, "stream": {StreamID: &stream},
	} {
		t.Run("archives "+name, func(t *testing.T) {
			page(t, func(p livestream.Page) (*livestream.Cursor, error) {
				l, err := s.Archives.List(ctx, filter, p)
				return l.Next, err
			})
		})
	}
	succeeded, failed := livestream.TransactionSucceeded, livestream.TransactionFailed
	for name, filter := range map[string]livestream.TransactionFilter{
		"all": {UserID: me}, "paid": {UserID: me, Status: &succeeded}, "none": {UserID: me, Status: &failed},
	} {
		t.Run("transactions "+name, func(t *testing.T) {
			page(t, func(p livestream.Page) (*livestream.Cursor, error) {
				l, err := s.Transactions.List(ctx, filter, p)
				return l.Next, err
			})
		})
	}
	for name, list := range map[string]func(livestream.Page) (*livestream.Cursor, error){
		"followers": func(p livestream.Page) (*livestream.Cursor, error) {
			l, err := s.Follows.Followers(ctx, me, p)
			return l.Next, err
		},
		"following": func(p livestream.Page) (*livestream.Cursor, error) {
			l, err := s.Follows.Following(ctx, me, p)
			return l.Next, err
		},
		"timeline": func(p livestream.Page) (*livestream.Cursor, error) {
			l, err := s.Streams.Timeline(ctx, stream, p)
			return l.Next, err
		},
		"notifications": func(p livestream.Page) (*livestream.Cursor, error) {
			l, err := s.Notifications.List(ctx, me, false, p)
			return l.Next, err
		},
		"unread": func(p livestream.Page) (*livestream.Cursor, error) {
			l, err := s.Notifications.List(ctx, me, true, p)
			return l.Next, err
		},
	} {
		t.Run(name, func(t *testing.T) { page(t, list) })
	}
	for name, read := range map[string]func() error{
		"user":        func() error { _, err := s.Users.ByID(ctx, me); return err },
		"credentials": func() error { _, err := s.Users.CredentialsByEmail(ctx, "77@example.com"); return err },
		"stream":      func() error { _, err := s.Streams.ByID(ctx, stream); return err },
		"abandoned":   func() error { _, err := s.Recordings.Abandoned(ctx, stream); return err },
		"since":       func() error { _, err := s.Notifications.Since(ctx, me, 17, limit); return err },
		"last seq":    func() error { _, err := s.Notifications.LastSeq(ctx, me); return err },
		"recipients":  func() error { _, err := s.Notifications.ForRecipients(ctx, "77", []uuid.UUID{me, stream}); return err },
		"balances":    func() error { _, err := s.Transactions.Balances(ctx, other); return err },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, read())
			requireBounded(t, 5*limit)
		})
	}

	live := livestream.GoLive{StreamID: stream, CreatorID: me, Before: now()}
	t.Run("plan of a fan-out", func(t *testing.T) {
		ranges, err := s.Notifications.PlanRanges(ctx, live, uuid.Nil, 10, 3)
		require.NoError(t, err)
		require.Len(t, ranges, 3)
		requireBounded(t, 31)
		explain(t).walk(func(p plan) {
			if p.Relation == "follows" {
				require.Equal(t, "Index Only Scan", p.Type)
				require.Equal(t, "follows_following_id", p.Index)
			}
		})
		told, err := s.Notifications.NotifyRange(ctx, live, ranges[2])
		require.NoError(t, err)
		require.EqualValues(t, 10, told)
		requireBounded(t, 150)
	})
}
