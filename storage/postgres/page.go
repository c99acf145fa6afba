package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Lists are read one row beyond the page, which says whether there is a next.
func fetchLimit(page livestream.Page) int { return page.Limit + 1 }

// listOf makes a page of the rows that were fetched; place is a row's sort key.
func listOf[T any](rows []T, page livestream.Page, place func(T) livestream.Cursor) livestream.List[T] {
	list := livestream.List[T]{Data: rows}
	if len(rows) > page.Limit {
		list.Data = rows[:page.Limit]
		cursor := place(list.Data[page.Limit-1])
		list.Next = &cursor
	}
	return list
}

// afterTime gives a cursor's sort key for lists that run from the newest on; the
// first page has none.
func afterTime(page livestream.Page) (*time.Time, *uuid.UUID) {
	if page.After == nil {
		return nil, nil
	}
	return &page.After.Time, &page.After.ID
}

// afterNumber is the same for lists that run by a number.
func afterNumber(page livestream.Page) *int64 {
	if page.After == nil {
		return nil
	}
	return &page.After.Number
}

// query puts together the conditions that a list was asked for.
type query struct {
	conditions []string
	args       []any
}

// where adds a condition; each %s in it becomes the placeholder of an argument.
func (q *query) where(condition string, args ...any) {
	places := make([]any, len(args))
	for i, arg := range args {
		q.args = append(q.args, arg)
		places[i] = fmt.Sprintf("$%d", len(q.args))
	}
	q.conditions = append(q.conditions, fmt.Sprintf(condition, places...))
}

func (q *query) sql(from, order string, limit int) string {
	sql := from
	if len(q.conditions) > 0 {
		sql += " WHERE " + strings.Join(q.conditions, " AND ")
	}
	q.args = append(q.args, limit)
	return fmt.Sprintf("%s ORDER BY %s LIMIT $%d", sql, order, len(q.args))
}
