package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

var (
	media     = livestream.MediaInfo{DurationSeconds: 12.5, Width: 1280, Height: 720, VideoCodec: "h264"}
	corrupt   = livestream.Failure{Code: livestream.FailureCorrupt, Message: "The file is damaged."}
	qualities = livestream.Ladder(1280, 720)
)

func mustRead(tb testing.TB, s *store, id uuid.UUID) livestream.Archive {
	tb.Helper()
	archive, err := s.Archives.ByID(testenv.Context(tb), id)
	require.NoError(tb, err)
	return archive
}

func TestArchiveBecomesReady(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	archive := s.MustCreateArchive(t, s.MustCreateUser(t).ID)
	require.NoError(t, s.Archives.MarkProcessing(ctx, archive.ID))

	at := now()
	ready, err := s.Archives.MarkReady(ctx, archive.ID, media, qualities, 4711, at)
	require.NoError(t, err)
	archive.Status, archive.Progress, archive.DurationSeconds, archive.SizeBytes = livestream.ArchiveReady, 1, 12.5, 4711
	archive.Renditions, archive.ReadyAt = qualities, &at
	require.Equal(t, archive, ready)

	again, err := s.Archives.MarkReady(ctx, archive.ID, livestream.MediaInfo{}, nil, 0, now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, archive, again)
	require.Equal(t, archive, mustRead(t, s, archive.ID))
	stream, err := s.Streams.ByID(ctx, archive.StreamID)
	require.NoError(t, err)
	require.True(t, stream.ArchiveReady)

	events := timeline(t, s, archive.StreamID)
	require.Equal(t, livestream.EventArchiveReady, events[len(events)-1].Type)
	require.Equal(t, []livestream.StreamEventType{
		livestream.EventCreated, livestream.EventLive, livestream.EventEnded, livestream.EventRecordingReceived, livestream.EventArchiveReady,
	}, eventTypes(t, s, archive.StreamID))
}

func TestArchiveFailsAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	archive := s.MustCreateArchive(t, s.MustCreateUser(t).ID)
	require.NoError(t, s.Archives.SetProgress(ctx, archive.ID, 0.5))

	for range 2 {
		require.NoError(t, s.Archives.MarkFailed(ctx, archive.ID, corrupt, 1, now()))
		failed := mustRead(t, s, archive.ID)
		require.Equal(t, livestream.ArchiveFailed, failed.Status)
		require.Equal(t, &corrupt, failed.Failure)
	}
	for range 2 {
		require.NoError(t, s.Archives.MarkProcessing(ctx, archive.ID))
		again := mustRead(t, s, archive.ID)
		require.Equal(t, livestream.ArchiveProcessing, again.Status)
		require.Nil(t, again.Failure)
		require.InDelta(t, 0.5, again.Progress, 0)
	}
	require.NoError(t, s.Archives.MarkFailed(ctx, archive.ID, corrupt, 2, now()))
	ready, err := s.Archives.MarkReady(ctx, archive.ID, media, nil, 0, now())
	require.NoError(t, err)
	require.Equal(t, livestream.ArchiveReady, ready.Status)
	require.Nil(t, ready.Failure)
	require.Equal(t, []livestream.Rendition{}, ready.Renditions)

	types := eventTypes(t, s, archive.StreamID)[4:]
	require.Equal(t, []livestream.StreamEventType{livestream.EventArchiveFailed, livestream.EventArchiveFailed, livestream.EventArchiveReady}, types,
		"one line for each attempt")
	require.JSONEq(t, `{"archive_id": "`+archive.ID.String()+`", "code": "corrupt", "message": "The file is damaged."}`,
		string(timeline(t, s, archive.StreamID)[4].Data))
}

func TestReadyArchiveStaysReady(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	id := s.MustCreateArchive(t, s.MustCreateUser(t).ID).ID
	ready, err := s.Archives.MarkReady(ctx, id, media, qualities, 1, now())
	require.NoError(t, err)
	require.NoError(t, s.Archives.MarkProcessing(ctx, id))
	require.NoError(t, s.Archives.MarkFailed(ctx, id, corrupt, 1, now()))
	require.NoError(t, s.Archives.SetProgress(ctx, id, 0.3))
	require.Equal(t, ready, mustRead(t, s, id))
	require.NotContains(t, eventTypes(t, s, ready.StreamID), livestream.EventArchiveFailed)
}

