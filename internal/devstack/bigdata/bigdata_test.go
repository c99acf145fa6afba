package bigdata_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack/bigdata"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// What goes past foreign keys, triggers and indexes must be as if it had not.
// Parts have the indexes of their table, and there are more parts after a fill.
const indexes = "SELECT count(*) FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition"

func TestFill(t *testing.T) {
	t.Parallel()
	ctx := testenv.Context(t)
	fill := func() *pgx.Conn {
		url := testenv.Database(t)
		before := number(t, url, indexes)
		require.NoError(t, bigdata.Fill(ctx, url, bigdata.Options{Scale: bigdata.MinScale}))
		require.Equal(t, before, number(t, url, indexes), "all indexes are back")
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close(ctx) })
		return conn
	}
	one, two := fill(), fill()
	scan := func(conn *pgx.Conn, sql string, args ...any) (n int64) {
		t.Helper()
		require.NoError(t, conn.QueryRow(ctx, sql, args...).Scan(&n))
		return n
	}

	sizes := bigdata.SizesAt(bigdata.MinScale)
	for table, want := range map[string]int{"users": sizes.Users, "streams": sizes.Streams, "transactions": sizes.Transactions} {
		require.EqualValues(t, want, scan(one, "SELECT count(*) FROM "+table), table)
	}
	require.InDelta(t, 10*sizes.Users, scan(one, "SELECT count(*) FROM follows"), float64(sizes.Users))
	require.InDelta(t, sizes.Archives, scan(one, "SELECT count(*) FROM archives"), float64(sizes.Archives)/10)
	require.EqualValues(t, sizes.Users-1, scan(one, "SELECT followers FROM follow_counts WHERE user_id = $1", bigdata.UserID(bigdata.Star)))
	require.EqualValues(t, 1, scan(one, "SELECT count(*) FROM archives WHERE id = $1 AND stream_id = $2", bigdata.ArchiveID(7), bigdata.StreamID(14)))
	require.EqualValues(t, 1, scan(one, "SELECT count(*) FROM transactions WHERE id = $1", bigdata.TransactionID(7)))

	// Each foreign key, as a query for rows that lead nowhere.
	rows, err := one.Query(ctx, `
SELECT format('SELECT count(*) FROM %s c WHERE (%s) IS NOT NULL AND NOT EXISTS (SELECT FROM %s p WHERE (%s) = (%s))', f.conrelid::regclass,
	(SELECT string_agg(format('c.%I', a.attname), ', ' ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY k (id, n) JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.id), f.confrelid::regclass,
	(SELECT string_agg(format('p.%I', a.attname), ', ' ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY k (id, n) JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.id),
	(SELECT string_agg(format('c.%I', a.attname), ', ' ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY k (id, n) JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.id))
FROM pg_constraint f WHERE f.contype = 'f'`)
	require.NoError(t, err)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(keys), 15)
	for _, key := range keys {
		require.Zero(t, scan(one, key), key)
	}
	require.Zero(t, scan(one, "SELECT count(*) FROM (SELECT FROM ledger_entries GROUP BY ledger_transaction_id HAVING sum(amount) <> 0) off"), "the ledger is balanced")
	require.Zero(t, scan(one, `SELECT count(*) FROM follow_counts c WHERE followers <> (SELECT count(*) FROM follows WHERE following_id = user_id)
		OR following <> (SELECT count(*) FROM follows WHERE follower_id = user_id)`), "follows are counted")
	require.Zero(t, scan(one, "SELECT count(*) FROM inboxes i WHERE last_seq <> (SELECT max(seq) FROM notifications n WHERE n.user_id = i.user_id)"), "inboxes are numbered")

	for _, table := range []string{"users", "follows", "streams", "archives", "notifications", "transactions"} {
		digest := "SELECT sum(hashtext(t::text)) FROM " + table + " t"
		require.Equal(t, scan(one, digest), scan(two, digest), "%s are the same each time", table)
	}

	// The product takes it from here.
	db, err := postgres.Open(ctx, postgres.Config{URL: one.Config().ConnString()})
	require.NoError(t, err)
	defer db.Close()
	fresh, err := postgres.NewFollows(db).Follow(ctx, bigdata.UserID(3), bigdata.UserID(bigdata.Star))
	require.NoError(t, err)
	require.Nil(t, fresh, "everybody follows the star")
	require.Error(t, bigdata.Fill(ctx, one.Config().ConnString(), bigdata.Options{Scale: bigdata.MinScale / 2}))
}

func number(t *testing.T, url, sql string) (n int64) {
	t.Helper()
	ctx := testenv.Context(t)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	require.NoError(t, conn.QueryRow(ctx, sql).Scan(&n))
	return n
}
