package postgres

import (
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Where lists that go down begin: after every row that there can be; and those that
// go up.
var (
	lastTime  = pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	lastID    = uuid.Max
	firstTime = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
)

const lastNumber = int64(1<<63 - 1)

func limitOf(page livestream.Page) int {
	if page.Limit <= 0 {
		return livestream.DefaultPageLimit
	}
	return min(page.Limit, livestream.MaxPageLimit)
}

// beforeTime is the keyset of a list that is sorted by a time, newest first. A
// cursor without a time is one of a row whose time is infinity.
func beforeTime(page livestream.Page) (pgtype.Timestamptz, uuid.UUID) {
	switch {
	case page.After == nil:
		return lastTime, lastID
	case page.After.Time.IsZero():
		return lastTime, page.After.ID
	}
	return pgtype.Timestamptz{Time: page.After.Time, Valid: true}, page.After.ID
}

// afterTime is the keyset of a list that is sorted by a time, oldest first.
func afterTime(page livestream.Page) (pgtype.Timestamptz, uuid.UUID) {
	if page.After == nil {
		return firstTime, uuid.Nil
	}
	return pgtype.Timestamptz{Time: page.After.Time, Valid: true}, page.After.ID
}

// beforeNumber is the keyset of a list that is sorted by a number, highest first.
func beforeNumber(page livestream.Page) (int64, uuid.UUID) {
	if page.After == nil {
		return lastNumber, lastID
	}
	return page.After.Number, page.After.ID
}

// afterNumber is the keyset of a list that goes up from 1.
func afterNumber(page livestream.Page) int64 {
	if page.After == nil {
		return 0
	}
	return page.After.Number
}

// listOf makes a page of limit rows from one row more: whether that one is there
// says whether another page follows.
func listOf[R, T any](rows []R, limit int, domain func(R) T, cursor func(R) livestream.Cursor) livestream.List[T] {
	var list livestream.List[T]
	if len(rows) > limit {
		rows = rows[:limit]
		next := cursor(rows[limit-1])
		list.Next = &next
	}
	list.Data = all(rows, domain)
	return list
}

func all[R, T any](rows []R, domain func(R) T) []T {
	data := make([]T, len(rows))
	for i, row := range rows {
		data[i] = domain(row)
	}
	return data
}
