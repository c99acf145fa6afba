package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// MustPublish makes an archive that can be played since a time.
func (s *store) MustPublish(tb testing.TB, at time.Time) livestream.Archive {
	tb.Helper()
	archive, err := s.Archives.MarkReady(testenv.Context(tb), s.MustCreateArchive(tb, s.MustCreateUser(tb).ID).ID, media, qualities, 4711, at)
	require.NoError(tb, err)
	return archive
}

func TestArchivesAreListedWithTheirViewsOfTheLastDays(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	at, today := now(), livestream.Midnight(now())
	first, second := s.MustPublish(t, at), s.MustPublish(t, at)
	s.MustCreateArchive(t, s.MustCreateUser(t).ID) // it is being processed
	require.NoError(t, postgres.NewViews(s.DB).Save(ctx, []livestream.ArchiveViews{
		{ArchiveID: first.ID, Day: today, Views: 3}, {ArchiveID: first.ID, Day: today.AddDate(0, 0, -30), Views: 4}, {ArchiveID: first.ID, Day: today.AddDate(0, 0, -31), Views: 5},
	}))

	since := today.AddDate(0, 0, -30)
	page, err := s.Archives.Tiered(ctx, uuid.Nil, since, 1)
	require.NoError(t, err)
	require.Equal(t, []livestream.TieredArchive{{
		ID: first.ID, ReadyAt: at, SizeBytes: 4711, Seconds: 12.5, Renditions: len(qualities), Views: 7, Class: livestream.StorageStandard, Tier: livestream.StorageStandard,
	}}, page)
	page, err = s.Archives.Tiered(ctx, first.ID, since, 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, second.ID, page[0].ID)
	require.Zero(t, page[0].Views)
}

func TestMoveOfAnArchiveIsNoted(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	archive := s.MustPublish(t, now())
	class := func() livestream.StorageClass { return mustRead(t, s, archive.ID).StorageClass }
	begin := func(to livestream.StorageClass, moves bool) bool {
		ok, err := s.Archives.BeginMove(ctx, livestream.TierMove{ArchiveID: archive.ID, To: to}, moves, now())
		require.NoError(t, err)
		return ok
	}
	end := func(to livestream.StorageClass) bool {
		ok, err := s.Archives.EndMove(ctx, archive.ID, to)
		require.NoError(t, err)
		return ok
	}
	require.True(t, begin(livestream.StorageGlacier, false), "a store without classes")
	require.Equal(t, livestream.StorageStandard, class(), "its media are where they were")
	tier, err := s.Archives.Tier(ctx, archive.ID)
	require.NoError(t, err)
	require.Equal(t, livestream.StorageGlacier, tier)

	require.True(t, begin(livestream.StorageIntelligent, true))
	require.Equal(t, livestream.StorageStandard, class(), "until all are moved")
	require.True(t, end(livestream.StorageIntelligent))
	require.Equal(t, livestream.StorageIntelligent, class())

	for range 2 { // an attempt that was killed is repeated
		require.True(t, begin(livestream.StorageGlacier, true))
		require.Equal(t, livestream.StorageGlacier, class(), "from now on some cannot be read")
	}
	playback, err := s.Archives.Playback(ctx, archive.ID)
	require.NoError(t, err)
	require.Equal(t, livestream.StorageGlacier, playback.StorageClass)
	require.False(t, playback.Restoring)
	require.False(t, begin(livestream.StorageStandard, true), "it comes back by a restore alone")

	at := now()
	require.NoError(t, s.Archives.BeginRestore(ctx, archive.ID, at))
	require.NoError(t, s.Archives.BeginRestore(ctx, archive.ID, at.Add(time.Hour)))
	playback, err = s.Archives.Playback(ctx, archive.ID)
	require.NoError(t, err)
	require.True(t, playback.Restoring)
	require.False(t, begin(livestream.StorageGlacier, true), "a move that is still under way ends")
	require.False(t, end(livestream.StorageGlacier))
	page, err := s.Archives.Tiered(ctx, uuid.Nil, at, 10)
	require.NoError(t, err)
	require.Equal(t, livestream.StorageStandard, page[0].Tier)
	require.Equal(t, at, *page[0].RestoredAt, "the first counts")
	require.True(t, end(livestream.StorageStandard))
	require.Equal(t, livestream.StorageStandard, class())
	require.False(t, begin(livestream.StorageGlacier, true), "nor does an attempt that comes late take it away")

	require.NoError(t, s.Archives.Delete(ctx, archive.ID, archive.StreamID, archive.UserID))
	require.False(t, begin(livestream.StorageIntelligent, true))
	_, err = s.Archives.Tier(ctx, archive.ID)
	requireCode(t, livestream.CodeArchiveNotFound, err)
}

