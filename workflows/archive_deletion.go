package workflows

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/workflow"
)

// UpdateDeleteArchive answers once nobody can find the archive any more.
const UpdateDeleteArchive = "delete"

// DeleteArchiveInput names an archive that its creator does not want any more.
type DeleteArchiveInput struct {
	ArchiveID uuid.UUID `json:"archive_id"`
	StreamID  uuid.UUID `json:"stream_id"`
	UserID    uuid.UUID `json:"user_id"`
}

// deletionGrace is how long a step that is under way may go on writing files
// after its archive was cancelled: it hears of it at its next heartbeat.
const deletionGrace = 2 * time.Minute

// DeleteArchive removes an archive: its row at once, then its files and its
// recording, whatever happens meanwhile.
func DeleteArchive(ctx workflow.Context, in DeleteArchiveInput) error {
	var (
		decided bool
		refused error
	)
	err := workflow.SetUpdateHandler(ctx, UpdateDeleteArchive, func(ctx workflow.Context) error {
		if err := workflow.Await(ctx, func() bool { return decided }); err != nil {
			return err
		}
		return refused
	})
	if err != nil {
		return err
	}
	// It may have been deleted when that was not heard of, and nobody else knows of its files.
	refused = promptly(ctx, "delete the archive's row", archiveSteps.Delete, in.ArchiveID, in.StreamID, in.UserID)
	decided = true
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil || refused != nil {
		return err
	}
	// It may be closed already, which is as good.
	_ = workflow.RequestCancelExternalWorkflow(ctx, ArchiveID(in.ArchiveID), "").Get(ctx, nil)
	if err := deleteObjects(ctx, in, "delete the files"); err != nil {
		return err
	}
	pause := workflow.TimerOptions{Summary: "steps that are under way stop until then"}
	if err := workflow.NewTimerWithOptions(ctx, deletionGrace, pause).Get(ctx, nil); err != nil {
		return err
	}
	return deleteObjects(ctx, in, "delete what was written meanwhile")
}

func deleteObjects(ctx workflow.Context, in DeleteArchiveInput, summary string) error {
	if err := workflow.ExecuteActivity(steady(ctx, summary), archiveSteps.DeleteObjects, in.ArchiveID, in.StreamID).Get(ctx, nil); err != nil {
		return fmt.Errorf("%s: %w", summary, err)
	}
	return nil
}
