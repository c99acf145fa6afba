package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// timeline reads a stream's whole timeline and checks that it counts from 1
// without gaps.
func timeline(tb testing.TB, s *store, stream uuid.UUID) []livestream.StreamEvent {
	tb.Helper()
	ctx := testenv.Context(tb)
	events := readAll(tb, 7, func(page livestream.Page) (livestream.List[livestream.StreamEvent], error) {
		return s.Streams.Timeline(ctx, stream, page)
	})
	for i, event := range events {
		require.EqualValues(tb, i+1, event.Seq)
	}
	return events
}

func eventTypes(tb testing.TB, s *store, stream uuid.UUID) []livestream.StreamEventType {
	tb.Helper()
	return collect(timeline(tb, s, stream), func(e livestream.StreamEvent) livestream.StreamEventType { return e.Type })
}

func TestCreateStream(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user, at := s.MustCreateUser(t), now().Add(-time.Second)
	asked := newStream(t, user.ID)
	asked.Description, asked.Category, asked.Tags = "About the organ", "music", []string{"organ", "bach"}

	stream, err := s.Streams.Create(ctx, asked, at)
	require.NoError(t, err)
	require.WithinDuration(t, now(), stream.CreatedAt, testClockTolerance)
	require.Equal(t, livestream.Stream{
		ID: asked.ID, UserID: user.ID, Title: asked.Title, Description: asked.Description, Category: asked.Category, Tags: asked.Tags,
		Status: livestream.StreamLive, Ingest: livestream.IngestExternal, Record: true, StartedAt: &at, CreatedAt: stream.CreatedAt,
	}, stream)
	read, err := s.Streams.ByID(ctx, asked.ID)
	require.NoError(t, err)
	require.Equal(t, stream, read)

	events := timeline(t, s, asked.ID)
	require.Equal(t, []livestream.StreamEvent{
		{Seq: 1, Type: livestream.EventCreated, At: at, Data: []byte("{}")},
		{Seq: 2, Type: livestream.EventLive, At: at, Data: []byte("{}")},
	}, events)
}

// A stream that an encoder has yet to begin has no start, and is the first in
// lists.
func TestCreateStreamByRTMP(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	asked := newStream(t, s.MustCreateUser(t).ID)
	asked.Ingest = livestream.IngestRTMP
	stream, err := s.Streams.Create(ctx, asked, now())
	require.NoError(t, err)
	require.Equal(t, livestream.StreamStarting, stream.Status)
	require.Nil(t, stream.StartedAt)
	require.Equal(t, []livestream.StreamEventType{livestream.EventCreated}, eventTypes(t, s, asked.ID))

	at := now()
	stream, err = s.Streams.SetStatus(ctx, asked.ID, livestream.StreamLive, at, nil)
	require.NoError(t, err)
	require.Equal(t, &at, stream.StartedAt)
	stream, err = s.Streams.SetStatus(ctx, asked.ID, livestream.StreamLive, at.Add(time.Minute), nil)
	require.NoError(t, err)
	require.Equal(t, &at, stream.StartedAt, "a stream starts once")
}

func TestCreateStreamAgainChangesNothing(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	asked := newStream(t, user.ID)
	first, err := s.Streams.Create(ctx, asked, now())
	require.NoError(t, err)
	again, err := s.Streams.Create(ctx, asked, now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, first, again)

	ended, err := s.Streams.Finish(ctx, asked.ID, now(), 1, 2)
	require.NoError(t, err)
	s.MustCreateStream(t, user.ID)
	again, err = s.Streams.Create(ctx, asked, now())
	require.NoError(t, err, "it is over, and another one is under way")
	require.Equal(t, ended, again)
	require.Len(t, timeline(t, s, asked.ID), 3)
}

