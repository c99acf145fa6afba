package activities_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// glacier is a store with classes, and the row of its one archive: no store that has
// classes runs here.
type glacier struct {
	activities.TierStore
	mu      sync.Mutex
	objects map[string]livestream.StoredObject
	tier    livestream.StorageClass
	class   livestream.StorageClass
	gone    bool
	moving  time.Time // until when copies may be under way
	plan    []livestream.TieredArchive
	asked   []string
	copies  int
	onCopy  func(n int) // is called with the row unlocked
}

func newGlacier(id uuid.UUID, segments int) *glacier {
	g := &glacier{objects: map[string]livestream.StoredObject{}, tier: livestream.StorageStandard, class: livestream.StorageStandard}
	for _, key := range []string{"master.m3u8", "720p/index.m3u8", "poster.jpg", "storyboard.vtt"} {
		g.put(livestream.ArchivePrefix(id) + key)
	}
	for i := range segments {
		g.put(fmt.Sprintf("%s720p/seg_%05d.m4s", livestream.ArchivePrefix(id), i))
	}
	return g
}

func (g *glacier) put(key string) {
	g.objects[key] = livestream.StoredObject{Key: key, SizeBytes: 1, Class: livestream.StorageStandard}
}

func (g *glacier) Tiered(context.Context, uuid.UUID, time.Time, int) ([]livestream.TieredArchive, error) {
	return g.plan, nil
}

func (g *glacier) BeginMove(_ context.Context, move livestream.TierMove, moves bool, _ time.Time) (bool, error) {
	to := move.To
	if g.gone || g.class == livestream.StorageGlacier && g.tier != to {
		return false, nil
	}
	if g.tier = to; moves && to == livestream.StorageGlacier {
		g.class = to
	}
	return true, nil
}

func (g *glacier) Tier(context.Context, uuid.UUID) (livestream.StorageClass, error) {
	if g.gone {
		return "", livestream.Errorf(livestream.CodeArchiveNotFound, "gone")
	}
	return g.tier, nil
}

func (g *glacier) KeepMoving(ctx context.Context, id uuid.UUID, to livestream.StorageClass, until time.Time) error {
	tier, err := g.Tier(ctx, id)
	if err == nil && tier != to {
		err = livestream.Errorf(livestream.CodeArchiveNotFound, "it goes elsewhere")
	}
	if err == nil {
		g.moving = until
	}
	return err
}

func (g *glacier) EndRestore(ctx context.Context, id uuid.UUID, now time.Time) (bool, error) {
	if g.moving.After(now) {
		return false, nil
	}
	return g.EndMove(ctx, id, livestream.StorageStandard)
}

func (g *glacier) EndMove(_ context.Context, _ uuid.UUID, to livestream.StorageClass) (bool, error) {
	if g.tier != to {
		return false, nil
	}
	g.class, g.moving = to, time.Time{}
	return true, nil
}

func (g *glacier) BeginRestore(context.Context, uuid.UUID, time.Time) error {
	g.tier = livestream.StorageStandard
	return nil
}

func (g *glacier) HasClasses(context.Context) (bool, error) { return true, nil }

func (g *glacier) Walk(_ context.Context, _ string, visit func(livestream.StoredObject) error) error {
	g.mu.Lock()
	all := slices.Collect(maps.Values(g.objects))
	g.mu.Unlock()
	for _, object := range all {
		if err := visit(object); err != nil {
			return err
		}
	}
	return nil
}

func (g *glacier) SetClass(_ context.Context, key string, class livestream.StorageClass) error {
	g.mu.Lock()
	object := g.objects[key]
	if object.Class == livestream.StorageGlacier && !object.Restored {
		g.mu.Unlock()
		return fmt.Errorf("%s cannot be read", key)
	}
	g.copies++
	n := g.copies
	g.objects[key] = livestream.StoredObject{Key: key, SizeBytes: 1, Class: class}
	g.mu.Unlock()
	if g.onCopy != nil {
		g.onCopy(n)
	}
	return nil
}

func (g *glacier) Restore(_ context.Context, key string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, key)
	object := g.objects[key]
	object.Restoring = true
	g.objects[key] = object
	return nil
}

// arrived lets some of what was asked for be there.
func (g *glacier) arrived(n int) {
	for key, object := range g.objects {
		if object.Restoring && n > 0 {
			object.Restoring, object.Restored = false, true
			g.objects[key] = object
			n--
		}
	}
}

func (g *glacier) in(class livestream.StorageClass) (n int) {
	for _, object := range g.objects {
		if object.Class == class {
			n++
		}
	}
	return n
}

// tiers runs steps on a store.
func tiers(t *testing.T, g *glacier, id uuid.UUID) (move func(to livestream.StorageClass, classes bool) (moved bool), bringBack func() (int, error)) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	steps := &activities.Tiers{Store: g, Objects: g, Now: time.Now}
	env.RegisterActivity(steps)
	move = func(to livestream.StorageClass, classes bool) (moved bool) {
		t.Helper()
		result, err := env.ExecuteActivity(steps.Move, livestream.TierMove{ArchiveID: id, From: g.class, To: to}, classes)
		require.NoError(t, err)
		require.NoError(t, result.Get(&moved))
		return moved
	}
	bringBack = func() (waiting int, err error) {
		result, err := env.ExecuteActivity(steps.BringBack, id)
		if err == nil {
			err = result.Get(&waiting)
		}
		return waiting, err
	}
	return move, bringBack
}

