package e2e

import (
	"regexp"
	"slices"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflow/v1"
)

func steerAFanOut(x *section) {
	const followers = 5000
	ada := x.register("ada")
	x.followedBy(ada, followers)
	release := x.hold(ada, 0, 1000, 2000, 3000) // all that is told at once
	stream := ada.start(false)
	x.vars["STREAM_ID"] = stream.ID
	x.waiting()
	out := x.next()
	require.Contains(x, out, `"status":"running"`)
	require.Contains(x, out, `"followers_total":5000`)

	x.next()
	release()
	x.until("what was under way is told, and no more", func() bool {
		return ada.progress(stream.ID) == progressView{Status: "paused", FollowersTotal: followers, Notified: 4000}
	})
	x.next()
	require.EqualValues(x, followers, ada.progressed(stream.ID, "completed").Notified)
	require.EqualValues(x, followers, x.number("SELECT count(*) FROM notifications WHERE key = $1", "stream_live:"+stream.ID))
	ada.end(stream)

	bob := x.register("bob") // who told nobody just now
	x.followedBy(bob, followers)
	x.jam(bob, 1500)
	stream = bob.start(false)
	x.vars["STREAM_ID"] = stream.ID
	x.until("the others are told, and the range that fails is tried again", func() bool {
		described, err := x.temporal.DescribeWorkflowExecution(x.ctx, "notify/"+stream.ID, "")
		return err == nil && // the stream's workflow starts it after the answer
			x.number("SELECT count(*) FROM notifications WHERE key = $1", "stream_live:"+stream.ID) == 4000 &&
			slices.ContainsFunc(described.PendingActivities, func(step *workflow.PendingActivityInfo) bool { return step.Attempt > 1 })
	})
	x.next()
	left := progressView{Status: "canceled", FollowersTotal: followers, Notified: 4000, Failed: 1000}
	require.Equal(x, left, bob.progressed(stream.ID, "canceled"))
	x.completed("notify/" + stream.ID)
	bob.end(stream)

	cleo := x.register("cleo")
	x.followedBy(cleo, followers)
	repair := x.misplace(cleo, 1500)
	stream = cleo.start(false)
	x.vars["STREAM_ID"] = stream.ID
	incomplete := progressView{Status: "incomplete", FollowersTotal: followers, Notified: 4000, Failed: 1000}
	require.Equal(x, incomplete, cleo.progressed(stream.ID, "incomplete"))
	out = x.next()
	require.Contains(x, out, "failed: 1000 followers after")
	require.Contains(x, out, "inboxes_user_id_fkey")
	repair()
	x.next()
	told := progressView{Status: "completed", FollowersTotal: followers - 1, Notified: followers - 1}
	require.Equal(x, told, cleo.progressed(stream.ID, "completed"))
	cleo.end(stream)
}

func slowAllFanOuts(x *section) {
	limited := func() bool {
		out := x.shell("temporal task-queue config get --task-queue notify --task-queue-type activity --output json", nil)
		return regexp.MustCompile(`"requestsPerSecond": *20\b`).MatchString(out)
	}
	x.next()
	x.until("the queue has a limit", limited)
	ada := x.register("ada")
	x.followedBy(ada, 3000)
	stream := ada.start(false)
	require.EqualValues(x, 3000, ada.progressed(stream.ID, "completed").Notified)
	described, err := x.temporal.DescribeWorkflowExecution(x.ctx, "notify/"+stream.ID, "")
	require.NoError(x, err)
	require.Equal(x, ada.id, described.WorkflowExecutionInfo.Priority.FairnessKey, "creators take turns")
	ada.end(stream)
	x.next()
	x.until("it has none again", func() bool { return !limited() })
}
