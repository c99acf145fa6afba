package workflows

import (
	"time"

	"go.temporal.io/api/enums/v1"
)

// Schedule is a workflow that Temporal starts again and again, with no input. A
// worker that begins to serve its queue sees to it that there is one.
type Schedule struct {
	ID       string
	Summary  string
	Workflow string // its name
	Queue    string
	// Every is the time between two runs; Offset is how long after midnight UTC, when
	// Every divides a day, the first of them begins.
	Every, Offset time.Duration
	// Overlap is what becomes of a run that is due while the last one goes on.
	Overlap enums.ScheduleOverlapPolicy
	// CatchUp is how late a run may begin that Temporal missed while it was away.
	CatchUp time.Duration
}

// Schedules lists all of them. One that leaves the list stays in Temporal until
// somebody deletes it there.
var Schedules = []Schedule{
	{
		ID: "housekeeping", Summary: "delete what nothing needs any more", Workflow: "Housekeeping", Queue: QueueStream,
		Every: 24 * time.Hour, Offset: 4 * time.Hour,
		Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchUp: 12 * time.Hour,
	},
	{
		ID: "reconciliation", Summary: "compare the books with Stripe", Workflow: "ReconcilePayments", Queue: QueuePayment,
		Every: 24 * time.Hour, Offset: 3 * time.Hour,
		Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchUp: 12 * time.Hour,
	},
	{
		ID: "tiers", Summary: "keep archives in the class that they are worth", Workflow: "MoveArchives", Queue: QueueArchive,
		Every: 24 * time.Hour, Offset: 5 * time.Hour,
		Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchUp: 12 * time.Hour,
	},
	{
		ID: "orphans", Summary: "look through the bucket for what belongs to nobody", Workflow: "FindOrphans", Queue: QueueArchive,
		Every: 24 * time.Hour, Offset: 6 * time.Hour,
		Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchUp: 12 * time.Hour,
	},
	{
		ID: "views", Summary: "store how many have watched archives", Workflow: "FlushViews", Queue: QueueArchive,
		Every:   time.Minute,
		Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchUp: time.Minute,
	},
}