func TestCreateStreamErrors(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	_, err := s.Streams.Create(ctx, newStream(t, newID(t)), now())
	requireCode(t, livestream.CodeUserNotFound, err)

	user := s.MustCreateUser(t)
	stream := s.MustCreateStream(t, user.ID)
	refused := newStream(t, user.ID)
	deadline := now().Add(time.Minute)
	for _, status := range []livestream.StreamStatus{livestream.StreamLive, livestream.StreamReconnecting} {
		_, err = s.Streams.SetStatus(ctx, stream.ID, status, now(), nil)
		require.NoError(t, err)
		_, err = s.Streams.Create(ctx, refused, deadline)
		requireCode(t, livestream.CodeAlreadyStreaming, err)
	}
	_, err = s.Streams.ByID(ctx, refused.ID)
	requireCode(t, livestream.CodeStreamNotFound, err)
	require.Empty(t, timeline(t, s, refused.ID))

	_, err = s.Streams.SetStatus(ctx, stream.ID, livestream.StreamEnding, now(), nil)
	require.NoError(t, err)
	_, err = s.Streams.Create(ctx, refused, now())
	require.NoError(t, err, "a stream that is ending leaves its creator free")
}

func TestOneOfManyStreamsOfACreatorStarts(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	streams := make([]livestream.NewStream, 50)
	for i := range streams {
		streams[i] = newStream(t, user.ID)
	}
	errs := race(len(streams), func(i int) error { _, err := s.Streams.Create(ctx, streams[i], now()); return err })
	require.Equal(t, map[livestream.Code]int{"": 1, livestream.CodeAlreadyStreaming: 49}, codes(errs))
	for i, err := range errs {
		_, read := s.Streams.ByID(ctx, streams[i].ID)
		require.Equal(t, err == nil, read == nil, "the one that was answered is the one that is there")
	}
}

func TestManyAttemptsAtOneStreamAllSucceed(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	for range 5 {
		asked := newStream(t, s.MustCreateUser(t).ID)
		for _, err := range race(20, func(int) error {
			stream, err := s.Streams.Create(ctx, asked, now())
			if err == nil && stream.ID != asked.ID {
				t.Error("another stream")
			}
			return err
		}) {
			require.NoError(t, err)
		}
		require.Len(t, timeline(t, s, asked.ID), 2)
	}
}

func TestStreamNotFound(t *testing.T) {
	t.Parallel()
	s, ctx, id := newStore(t), testenv.Context(t), newID(t)
	_, err := s.Streams.ByID(ctx, id)
	requireCode(t, livestream.CodeStreamNotFound, err)
	_, err = s.Streams.Update(ctx, id, newID(t), livestream.StreamPatch{})
	requireCode(t, livestream.CodeStreamNotFound, err)
	_, err = s.Streams.SetStatus(ctx, id, livestream.StreamEnding, now(), nil)
	requireCode(t, livestream.CodeStreamNotFound, err)
	_, err = s.Streams.Finish(ctx, id, now(), 0, 0)
	requireCode(t, livestream.CodeStreamNotFound, err)
	err = s.Streams.AppendEvent(ctx, livestream.NewStreamEvent{StreamID: id, Key: "k", Type: livestream.EventNotifyStarted})
	requireCode(t, livestream.CodeStreamNotFound, err)
}

func TestUpdateStream(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	stream := s.MustCreateStream(t, user.ID)

	title, tags := "Another title", []string{"a", "b"}
	changed, err := s.Streams.Update(ctx, stream.ID, user.ID, livestream.StreamPatch{Title: &title, Tags: &tags})
	require.NoError(t, err)
	stream.Title, stream.Tags = title, tags
	require.Equal(t, stream, changed, "what is not in the patch stays")

	description, category, none := "d", "c", []string(nil)
	changed, err = s.Streams.Update(ctx, stream.ID, user.ID, livestream.StreamPatch{Description: &description, Category: &category, Tags: &none})
	require.NoError(t, err)
	stream.Description, stream.Category, stream.Tags = description, category, []string{}
	require.Equal(t, stream, changed)

	_, err = s.Streams.Update(ctx, stream.ID, s.MustCreateUser(t).ID, livestream.StreamPatch{Title: &title})
	requireCode(t, livestream.CodeForbidden, err)
}

