package activities_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// timeline takes each key once, as the real one does.
type timeline struct {
	activities.ArchiveStore
	lines map[string]any
}

func (l timeline) MarkProcessing(context.Context, uuid.UUID) error { return nil }
func (l timeline) AppendEvent(_ context.Context, event livestream.NewStreamEvent) error {
	if _, there := l.lines[event.Key]; !there {
		l.lines[event.Key] = event.Data["archive_id"]
	}
	return nil
}

func TestEachArchiveOfAStreamIsInItsTimeline(t *testing.T) {
	t.Parallel()
	l := timeline{lines: map[string]any{}}
	steps := &activities.Archives{Store: l, Timeline: l}
	stream, first, second := uuid.New(), uuid.New(), uuid.New()
	for _, archive := range []uuid.UUID{first, first, second} {
		require.NoError(t, steps.Begin(t.Context(), archive, stream, 1))
	}
	require.NoError(t, steps.Begin(t.Context(), second, stream, 2))
	count := map[any]int{}
	for _, archive := range l.lines {
		count[archive]++
	}
	require.Equal(t, map[any]int{first: 1, second: 2}, count)
}
