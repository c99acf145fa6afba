// Package bigdata fills a database with a platform of the size that the targets are
// for, always with the same rows, for tests of query plans and for benchmarks.
package bigdata

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Members with a part of their own. All others follow about seven members, have a
// few notifications and seldom stream.
const (
	// Star is followed by everybody, has a hundredth of all streams, a fifth of all tips
	// and the fullest inbox.
	Star = 1
	// FirstCreator to LastCreator are followed by 15 % of all members each.
	FirstCreator, LastCreator = 2, 11
	// Collector follows a tenth of all members and pays a tenth of all tips.
	Collector = 12
)

// Sizes are the numbers of rows.
type Sizes struct {
	Users, Streams, LiveStreams, Archives, Transactions int
	// StarInbox are the notifications of Star, LongTimeline the events of stream 1.
	StarInbox, LongTimeline int
}

// SizesAt gives the sizes at a scale: 1 is 1 million members with 10 million
// follows, 200,000 streams and 100,000 archives.
func SizesAt(scale float64) Sizes {
	n := func(full int) int { return int(float64(full) * scale) }
	return Sizes{
		Users: n(1_000_000), Streams: n(200_000), LiveStreams: n(500), Archives: n(100_000), Transactions: n(200_000),
		StarInbox: n(100_000), LongTimeline: n(50_000),
	}
}

// MinScale is the least: it still has every member with a part, and a row of each kind.
const MinScale = 0.005

// UserID is the id of member n, counted from 1.
func UserID(n int) uuid.UUID { return id("a", n) }

// StreamID is the id of stream n, counted from 1. Later ones started later, and the
// last ones are live.
func StreamID(n int) uuid.UUID { return id("b", n) }

// ArchiveID is the id of archive n, of stream 2n.
func ArchiveID(n int) uuid.UUID { return id("c", n) }

// TransactionID is the id of payment n.
func TransactionID(n int) uuid.UUID { return id("d", n) }

func id(kind string, n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("019000000000700080%s0%012x", kind, n))
}

// kinds are the letters in the ids, by the word that stands for them in SQL:
// user!(n) is the id of member n.
var kinds = map[string]string{
	"user": "a", "stream": "b", "archive": "c", "transaction": "d", "session": "e", "upload": "f", "account": "1", "posting": "2", "notification": "3",
}

var idCall = regexp.MustCompile(`\b(\w+)!\(((?:[^()]|\([^()]*\))*)\)`)

func (s Sizes) sql(text string) string {
	text = idCall.ReplaceAllStringFunc(text, func(call string) string {
		m := idCall.FindStringSubmatch(call)
		return fmt.Sprintf("('019000000000700080%s0' || lpad(to_hex(%s), 12, '0'))::uuid", kinds[m[1]], m[2])
	})
	// Products of them are larger than an int.
	n := func(size int) string { return strconv.Itoa(size) + "::bigint" }
	return strings.NewReplacer(
		"{users}", n(s.Users), "{half}", n(s.Users/2), "{streams}", n(s.Streams), "{live}", n(s.LiveStreams), "{archives}", n(s.Archives),
		"{transactions}", n(s.Transactions), "{inbox}", n(s.StarInbox), "{timeline}", n(s.LongTimeline),
	).Replace(text)
}

// Options say how much to make.
type Options struct {
	// Scale of the rows, see SizesAt; at least 0.005.
	Scale float64
	// PasswordHash is every member's. Empty is one that no password has.
	PasswordHash string
	// Log, which may be nil, is told of each step and how long it took.
	Log func(step string, took time.Duration)
}

// Fill fills an empty database that has the product's schema, as a superuser. It
// goes past foreign keys, triggers and, until the end, indexes.
func Fill(ctx context.Context, url string, o Options) error {
	if o.Scale < MinScale {
		return fmt.Errorf("big data: scale %v is less than %v", o.Scale, MinScale)
	}
	if o.PasswordHash == "" {
		o.PasswordHash = "none"
	}
	sizes := SizesAt(o.Scale)
	f := filler{url: url, log: o.Log}
	indexes, err := f.indexes(ctx)
	if err != nil {
		return fmt.Errorf("big data: %w", err)
	}
	var drops []string
	var builds, loads []step
	var parted []string // one after the other: Postgres makes up the names of their parts
	for _, i := range indexes {
		drops = append(drops, i.drop)
		if i.parted {
			parted = append(parted, i.create)
		} else {
			builds = append(builds, step{"index " + i.name, i.create})
		}
	}
	for _, t := range tables {
		loads = append(loads, step{t.name, sizes.sql(strings.ReplaceAll(t.sql, "{hash}", strings.ReplaceAll(o.PasswordHash, "'", "''")))})
	}
	counts := step{"follow_counts", sizes.sql(followCounts)}
	for _, phase := range []struct {
		steps    []step
		parallel int
	}{{[]step{{"drop indexes", strings.Join(drops, ";")}}, 1}, {loads, parallel}, {append([]step{counts, {"indexes of parts", strings.Join(parted, ";")}}, builds...), parallel}, {[]step{{"analyze", "VACUUM ANALYZE"}}, 1}} {
		if err := f.run(ctx, phase.parallel, phase.steps); err != nil {
			return fmt.Errorf("big data: %w", err)
		}
	}
	return nil
}

// parallel is how many steps run at once: each keeps one core of the server busy.
const parallel = 2

type step struct{ name, sql string }

type filler struct {
	url string
	log func(string, time.Duration)
}

func (f filler) run(ctx context.Context, parallel int, steps []step) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, s := range steps {
		group.Go(func() error {
			began := time.Now()
			if err := f.exec(ctx, s.sql); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if f.log != nil {
				f.log(s.name, time.Since(began))
			}
			return nil
		})
	}
	return group.Wait()
}

func (f filler) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, setting := range []string{
		"session_replication_role = replica", // no triggers, of foreign keys neither
		"synchronous_commit = off", "statement_timeout = 0",
		"work_mem = '256MB'", "maintenance_work_mem = '512MB'", "max_parallel_maintenance_workers = 0",
	} {
		if _, err := conn.Exec(ctx, "SET "+setting); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, sql)
	return err
}

type index struct {
	name, drop, create string
	parted             bool // of a partitioned table
}

// indexes gives all that can be built after the rows are there: those that no
// foreign key needs.
func (f filler) indexes(ctx context.Context) ([]index, error) {
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, `
SELECT i.indexrelid::regclass::text AS name,
	CASE WHEN c.oid IS NULL THEN format('DROP INDEX %s', i.indexrelid::regclass) ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', i.indrelid::regclass, c.conname) END AS drop,
	CASE WHEN c.oid IS NULL THEN replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', i.indrelid::regclass, c.conname, pg_get_constraintdef(c.oid)) END AS create,
	t.relkind = 'p' AS parted
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u')
WHERE n.nspname = 'public' AND NOT t.relispartition AND t.relname <> 'goose_db_version'
	AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conindid = i.indexrelid AND f.contype = 'f')
ORDER BY t.relname <> 'follows', 1`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (i index, err error) {
		err = row.Scan(&i.name, &i.drop, &i.create, &i.parted)
		return i, err
	})
}
