package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	temporal "go.temporal.io/sdk/client"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// run makes a schedule start its workflow now, and waits for its end.
func (s *scene) run(t *testing.T, schedule string) enums.WorkflowExecutionStatus {
	t.Helper()
	ctx, handle := testenv.Context(t), s.temporal.ScheduleClient().GetHandle(testenv.Context(t), schedule)
	require.NoError(t, handle.Trigger(ctx, temporal.ScheduleTriggerOptions{}))
	var id string
	require.Eventually(t, func() bool {
		described, err := handle.Describe(ctx)
		if err == nil && len(described.Info.RecentActions) > 0 {
			id = described.Info.RecentActions[0].StartWorkflowResult.WorkflowID
		}
		return id != ""
	}, time.Minute, 20*time.Millisecond)
	return s.closed(t, id)
}

func TestSchedulesAreMadeOnceByWorkersThatStartTogether(t *testing.T) {
	t.Parallel()
	s, ctx := newScene(t), testenv.Context(t)
	for _, wanted := range workflows.Schedules {
		failed := make([]error, 8)
		var started sync.WaitGroup
		for i := range failed {
			started.Go(func() {
				for failed[i] = context.Canceled; failed[i] != nil && ctx.Err() == nil; { // as workers do
					failed[i] = s.EnsureSchedules(ctx, wanted.Queue)
				}
			})
		}
		started.Wait()
		for _, err := range failed {
			require.NoError(t, err)
		}
		described, err := s.temporal.ScheduleClient().GetHandle(ctx, wanted.ID).Describe(ctx)
		require.NoError(t, err)
		require.Len(t, described.Info.NextActionTimes, 10, "it is going to run")
		midnight := described.Info.NextActionTimes[0].Truncate(24 * time.Hour)
		require.Zero(t, described.Info.NextActionTimes[0].Sub(midnight.Add(wanted.Offset))%wanted.Every)
		require.Zero(t, described.Info.LastUpdateAt.Unix(), "one made it, and the others found it as it should be")
	}
}

func TestAScheduleThatDiffersIsChangedAndStaysPaused(t *testing.T) {
	t.Parallel()
	s, ctx := newScene(t), testenv.Context(t)
	wanted := workflows.Schedules[0]
	handle, err := s.temporal.ScheduleClient().Create(ctx, temporal.ScheduleOptions{
		ID: wanted.ID, Spec: temporal.ScheduleSpec{CronExpressions: []string{"@hourly"}}, Paused: true, Note: "not on a Sunday",
		Action: &temporal.ScheduleWorkflowAction{ID: "another", Workflow: "Another", TaskQueue: "another", Args: []any{1}},
	})
	require.NoError(t, err)
	require.NoError(t, s.EnsureSchedules(ctx, wanted.Queue))

	described, err := handle.Describe(ctx)
	require.NoError(t, err)
	action := described.Schedule.Action.(*temporal.ScheduleWorkflowAction)
	require.Equal(t, []any{wanted.Workflow, wanted.Queue, wanted.Summary}, []any{action.Workflow, action.TaskQueue, action.StaticSummary})
	require.Empty(t, action.Args)
	require.Empty(t, described.Schedule.Spec.Calendars)
	require.Equal(t, []temporal.ScheduleIntervalSpec{{Every: wanted.Every, Offset: wanted.Offset}}, described.Schedule.Spec.Intervals)
	require.Equal(t, []any{wanted.Overlap, wanted.CatchUp}, []any{described.Schedule.Policy.Overlap, described.Schedule.Policy.CatchupWindow})
	require.True(t, described.Schedule.State.Paused, "what an operator paused stays so")
	require.Equal(t, "not on a Sunday", described.Schedule.State.Note)
}

// Housekeeping in this scene takes place in daysAhead days.
func TestHousekeepingDeletesWhatNothingNeeds(t *testing.T) {
	t.Parallel()
	s, ctx := newScene(t), testenv.Context(t)
	require.NoError(t, s.EnsureSchedules(ctx, workflows.QueueStream))
	keys, sessions := postgres.NewIdempotencyKeys(s.db), postgres.NewSessions(s.db)
	claim := func(operation, request string) (livestream.IdempotencyRecord, error) {
		return keys.Claim(ctx, livestream.IdempotencyClaim{UserID: s.payer, Operation: operation, Key: "k", RequestHash: []byte(request), ResourceID: newID(t)})
	}
	payment, err := claim("transaction", "5 usd")
	require.NoError(t, err)
	_, err = claim("stream", "first light")
	require.NoError(t, err)
	now := time.Now()
	token := func(text string, expires time.Duration) livestream.RefreshToken {
		return livestream.RefreshToken{Hash: []byte("the hash of " + text), FamilyID: newID(t), UserID: s.payer, ExpiresAt: now.Add(expires)}
	}
	expired, valid := token("one token", time.Hour), token("another", daysAhead+time.Hour)
	require.NoError(t, sessions.Create(ctx, expired))
	require.NoError(t, sessions.Create(ctx, valid))

	s.work(t, workflows.QueueStream)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, s.run(t, "housekeeping"))

	_, err = claim("stream", "second light")
	require.NoError(t, err, "its key may be used anew")
	again, err := claim("transaction", "5 usd")
	require.NoError(t, err)
	require.Equal(t, payment.ResourceID, again.ResourceID)
	_, err = claim("transaction", "500 usd")
	require.Equal(t, livestream.CodeIdempotencyKeyReused, livestream.CodeOf(err))
	_, _, err = sessions.Rotate(ctx, expired.Hash, token("a successor", time.Hour), now)
	require.Equal(t, livestream.CodeInvalidRefreshToken, livestream.CodeOf(err))
	_, _, err = sessions.Rotate(ctx, valid.Hash, token("its successor", time.Hour), now)
	require.NoError(t, err)
}