func TestArchiveGoesToGlacierAndComesBack(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	g := newGlacier(id, 200)
	move, bringBack := tiers(t, g, id)
	require.True(t, move(livestream.StorageIntelligent, true))
	require.Equal(t, livestream.StorageIntelligent, g.class)
	require.Equal(t, 200, g.in(livestream.StorageIntelligent))
	require.Equal(t, 4, g.in(livestream.StorageStandard), "playlists and pictures stay")
	for range 2 { // again, as after a crash
		require.True(t, move(livestream.StorageGlacier, true))
		require.Equal(t, 200, g.in(livestream.StorageGlacier))
		require.Equal(t, 400, g.copies, "what is there is not moved again")
	}

	waiting, err := bringBack()
	require.NoError(t, err)
	require.Equal(t, 200, waiting)
	require.Len(t, g.asked, 200)
	g.arrived(150)
	waiting, err = bringBack()
	require.NoError(t, err)
	require.Equal(t, 50, waiting)
	require.Len(t, g.asked, 200, "each is asked for once")
	require.Equal(t, livestream.StorageGlacier, g.class, "until all is there")
	g.arrived(50)
	waiting, err = bringBack()
	require.NoError(t, err)
	require.Zero(t, waiting)
	require.Equal(t, livestream.StorageStandard, g.class)
	require.Equal(t, 204, g.in(livestream.StorageStandard))
}

func TestStoreWithoutClassesMovesNothing(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	g := newGlacier(id, 10)
	move, _ := tiers(t, g, id)
	require.True(t, move(livestream.StorageGlacier, false))
	require.Equal(t, livestream.StorageGlacier, g.tier, "the decision is noted")
	require.Equal(t, livestream.StorageStandard, g.class)
	require.Zero(t, g.copies)
}

func TestMoveEndsWhenSomebodyWantsTheArchive(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	g := newGlacier(id, 500)
	move, bringBack := tiers(t, g, id)
	asked := sync.OnceFunc(func() { g.tier = livestream.StorageStandard })
	g.onCopy = func(n int) {
		if n == 10 {
			asked()
		}
	}
	require.False(t, move(livestream.StorageGlacier, true))
	require.Less(t, g.in(livestream.StorageGlacier), 100, "at the next look at its row")
	g.onCopy = nil
	waiting, err := bringBack()
	require.NoError(t, err)
	require.Positive(t, waiting)
	g.arrived(waiting)
	waiting, err = bringBack()
	require.NoError(t, err)
	require.Equal(t, 1, waiting, "a copy may still come")
	require.Equal(t, livestream.StorageGlacier, g.class)
	g.moving = time.Now().Add(-time.Second)
	waiting, err = bringBack()
	require.NoError(t, err)
	require.Zero(t, waiting)
	require.Equal(t, 504, g.in(livestream.StorageStandard))
}

func TestWhatIsPlanned(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	standard, intelligent, cold := livestream.StorageStandard, livestream.StorageIntelligent, livestream.StorageGlacier
	now := time.Now()
	for name, c := range map[string]struct {
		age         time.Duration
		class, tier livestream.StorageClass
		moving      bool
		classes     bool
		want        livestream.StorageClass // empty: it stays
	}{
		"where it belongs":                {day, standard, standard, false, true, ""},
		"old":                             {100 * day, standard, standard, false, true, cold},
		"noted, but not moved":            {100 * day, standard, cold, false, true, cold},
		"noted, in a store without any":   {100 * day, standard, cold, false, false, ""},
		"moved by half":                   {40 * day, standard, intelligent, true, true, intelligent},
		"in Glacier":                      {100 * day, cold, cold, false, true, ""},
		"in Glacier by half":              {100 * day, cold, cold, true, true, cold},
		"on its way back":                 {7 * day, cold, standard, false, true, ""},
		"on its way back, half way there": {7 * day, cold, standard, true, true, ""},
		"on its way back for too long":    {8 * day, cold, standard, false, true, cold},
	} {
		restored := now.Add(-c.age)
		archive := livestream.TieredArchive{ID: uuid.New(), ReadyAt: restored, RestoredAt: &restored, Class: c.class, Tier: c.tier, Moving: c.moving}
		steps := &activities.Tiers{
			Store: &glacier{plan: []livestream.TieredArchive{archive}}, Now: func() time.Time { return now },
			Rules: livestream.TierRules{PopularViews: 1, IntelligentAfter: 30 * day, GlacierAfter: 90 * day},
		}
		page, err := steps.Plan(t.Context(), uuid.Nil, c.classes)
		require.NoError(t, err, name)
		if c.want == "" {
			require.Empty(t, page.Moves, name)
			continue
		}
		require.Equal(t, []livestream.TierMove{{ArchiveID: archive.ID, From: c.class, To: c.want, RestoredAt: &restored}}, page.Moves, name)
	}
}

func TestArchiveThatIsDeletedIsLeftAlone(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	g := newGlacier(id, 500)
	move, bringBack := tiers(t, g, id)
	gone := sync.OnceFunc(func() { g.gone = true })
	g.onCopy = func(n int) {
		if n == 10 {
			gone()
		}
	}
	require.False(t, move(livestream.StorageIntelligent, true))
	require.Less(t, g.copies, 100, "the deletion deletes what was copied by then")
	require.False(t, move(livestream.StorageGlacier, true))
	_, err := bringBack()
	require.ErrorContains(t, err, "gone")
}
