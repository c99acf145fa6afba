package stripesim

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
)

// object is what the API keeps.
type object interface {
	key() string
	made() int64 // seconds since 1970
	intent() string
}

// shelf keeps the objects of one kind, in the order in which they were made.
type shelf[T object] struct {
	byID  map[string]T
	order []string
}

func (s *shelf[T]) put(o T) {
	if s.byID == nil {
		s.byID = map[string]T{}
	}
	if _, known := s.byID[o.key()]; !known {
		s.order = append(s.order, o.key())
	}
	s.byID[o.key()] = o
}

func (s *shelf[T]) get(id string) (T, bool) {
	o, ok := s.byID[id]
	return o, ok
}

// all lists the oldest first.
func (s *shelf[T]) all() []T {
	out := make([]T, 0, len(s.order))
	for _, id := range s.order {
		out = append(out, s.byID[id])
	}
	return out
}

// copies is all, by value.
func copies[T any](pointers []*T) []T {
	out := make([]T, 0, len(pointers))
	for _, p := range pointers {
		out = append(out, *p)
	}
	return out
}

var listParameters = []string{"created", "limit", "starting_after"}

const defaultLimit, maxLimit = 10, 100

// page answers a list: the newest first.
func page[T object](s *shelf[T], path string, form url.Values) (int, any) {
	limit := defaultLimit
	if text := form.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return invalid("parameter_invalid_integer", "Limit must be from 1 to 100.", "limit")
		}
		limit = n
	}
	newest := slices.Clone(s.order)
	slices.Reverse(newest)
	if after := form.Get("starting_after"); after != "" {
		at := slices.Index(newest, after)
		if at < 0 {
			return invalid("resource_missing", "No such object: '"+after+"'", "starting_after")
		}
		newest = newest[at+1:]
	}
	within, err := createdWithin(form)
	if err != nil {
		return invalid("parameter_invalid_integer", "Invalid integer.", "created")
	}
	data := []T{}
	for _, id := range newest {
		o := s.byID[id]
		if within(o.made()) && (form.Get("payment_intent") == "" || form.Get("payment_intent") == o.intent()) {
			data = append(data, o)
		}
		if len(data) > limit {
			break
		}
	}
	more := len(data) > limit
	return http.StatusOK, map[string]any{"object": "list", "url": path, "has_more": more, "data": data[:min(len(data), limit)]}
}

// createdWithin reads created[gte], created[gt], created[lte] and created[lt].
func createdWithin(form url.Values) (func(int64) bool, error) {
	within := func(int64) bool { return true }
	for bound, holds := range map[string]func(at, limit int64) bool{
		"gte": func(at, limit int64) bool { return at >= limit }, "gt": func(at, limit int64) bool { return at > limit },
		"lte": func(at, limit int64) bool { return at <= limit }, "lt": func(at, limit int64) bool { return at < limit },
	} {
		text := form.Get("created[" + bound + "]")
		if text == "" {
			continue
		}
		limit, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		others := within
		within = func(at int64) bool { return holds(at, limit) && others(at) }
	}
	return within, nil
}

var metadataField = regexp.MustCompile(`^metadata\[(.+)\]$`)

func metadataOf(form url.Values) map[string]string {
	metadata := map[string]string{}
	for name, values := range form {
		if m := metadataField.FindStringSubmatch(name); m != nil {
			metadata[m[1]] = values[0]
		}
	}
	return metadata
}