// A restore that nobody sees to any more is taken back, or begun anew by who asks.
func TestRestoreThatWasGivenUp(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	archive, at := s.MustPublish(t, now()), now()
	_, err := s.Archives.BeginMove(ctx, livestream.TierMove{ArchiveID: archive.ID, To: livestream.StorageGlacier}, true, at)
	require.NoError(t, err)
	asked := func() time.Time {
		page, err := s.Archives.Tiered(ctx, uuid.Nil, at, 1)
		require.NoError(t, err)
		return *page[0].RestoredAt
	}
	require.NoError(t, s.Archives.BeginRestore(ctx, archive.ID, at))
	require.NoError(t, s.Archives.BeginRestore(ctx, archive.ID, at.Add(livestream.RestoreWindow)))
	require.Equal(t, at, asked())
	again := at.Add(livestream.RestoreWindow + time.Second)
	require.NoError(t, s.Archives.BeginRestore(ctx, archive.ID, again))
	require.Equal(t, again, asked())

	back := livestream.TierMove{ArchiveID: archive.ID, To: livestream.StorageGlacier, RestoredAt: &again}
	for _, given := range []bool{false, true} {
		later := again.Add(livestream.RestoreGivenUp)
		if given {
			later = later.Add(time.Second)
		}
		ok, err := s.Archives.BeginMove(ctx, back, true, later)
		require.NoError(t, err)
		require.Equal(t, given, ok)
	}
	tier, err := s.Archives.Tier(ctx, archive.ID)
	require.NoError(t, err)
	require.Equal(t, livestream.StorageGlacier, tier)
}

// A restore ends when no copy to GLACIER can come any more.
func TestRestoreWaitsForTheMoveThatItEnds(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	archive, at := s.MustPublish(t, now()), now()
	moving := func() bool {
		page, err := s.Archives.Tiered(ctx, uuid.Nil, at, 1)
		require.NoError(t, err)
		return page[0].Moving
	}
	ok, err := s.Archives.BeginMove(ctx, livestream.TierMove{ArchiveID: archive.ID, To: livestream.StorageGlacier}, true, at)
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, moving())
	require.NoError(t, s.Archives.KeepMoving(ctx, archive.ID, livestream.StorageGlacier, at.Add(time.Minute)))
	require.True(t, moving())

	require.NoError(t, s.Archives.BeginRestore(ctx, archive.ID, at))
	requireCode(t, livestream.CodeArchiveNotFound, s.Archives.KeepMoving(ctx, archive.ID, livestream.StorageGlacier, at.Add(time.Hour)))
	back, err := s.Archives.EndRestore(ctx, archive.ID, at.Add(time.Minute))
	require.NoError(t, err)
	require.False(t, back)
	require.Equal(t, livestream.StorageGlacier, mustRead(t, s, archive.ID).StorageClass)
	back, err = s.Archives.EndRestore(ctx, archive.ID, at.Add(time.Minute+time.Second))
	require.NoError(t, err)
	require.True(t, back)
	require.Equal(t, livestream.StorageStandard, mustRead(t, s, archive.ID).StorageClass)
	require.False(t, moving())
	requireCode(t, livestream.CodeArchiveNotFound, s.Archives.KeepMoving(ctx, uuid.New(), livestream.StorageGlacier, at))
}
