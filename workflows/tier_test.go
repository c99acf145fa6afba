package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

func TestMoveArchivesGoesOnWhenOneFails(t *testing.T) {
	env := newEnvironment(t)
	first, poison, wanted, last := newID(t), newID(t), newID(t), newID(t)
	var (
		mu    sync.Mutex // several are moved at a time
		moved []uuid.UUID
	)
	named := func(name string) activity.RegisterOptions { return activity.RegisterOptions{Name: name} }
	env.RegisterActivityWithOptions(func(context.Context) (bool, error) { return true, nil }, named("Probe"))
	env.RegisterActivityWithOptions(func(_ context.Context, after uuid.UUID, classes bool) (activities.TierPage, error) {
		require.True(t, classes)
		to := func(id uuid.UUID, class livestream.StorageClass) livestream.TierMove {
			return livestream.TierMove{ArchiveID: id, To: class, SizeBytes: 5}
		}
		if after == uuid.Nil {
			return activities.TierPage{Looked: 200, Next: &poison, Moves: []livestream.TierMove{to(first, livestream.StorageGlacier), to(poison, livestream.StorageGlacier)}}, nil
		}
		require.Equal(t, poison, after)
		return activities.TierPage{Looked: 1, Moves: []livestream.TierMove{to(wanted, livestream.StorageGlacier), to(last, livestream.StorageIntelligent)}}, nil
	}, named("Plan"))
	env.RegisterActivityWithOptions(func(_ context.Context, move livestream.TierMove, _ bool) (bool, error) {
		if move.ArchiveID == poison {
			return false, errors.New("it cannot be copied")
		}
		mu.Lock()
		defer mu.Unlock()
		moved = append(moved, move.ArchiveID)
		return move.ArchiveID != wanted, nil
	}, named("Move"))

	env.ExecuteWorkflow(workflows.MoveArchives, workflows.TierRun{})

	var run workflows.TierRun
	require.NoError(t, env.GetWorkflowResult(&run))
	require.ElementsMatch(t, []uuid.UUID{first, wanted, last}, moved)
	require.Equal(t, 201, run.Looked)
	require.Equal(t, 1, run.Failed)
	require.EqualValues(t, 10, run.Bytes)
	require.Equal(t, map[livestream.StorageClass]int{livestream.StorageGlacier: 1, livestream.StorageIntelligent: 1}, run.Moved, "one was asked for meanwhile")
}

func TestRestoreTellsWhoAskedOnceItIsThere(t *testing.T) {
	env := newEnvironment(t)
	id, bob, eve := newID(t), newID(t), newID(t)
	began, looks := env.Now(), 0
	var told []uuid.UUID
	env.RegisterActivityWithOptions(func(_ context.Context, archive uuid.UUID) (int, error) {
		require.Equal(t, id, archive)
		looks++
		return max(0, 30-looks), nil // 29 of them take about 5 hours
	}, activity.RegisterOptions{Name: "BringBack"})
	env.RegisterActivityWithOptions(func(_ context.Context, _ uuid.UUID, _ string, _ time.Time, askers []uuid.UUID) error {
		told = append(told, askers...)
		return nil
	}, activity.RegisterOptions{Name: "Restored"})
	for after, asker := range map[time.Duration]uuid.UUID{0: bob, time.Hour: eve, 2 * time.Hour: bob, 3 * time.Hour: uuid.Nil} {
		env.RegisterDelayedCallback(func() {
			var asked updateResult
			env.UpdateWorkflow(workflows.UpdateAskForArchive, "", &asked, asker)
			env.RegisterDelayedCallback(func() { require.True(t, asked.done); require.NoError(t, asked.err) }, time.Second)
		}, after)
	}

	env.ExecuteWorkflow(workflows.RestoreArchive, workflows.RestoreArchiveInput{ArchiveID: id})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []uuid.UUID{bob, eve}, told, "each once")
	require.WithinDuration(t, began.Add(290*time.Minute), env.Now(), time.Minute)
}

// All are told before the store is looked at again, and no more than a history holds.
func TestRestoreIsAskedForByVeryMany(t *testing.T) {
	env := newEnvironment(t)
	looks, told := 0, 0
	env.RegisterActivityWithOptions(func(context.Context, uuid.UUID) (int, error) {
		looks++
		return max(0, 2-looks), nil
	}, activity.RegisterOptions{Name: "BringBack"})
	env.RegisterActivityWithOptions(func(_ context.Context, _ uuid.UUID, _ string, _ time.Time, askers []uuid.UUID) error {
		told += len(askers)
		return nil
	}, activity.RegisterOptions{Name: "Restored"})
	before := make([]uuid.UUID, 990)
	for i := range before {
		before[i] = newID(t)
	}
	asked := make([]updateResult, 20)
	for i := range asked {
		env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateAskForArchive, fmt.Sprint(i), &asked[i], newID(t)) }, time.Minute)
	}

	env.ExecuteWorkflow(workflows.RestoreArchive, workflows.RestoreArchiveInput{ArchiveID: newID(t), Askers: before})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1000, told)
	refused := 0
	for i := range asked {
		if asked[i].err != nil {
			require.ErrorContains(t, asked[i].err, "enough")
			require.False(t, asked[i].accepted, "it is no part of the history")
			refused++
		}
	}
	require.Equal(t, 10, refused)
	require.Equal(t, 2, looks)
}

func TestRestoreEndsWhenTheArchiveIsDeleted(t *testing.T) {
	env := newEnvironment(t)
	env.RegisterActivityWithOptions(func(context.Context, uuid.UUID) (int, error) {
		return 0, temporal.NewNonRetryableApplicationError("there is no such archive", string(livestream.CodeArchiveNotFound), nil)
	}, activity.RegisterOptions{Name: "BringBack"})
	env.ExecuteWorkflow(workflows.RestoreArchive, workflows.RestoreArchiveInput{ArchiveID: newID(t)})
	require.NoError(t, env.GetWorkflowError())
}