func TestStreamLife(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	at := now()
	deadline := at.Add(time.Minute)

	for range 2 {
		lost, err := s.Streams.SetStatus(ctx, stream.ID, livestream.StreamReconnecting, at, &deadline)
		require.NoError(t, err)
		require.Equal(t, livestream.StreamReconnecting, lost.Status)
		require.Equal(t, &deadline, lost.ReconnectDeadline)
	}
	for range 2 {
		back, err := s.Streams.SetStatus(ctx, stream.ID, livestream.StreamLive, at.Add(time.Second), nil)
		require.NoError(t, err)
		require.Equal(t, stream, back, "as it was before")
	}
	_, err := s.Streams.SetStatus(ctx, stream.ID, livestream.StreamEnding, at.Add(2*time.Second), nil)
	require.NoError(t, err)
	ended := at.Add(3 * time.Second)
	for viewers := range int64(2) {
		over, err := s.Streams.Finish(ctx, stream.ID, ended, 5+viewers, 9+viewers)
		require.NoError(t, err)
		stream.Status, stream.EndedAt, stream.ViewerCount, stream.PeakViewerCount = livestream.StreamEnded, &ended, 5, 9
		require.Equal(t, stream, over)
	}
	require.Equal(t, []livestream.StreamEventType{
		livestream.EventCreated, livestream.EventLive, livestream.EventReconnecting, livestream.EventLive, livestream.EventEnding, livestream.EventEnded,
	}, eventTypes(t, s, stream.ID))
	require.Equal(t, ended, timeline(t, s, stream.ID)[5].At)
}

// An attempt that was thought lost, and comes when the stream has gone on, changes
// nothing.
func TestLateAttemptDoesNotUndo(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	stream := s.MustCreateStream(t, user.ID)
	lost, deadline := now(), now().Add(time.Minute)
	set := func(status livestream.StreamStatus, at time.Time, deadline *time.Time) livestream.Stream {
		stream, err := s.Streams.SetStatus(ctx, stream.ID, status, at, deadline)
		require.NoError(t, err)
		return stream
	}
	set(livestream.StreamReconnecting, lost, &deadline)
	set(livestream.StreamLive, lost.Add(time.Second), nil)
	require.Equal(t, livestream.StreamLive, set(livestream.StreamReconnecting, lost, &deadline).Status)

	set(livestream.StreamEnding, lost.Add(2*time.Second), nil)
	s.MustCreateStream(t, user.ID) // would be in the way of the first one's return
	require.Equal(t, livestream.StreamEnding, set(livestream.StreamLive, lost.Add(3*time.Second), nil).Status)

	ended, err := s.Streams.Finish(ctx, stream.ID, now(), 1, 2)
	require.NoError(t, err)
	require.Equal(t, ended, set(livestream.StreamEnding, lost.Add(4*time.Second), nil))
	require.Len(t, timeline(t, s, stream.ID), 6)
}

func TestAppendEvent(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	event := livestream.NewStreamEvent{
		StreamID: stream.ID, Key: "once", Type: livestream.EventNotifyStarted, Data: map[string]any{"followers_total": 7},
	}
	for range 2 {
		require.NoError(t, s.Streams.AppendEvent(ctx, event))
	}
	events := timeline(t, s, stream.ID)
	require.Len(t, events, 3)
	require.Equal(t, livestream.EventNotifyStarted, events[2].Type)
	require.JSONEq(t, `{"followers_total": 7}`, string(events[2].Data))
	require.WithinDuration(t, now(), events[2].At, testClockTolerance)
}

// Fifty writers, each event from two of them, and a status in between: all of it
// is there once, numbered without gaps.
func TestAppendEventsAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	at := now()
	for _, err := range race(50, func(i int) error {
		if i == 0 {
			_, err := s.Streams.SetStatus(ctx, stream.ID, livestream.StreamReconnecting, at, nil)
			return err
		}
		return s.Streams.AppendEvent(ctx, livestream.NewStreamEvent{StreamID: stream.ID, Key: fmt.Sprint(i / 2), Type: livestream.EventArchiveStarted})
	}) {
		require.NoError(t, err)
	}
	require.Len(t, timeline(t, s, stream.ID), 2+1+25)
}