func TestArchiveProgressNeverGoesBack(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	id := s.MustCreateArchive(t, s.MustCreateUser(t).ID).ID
	for _, step := range []struct{ set, want float64 }{{0.2, 0.2}, {0.7, 0.7}, {0.5, 0.7}, {0.7, 0.7}} {
		require.NoError(t, s.Archives.SetProgress(ctx, id, step.set))
		require.InDelta(t, step.want, mustRead(t, s, id).Progress, 0)
	}
	require.NoError(t, s.Archives.MarkFailed(ctx, id, corrupt, 1, now()))
	require.NoError(t, s.Archives.SetProgress(ctx, id, 0.9))
	require.InDelta(t, 0.7, mustRead(t, s, id).Progress, 0, "a step that comes late")
	require.NoError(t, s.Archives.SetProgress(ctx, newID(t), 0.9))
}

func TestArchiveNotFound(t *testing.T) {
	t.Parallel()
	s, ctx, id := newStore(t), testenv.Context(t), newID(t)
	_, err := s.Archives.ByID(ctx, id)
	requireCode(t, livestream.CodeArchiveNotFound, err)
	requireCode(t, livestream.CodeArchiveNotFound, s.Archives.MarkProcessing(ctx, id))
	_, err = s.Archives.MarkReady(ctx, id, media, qualities, 1, now())
	requireCode(t, livestream.CodeArchiveNotFound, err)
	requireCode(t, livestream.CodeArchiveNotFound, s.Archives.MarkFailed(ctx, id, corrupt, 1, now()))
	requireCode(t, livestream.CodeArchiveNotFound, s.Archives.Delete(ctx, id, newID(t), newID(t)))
}

func TestDeleteArchive(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	archive := s.MustCreateArchive(t, user.ID)
	requireCode(t, livestream.CodeForbidden, s.Archives.Delete(ctx, archive.ID, archive.StreamID, newID(t)))
	require.Equal(t, archive, mustRead(t, s, archive.ID))

	require.NoError(t, s.Archives.Delete(ctx, archive.ID, archive.StreamID, user.ID))
	requireCode(t, livestream.CodeArchiveNotFound, s.Archives.Delete(ctx, archive.ID, archive.StreamID, user.ID))
	stream, err := s.Streams.ByID(ctx, archive.StreamID)
	require.NoError(t, err)
	require.Nil(t, stream.ArchiveID, "its stream does not lead to it any more")
}

func TestListArchives(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user, other := s.MustCreateUser(t), s.MustCreateUser(t)
	var mine, theirs []uuid.UUID
	for range 13 {
		mine = append(mine, s.MustCreateArchive(t, user.ID).ID)
	}
	s.MustExec(t, "UPDATE archives SET created_at = '2026-01-01'") // all at the same time
	for range 4 {
		theirs = append(theirs, s.MustCreateArchive(t, other.ID).ID)
	}
	_, err := s.Archives.MarkReady(ctx, theirs[0], media, qualities, 1, now())
	require.NoError(t, err)
	require.NoError(t, s.Archives.MarkFailed(ctx, mine[0], corrupt, 1, now()))

	list := func(filter livestream.ArchiveFilter) []uuid.UUID {
		archives := readAll(t, 3, func(page livestream.Page) (livestream.List[livestream.Archive], error) {
			return s.Archives.List(ctx, filter, page)
		})
		for i := 1; i < len(archives); i++ {
			require.False(t, archives[i].CreatedAt.After(archives[i-1].CreatedAt))
		}
		return collect(archives, func(a livestream.Archive) uuid.UUID { return a.ID })
	}
	ready, failed := livestream.ArchiveReady, livestream.ArchiveFailed
	stream := mustRead(t, s, mine[5]).StreamID
	require.ElementsMatch(t, append(append([]uuid.UUID{}, mine...), theirs...), list(livestream.ArchiveFilter{}))
	require.ElementsMatch(t, mine, list(livestream.ArchiveFilter{UserID: &user.ID}))
	require.Equal(t, []uuid.UUID{mine[5]}, list(livestream.ArchiveFilter{StreamID: &stream}))
	require.Equal(t, []uuid.UUID{theirs[0]}, list(livestream.ArchiveFilter{Status: &ready}))
	require.Equal(t, []uuid.UUID{mine[0]}, list(livestream.ArchiveFilter{Status: &failed, UserID: &user.ID}))
	require.Empty(t, list(livestream.ArchiveFilter{Status: &ready, UserID: &user.ID}))
}
