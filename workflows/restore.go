package workflows

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// UpdateAskForArchive answers once the archive is on its way; who asks is told when it
// is there.
const UpdateAskForArchive = "ask"

// maxAskers bounds who is told: more of them see that it plays. toldAtOnce of them are
// told in one step.
const maxAskers, toldAtOnce = 1000, 100

// ErrEnoughAskers is the type of the error that further ones get: it is on its way all
// the same. They are no part of the history, which takes 2,000 updates.
const ErrEnoughAskers = "enough_askers"

// RestoreArchiveInput names an archive that is in GLACIER.
type RestoreArchiveInput struct {
	ArchiveID uuid.UUID   `json:"archive_id"`
	Askers    []uuid.UUID `json:"askers"` // of the run before
}

// RestoreArchive brings an archive back from GLACIER and tells those who asked for it.
// The store takes hours for that, and is looked at again and again meanwhile. An archive
// that is deleted on the way ends it.
func RestoreArchive(ctx workflow.Context, in RestoreArchiveInput) error {
	askers, asked, told := in.Askers, 0, 0
	ask := func(_ workflow.Context, asker uuid.UUID) error {
		asked++
		if asker != uuid.Nil && !slices.Contains(askers, asker) {
			askers = append(askers, asker)
		}
		return nil
	}
	validate := func(uuid.UUID) error {
		if len(askers) >= maxAskers {
			return temporal.NewNonRetryableApplicationError("enough are told of this archive", ErrEnoughAskers, nil)
		}
		return nil
	}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, UpdateAskForArchive, ask, workflow.UpdateHandlerOptions{Validator: validate}); err != nil {
		return err
	}
	// Who asks while others are told may ask for what has left again: one more look.
	for looked := -1; looked != asked; {
		looked = asked
		var waiting int
		err := workflow.ExecuteActivity(steady(ctx, "bring back what is there, ask for the rest"), tierSteps.BringBack, in.ArchiveID).Get(ctx, &waiting)
		if deleted(err) {
			workflow.SetCurrentDetails(ctx, "the archive was deleted")
			return nil
		}
		if err != nil {
			return fmt.Errorf("bring back the archive: %w", err)
		}
		for waiting == 0 && told < len(askers) {
			next := askers[told:min(told+toldAtOnce, len(askers))]
			if err := workflow.ExecuteActivity(write(ctx, "tell who asked"), tierSteps.Restored, in.ArchiveID, workflow.GetInfo(ctx).FirstRunID, workflow.Now(ctx), next).Get(ctx, nil); err != nil {
				return fmt.Errorf("tell who asked: %w", err)
			}
			told += len(next)
		}
		if waiting == 0 {
			continue
		}
		looked = -1
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d files are on their way", waiting))
		if err := workflow.NewTimerWithOptions(ctx, restorePause, workflow.TimerOptions{Summary: "until the store is looked at again"}).Get(ctx, nil); err != nil {
			return err
		}
		if told == 0 && workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, RestoreArchive, RestoreArchiveInput{ArchiveID: in.ArchiveID, Askers: askers})
		}
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("it plays again; %d were told", told))
	return nil
}
