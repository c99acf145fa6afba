package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func TestCreateUpload(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	upload := newUpload(t, stream.ID)
	for range 2 {
		require.NoError(t, s.Recordings.Create(ctx, upload))
	}
	read, err := s.Recordings.ByID(ctx, stream.ID, upload.ID)
	require.NoError(t, err)
	require.WithinDuration(t, now(), read.CreatedAt, testClockTolerance)
	upload.CreatedAt = read.CreatedAt
	require.Equal(t, upload, read)

	_, err = s.Recordings.ByID(ctx, newID(t), upload.ID)
	requireCode(t, livestream.CodeUploadNotFound, err)
	requireCode(t, livestream.CodeStreamNotFound, s.Recordings.Create(ctx, newUpload(t, newID(t))))
}

// What is over and has had its recording takes no other, also when that was deleted.
func TestAStreamThatHasHadItsRecordingTakesNoUpload(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	over, live := s.MustCreateEnded(t, user.ID, 0), s.MustCreateStream(t, s.MustCreateUser(t).ID)
	for _, stream := range []livestream.Stream{over, live} {
		archive, err := s.Recordings.Complete(ctx, s.MustCreateUpload(t, stream.ID).ID, newID(t), now())
		require.NoError(t, err)
		require.NoError(t, s.Archives.Delete(ctx, archive.ID, stream.ID, stream.UserID))
	}
	requireCode(t, livestream.CodeRecordingClosed, s.Recordings.Create(ctx, newUpload(t, over.ID)))
	_, err := s.Recordings.Complete(ctx, s.MustCreateUpload(t, live.ID).ID, newID(t), now())
	require.NoError(t, err, "another recording may take its place")
}

func TestAStreamHasSoManyUploadsOpen(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	errs := race(20, func(int) error { return s.Recordings.Create(ctx, newUpload(t, stream.ID)) })
	require.Equal(t, map[livestream.Code]int{"": livestream.MaxOpenUploads, livestream.CodeRateLimited: 20 - livestream.MaxOpenUploads}, codes(errs))
	another := newUpload(t, stream.ID)
	var refused *livestream.Error
	require.ErrorAs(t, s.Recordings.Create(ctx, another), &refused)
	require.InDelta(t, livestream.RecordingURLExpires, refused.RetryAfter, float64(testClockTolerance))
	uploads, err := s.Recordings.Abandoned(ctx, stream.ID)
	require.NoError(t, err)
	require.NoError(t, s.Recordings.Delete(ctx, uploads[0].ID))
	require.NoError(t, s.Recordings.Create(ctx, another))
	requireCode(t, livestream.CodeRateLimited, s.Recordings.Create(ctx, newUpload(t, stream.ID)))
	s.MustExec(t, "UPDATE uploads SET created_at = now() - interval '6 hours' WHERE id = $1", another.ID)
	require.NoError(t, s.Recordings.Create(ctx, newUpload(t, stream.ID)), "the addresses of one are good no more")
}

func TestStaleUploads(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	over := s.MustCreateEnded(t, s.MustCreateUser(t).ID, 0)
	s.MustCreateUpload(t, s.MustCreateStream(t, s.MustCreateUser(t).ID).ID) // it is live
	stale, complete := s.MustCreateUpload(t, over.ID), s.MustCreateUpload(t, over.ID)
	_, err := s.Recordings.Complete(ctx, complete.ID, newID(t), now())
	require.NoError(t, err)
	for at, want := range map[time.Time][]uuid.UUID{over.EndedAt.Add(time.Second): {stale.ID}, *over.EndedAt: {}} {
		uploads, err := s.Recordings.Stale(ctx, at)
		require.NoError(t, err)
		require.Equal(t, want, collect(uploads, func(u livestream.Upload) uuid.UUID { return u.ID }))
	}
}

func TestCompleteUpload(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	upload := s.MustCreateUpload(t, stream.ID)
	id, at := newID(t), now()

	archive, err := s.Recordings.Complete(ctx, upload.ID, id, at)
	require.NoError(t, err)
	require.WithinDuration(t, now(), archive.CreatedAt, testClockTolerance)
	require.Equal(t, livestream.Archive{
		ID: id, StreamID: stream.ID, UserID: stream.UserID, Title: stream.Title, Visibility: livestream.VisibilityPublic, Status: livestream.ArchiveProcessing,
		Renditions: []livestream.Rendition{}, StorageClass: livestream.StorageStandard, CreatedAt: archive.CreatedAt,
	}, archive)

	again, err := s.Recordings.Complete(ctx, upload.ID, newID(t), now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, archive, again)

	shown, err := s.Streams.ByID(ctx, stream.ID)
	require.NoError(t, err)
	require.Equal(t, &id, shown.ArchiveID)
	require.False(t, shown.ArchiveReady)
	kept, err := s.Recordings.ByID(ctx, stream.ID, upload.ID)
	require.NoError(t, err)
	require.Equal(t, &id, kept.ArchiveID)

	events := timeline(t, s, stream.ID)
	require.Len(t, events, 3)
	require.Equal(t, livestream.EventRecordingReceived, events[2].Type)
	require.Equal(t, at, events[2].At)
	require.JSONEq(t, `{"upload_id": "`+upload.ID.String()+`", "archive_id": "`+id.String()+`"}`, string(events[2].Data))
}

