package httpapi

import (
	livestream "github.com/livestream-pro/livestream-pro"
)

// pageOf reads which page of a list is asked for.
func pageOf(limit *Limit, cursor *Cursor) (livestream.Page, error) {
	page := livestream.Page{Limit: livestream.DefaultPageLimit}
	if limit != nil {
		page.Limit = *limit
	}
	if cursor != nil {
		after, err := livestream.ParseCursor(*cursor)
		if err != nil {
			return page, err
		}
		page.After = after
	}
	return page, nil
}

// each converts a list's entries. The result is never nil: an empty list is [].
func each[From, To any](from []From, convert func(From) To) []To {
	to := make([]To, len(from))
	for i, v := range from {
		to[i] = convert(v)
	}
	return to
}

func nextCursor(next *livestream.Cursor) *NextCursor { return optional(next, livestream.Cursor.String) }

// optional converts what may be missing.
func optional[From, To any](from *From, convert func(From) To) *To {
	if from == nil {
		return nil
	}
	to := convert(*from)
	return &to
}

// value is what a client gave, or what holds when it gave nothing.
func value[T any](given *T, otherwise T) T {
	if given == nil {
		return otherwise
	}
	return *given
}

// notEmpty is null for an empty text.
func notEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
