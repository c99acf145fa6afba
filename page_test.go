package livestream_test

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestCursorComesBackAsItWas(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("018f3b1e-0000-7000-8000-000000000001")
	for name, cursor := range map[string]livestream.Cursor{
		"nothing":       {},
		"by time":       {Time: time.Date(2026, 2, 3, 4, 5, 6, 789_012_000, time.UTC), ID: id},
		"by number":     {Number: 42, ID: id},
		"below zero":    {Number: -1},
		"largest":       {Number: math.MaxInt64, ID: uuid.Max},
		"the last year": {Time: time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)},
	} {
		text := cursor.String()
		require.Regexp(t, `^[A-Za-z0-9_-]+$`, text, "it fits in an address as it is")
		got, err := livestream.ParseCursor(text)
		require.NoError(t, err, name)
		require.Equal(t, &cursor, got, name)
	}
	// Postgres keeps microseconds, and so does a cursor; its zone is UTC.
	local := livestream.Cursor{Time: time.Date(2026, 2, 3, 4, 5, 6, 789_012_345, time.FixedZone("", 3600))}
	got, err := livestream.ParseCursor(local.String())
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 2, 3, 3, 5, 6, 789_012_000, time.UTC), got.Time)
}

func TestCursorsThatWeDidNotGive(t *testing.T) {
	t.Parallel()
	good := livestream.Cursor{Time: time.Now(), ID: uuid.New()}.String()
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	with := func(at int, value byte) string {
		changed := append([]byte{}, raw...)
		changed[at] = value
		return base64.RawURLEncoding.EncodeToString(changed)
	}
	for name, text := range map[string]string{
		"nothing":               "",
		"too short":             good[:len(good)-1],
		"too long":              good + "AAAA",
		"padded":                good + "=",
		"with a line break":     good[:8] + "\n" + good[8:],
		"not base64":            strings.Repeat("!", len(good)),
		"another version":       with(0, 2),
		"a time before 1970":    with(1, 0xff),
		"a time after the last": with(1, 0x7f),
	} {
		_, err := livestream.ParseCursor(text)
		require.Equal(t, livestream.CodeInvalidRequest, livestream.CodeOf(err), name)
		var e *livestream.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "cursor", e.Fields[0].Field, name)
	}
}

// Each place in a list has one cursor, and none is a time that the database
// refuses.
func FuzzParseCursor(f *testing.F) {
	f.Add("")
	f.Add(livestream.Cursor{}.String())
	f.Add(livestream.Cursor{Time: time.Unix(1_700_000_000, 0), Number: -5, ID: uuid.Max}.String())
	f.Fuzz(func(t *testing.T, text string) {
		cursor, err := livestream.ParseCursor(text)
		if err != nil {
			require.Equal(t, livestream.CodeInvalidRequest, livestream.CodeOf(err))
			require.Nil(t, cursor)
			return
		}
		require.Equal(t, text, cursor.String())
		require.Less(t, cursor.Time.Year(), 10_000)
	})
}