func TestCompleteUploadErrors(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	_, err := s.Recordings.Complete(ctx, newID(t), newID(t), now())
	requireCode(t, livestream.CodeUploadNotFound, err)

	stream := s.MustCreateEnded(t, s.MustCreateUser(t).ID, 0)
	first, second := s.MustCreateUpload(t, stream.ID), s.MustCreateUpload(t, stream.ID)
	_, err = s.Recordings.Complete(ctx, first.ID, newID(t), now())
	require.NoError(t, err)
	_, err = s.Recordings.Complete(ctx, second.ID, newID(t), now())
	requireCode(t, livestream.CodeRecordingExists, err)
}

// A retry that comes after the archive was deleted does not bring it back.
func TestCompleteUploadOfADeletedArchive(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	upload := s.MustCreateUpload(t, s.MustCreateEnded(t, user.ID, 0).ID)
	archive, err := s.Recordings.Complete(ctx, upload.ID, newID(t), now())
	require.NoError(t, err)
	require.NoError(t, s.Archives.Delete(ctx, archive.ID, archive.StreamID, user.ID))
	source, err := s.Recordings.OfArchive(ctx, archive.StreamID, archive.ID)
	require.NoError(t, err, "its file is still there")
	require.Equal(t, upload.Key, source.Key)
	_, err = s.Recordings.OfArchive(ctx, archive.StreamID, newID(t))
	requireCode(t, livestream.CodeUploadNotFound, err)
	_, err = s.Recordings.Complete(ctx, upload.ID, newID(t), now())
	requireCode(t, livestream.CodeArchiveNotFound, err)
}

func TestCompleteOneUploadAtOnceGivesOneArchive(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	upload := s.MustCreateUpload(t, stream.ID)
	archives := make([]uuid.UUID, 30)
	for _, err := range race(len(archives), func(i int) error {
		archive, err := s.Recordings.Complete(ctx, upload.ID, uuid.New(), now())
		archives[i] = archive.ID
		return err
	}) {
		require.NoError(t, err)
	}
	for _, id := range archives {
		require.Equal(t, archives[0], id)
	}
	require.Len(t, timeline(t, s, stream.ID), 3)
}

func TestOneOfManyUploadsBecomesTheArchive(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	stream := s.MustCreateStream(t, s.MustCreateUser(t).ID)
	uploads := make([]livestream.Upload, livestream.MaxOpenUploads)
	for i := range uploads {
		uploads[i] = s.MustCreateUpload(t, stream.ID)
	}
	errs := race(len(uploads), func(i int) error { _, err := s.Recordings.Complete(ctx, uploads[i].ID, uuid.New(), now()); return err })
	require.Equal(t, map[livestream.Code]int{"": 1, livestream.CodeRecordingExists: len(uploads) - 1}, codes(errs))
	require.Len(t, timeline(t, s, stream.ID), 3)
}

func TestAbandonedUploads(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	stream := s.MustCreateStream(t, user.ID)
	first, complete, second := s.MustCreateUpload(t, stream.ID), s.MustCreateUpload(t, stream.ID), s.MustCreateUpload(t, stream.ID)
	_, err := s.Recordings.Complete(ctx, complete.ID, newID(t), now())
	require.NoError(t, err)
	abandoned := func() []uuid.UUID {
		uploads, err := s.Recordings.Abandoned(ctx, stream.ID)
		require.NoError(t, err)
		return collect(uploads, func(u livestream.Upload) uuid.UUID { return u.ID })
	}
	require.Equal(t, []uuid.UUID{first.ID, second.ID}, abandoned())

	for range 2 {
		require.NoError(t, s.Recordings.Delete(ctx, first.ID))
		require.Equal(t, []uuid.UUID{second.ID}, abandoned())
	}
	require.NoError(t, s.Recordings.Delete(ctx, complete.ID))
	_, err = s.Recordings.ByID(ctx, stream.ID, complete.ID)
	require.NoError(t, err, "what was completed stays")
}