func TestListStreams(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	var all, live, ended []uuid.UUID
	for i := range 41 {
		id := s.MustCreateEnded(t, user.ID, int64(i/5)).ID // many with the same count
		ended = append(ended, id)
	}
	s.MustExec(t, "UPDATE streams SET started_at = '2026-01-01'") // all at the same time
	s.MustExec(t, "UPDATE streams SET category = 'music' WHERE viewer_count < 4")
	for range 5 {
		other := s.MustCreateUser(t)
		live = append(live, s.MustCreateStream(t, other.ID).ID)
	}
	starting := newStream(t, s.MustCreateUser(t).ID)
	starting.Ingest = livestream.IngestRTMP
	_, err := s.Streams.Create(ctx, starting, now())
	require.NoError(t, err)
	all = append(append(append(all, ended...), live...), starting.ID)

	list := func(filter livestream.StreamFilter) []livestream.Stream {
		return readAll(t, 4, func(page livestream.Page) (livestream.List[livestream.Stream], error) {
			return s.Streams.List(ctx, filter, page)
		})
	}
	id := func(s livestream.Stream) uuid.UUID { return s.ID }
	statusLive, statusEnded, music, nobody := livestream.StreamLive, livestream.StreamEnded, "music", newID(t)
	for name, c := range map[string]struct {
		filter livestream.StreamFilter
		want   []uuid.UUID
	}{
		"all":           {livestream.StreamFilter{}, all},
		"live":          {livestream.StreamFilter{Status: &statusLive}, live},
		"of a member":   {livestream.StreamFilter{UserID: &user.ID}, ended},
		"of nobody":     {livestream.StreamFilter{UserID: &nobody}, nil},
		"of a category": {livestream.StreamFilter{Category: &music}, ended[:20]},
		"narrowed":      {livestream.StreamFilter{Category: &music, UserID: &user.ID, Status: &statusEnded}, ended[:20]},
		"too narrow":    {livestream.StreamFilter{Category: &music, Status: &statusLive}, nil},
	} {
		for _, sort := range []livestream.StreamSort{"", livestream.SortStartedAt, livestream.SortViewers} {
			c.filter.Sort = sort
			require.ElementsMatch(t, c.want, collect(list(c.filter), id), "%s by %q", name, sort)
		}
	}

	byStart := list(livestream.StreamFilter{})
	require.Equal(t, starting.ID, byStart[0].ID, "what has not started comes first")
	for i := 2; i < len(byStart); i++ {
		require.False(t, byStart[i].StartedAt.After(*byStart[i-1].StartedAt))
	}
	byViewers := list(livestream.StreamFilter{Sort: livestream.SortViewers})
	require.EqualValues(t, 8, byViewers[0].ViewerCount)
	for i := 1; i < len(byViewers); i++ {
		require.LessOrEqual(t, byViewers[i].ViewerCount, byViewers[i-1].ViewerCount)
	}
}

// What belongs to a stream alone goes with it; money and archives keep it.
func TestDeletingAStream(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	const remove = "DELETE FROM streams WHERE id = $1"

	stream := s.MustCreateEnded(t, user.ID, 0)
	s.MustCreateUpload(t, stream.ID)
	require.NoError(t, s.Notifications.SaveProgress(ctx, stream.ID, livestream.NotifyProgress{Status: livestream.NotifyRunning}))
	s.MustExec(t, remove, stream.ID)
	require.Empty(t, timeline(t, s, stream.ID))

	archive := s.MustCreateArchive(t, user.ID)
	requireRefused(t, "archives_stream_id_fkey", s.Exec(t, remove, archive.StreamID))

	stream = s.MustCreateEnded(t, user.ID, 0)
	tip := newTip(t, s.MustCreateUser(t).ID, user.ID, 500)
	tip.StreamID = &stream.ID
	_, err := s.Transactions.Create(ctx, tip, livestream.TipLimits{})
	require.NoError(t, err)
	requireRefused(t, "transactions_stream_id_fkey", s.Exec(t, remove, stream.ID))
}
