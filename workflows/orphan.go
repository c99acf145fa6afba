package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

var orphanSteps *activities.Orphans

// FindOrphans looks through the bucket for what belongs to nobody, and gives what it
// found: its result is the report. It deletes nothing. It runs by its schedule.
func FindOrphans(ctx workflow.Context) ([]livestream.Orphans, error) {
	var (
		all    []livestream.Orphans
		failed []error // the other areas are looked through all the same
	)
	for _, area := range []livestream.OrphanArea{livestream.AreaArchives, livestream.AreaWork, livestream.AreaRecordings, livestream.AreaUploads} {
		var found livestream.Orphans
		if err := workflow.ExecuteActivity(sweep(ctx, "look through "+string(area)), orphanSteps.Find, area).Get(ctx, &found); err != nil {
			failed = append(failed, fmt.Errorf("look through %s: %w", area, err))
			continue
		}
		all = append(all, found)
	}
	count, bytes := 0, int64(0)
	for _, found := range all {
		count, bytes = count+found.Count, bytes+found.SizeBytes
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d orphans of %d bytes", count, bytes))
	return all, errors.Join(failed...)
}
