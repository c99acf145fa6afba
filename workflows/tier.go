package workflows

import (
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

var tierSteps *activities.Tiers

// TierRun is how far a run of MoveArchives is: where it goes on, and what it did.
type TierRun struct {
	After   uuid.UUID                       `json:"after"`
	Classes *bool                           `json:"classes"` // whether the store has them
	Looked  int                             `json:"looked"`
	Moved   map[livestream.StorageClass]int `json:"moved"` // archives by where they went
	Bytes   int64                           `json:"bytes"`
	Failed  int                             `json:"failed"` // archives that stay for the next run
}

// MoveArchives keeps the media of all archives in the class that their age and views
// are worth, and gives what it did. It runs by its schedule; where the store has no
// classes, it notes its decisions.
func MoveArchives(ctx workflow.Context, run TierRun) (TierRun, error) {
	if run.Moved == nil {
		run.Moved = map[livestream.StorageClass]int{}
	}
	if run.Classes == nil {
		if err := workflow.ExecuteActivity(page(ctx, "has the store classes?"), tierSteps.Probe).Get(ctx, &run.Classes); err != nil {
			return run, fmt.Errorf("ask the store for its classes: %w", err)
		}
	}
	for {
		var found activities.TierPage
		if err := workflow.ExecuteActivity(page(ctx, "look at archives"), tierSteps.Plan, run.After, *run.Classes).Get(ctx, &found); err != nil {
			return run, fmt.Errorf("look at archives: %w", err)
		}
		run.Looked += found.Looked
		if err := run.move(ctx, found.Moves); err != nil {
			return run, err
		}
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d archives looked at; moved: %v; %d failed", run.Looked, run.Moved, run.Failed))
		if found.Next == nil {
			return run, nil
		}
		run.After = *found.Next
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return run, workflow.NewContinueAsNewError(ctx, MoveArchives, run)
		}
	}
}

// movesAtOnce is how many archives one run moves at a time.
const movesAtOnce = 4

func (r *TierRun) move(ctx workflow.Context, moves []livestream.TierMove) error {
	turns, done := workflow.NewSemaphore(ctx, movesAtOnce), workflow.NewWaitGroup(ctx)
	for _, move := range moves {
		if err := turns.Acquire(ctx, 1); err != nil {
			return err
		}
		done.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer done.Done()
			defer turns.Release(1)
			summary := fmt.Sprintf("%s from %s to %s", move.ArchiveID, move.From, move.To)
			var moved bool
			if err := workflow.ExecuteActivity(sweep(ctx, summary), tierSteps.Move, move, *r.Classes).Get(ctx, &moved); err != nil {
				workflow.GetLogger(ctx).Error("an archive could not be moved", "archive_id", move.ArchiveID, "to", move.To, "error", err)
				r.Failed++
				return
			}
			if moved {
				r.Moved[move.To]++
				r.Bytes += move.SizeBytes
			}
		})
	}
	done.Wait(ctx)
	return ctx.Err()
}
