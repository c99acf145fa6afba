package workflows_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// audience is followers in ranges of its own making.
type audience struct {
	recorder
	mu       sync.Mutex
	ranges   []livestream.FollowerRange
	broken   uuid.UUID // the range that ends here fails
	ended    bool      // the stream is over
	notified []uuid.UUID
	saved    []livestream.NotifyProgress
}

func newAudience(t *testing.T, ranges int) *audience {
	a := &audience{}
	after := uuid.Nil
	for range ranges {
		upto := newID(t)
		a.ranges = append(a.ranges, livestream.FollowerRange{After: after, Upto: upto, Count: 1000})
		after = upto
	}
	return a
}

func (a *audience) FollowerCount(context.Context, uuid.UUID) (int64, error) {
	return int64(1000 * len(a.ranges)), nil
}

func (a *audience) PlanRanges(_ context.Context, _ livestream.GoLive, after uuid.UUID, _, limit int) ([]livestream.FollowerRange, error) {
	var next []livestream.FollowerRange
	for _, r := range a.ranges {
		if bytes.Compare(r.Upto[:], after[:]) > 0 && len(next) < limit {
			next = append(next, r)
		}
	}
	return next, nil
}

func (a *audience) NotifyRange(_ context.Context, _ livestream.GoLive, r livestream.FollowerRange) (livestream.RangeResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Upto == a.broken {
		return livestream.RangeResult{}, errors.New("this range is broken")
	}
	if a.ended {
		return livestream.RangeResult{Ended: true}, nil
	}
	a.notified = append(a.notified, r.Upto)
	return livestream.RangeResult{Notified: r.Count - 1, Skipped: 1}, nil
}

func (a *audience) SaveProgress(_ context.Context, _ uuid.UUID, p livestream.NotifyProgress) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saved = append(a.saved, p)
	return nil
}

func (a *audience) Publish(context.Context, livestream.NotificationPush) error { return nil }
func (a *audience) Ring(context.Context, livestream.NotificationPush) error    { return nil }

func notifyEnvironment(t *testing.T, a *audience) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterActivity(&activities.Notifications{Store: a, Timeline: a, Push: a, Browsers: a, Now: time.Now})
	return env
}

func newNotifyInput(t *testing.T) workflows.NotifyInput {
	return workflows.NotifyInput{Stream: livestream.GoLive{StreamID: newID(t)}}
}

// last is how far the fan-out was when it last said so.
func (a *audience) last() livestream.NotifyProgress {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.saved[len(a.saved)-1]
}

func TestNotifyTellsEveryRangeOnce(t *testing.T) {
	a := newAudience(t, 120) // more than are planned at a time
	env := notifyEnvironment(t, a)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	slices.SortFunc(a.notified, func(x, y uuid.UUID) int { return bytes.Compare(x[:], y[:]) })
	require.Len(t, slices.Compact(slices.Clone(a.notified)), 120)
	require.Len(t, a.notified, 120)
	require.Equal(t, livestream.NotifyCompleted, a.last().Status)
	require.EqualValues(t, 119_880, a.last().Notified)
	require.EqualValues(t, 120, a.last().Skipped)
	require.Equal(t, []livestream.StreamEventType{livestream.EventNotifyStarted, livestream.EventNotifyFinished}, a.events)
}

func TestNotifyTellsASmallAudienceInOneStep(t *testing.T) {
	for ranges, notified := range []int64{0, 999} {
		a := newAudience(t, ranges)
		env := notifyEnvironment(t, a)
		steps := 0
		env.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) { steps++ })

		env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, 1, steps)
		require.Equal(t, livestream.NotifyCompleted, a.last().Status)
		require.Equal(t, notified, a.last().Notified)
		require.Equal(t, []livestream.StreamEventType{livestream.EventNotifyStarted, livestream.EventNotifyFinished}, a.events)
	}
}

func TestNotifyTellsTheRestWhenARangeIsBroken(t *testing.T) {
	for _, ranges := range []int{1, 10} {
		a := newAudience(t, ranges)
		a.broken = a.ranges[ranges/2].Upto
		env := notifyEnvironment(t, a)

		env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, livestream.NotifyCompleted, a.last().Status, "nobody had it tried again for a day")
		require.EqualValues(t, 999*(ranges-1), a.last().Notified)
		require.EqualValues(t, 1000, a.last().Failed)
	}
}

func TestNotifyTriesABrokenRangeAgain(t *testing.T) {
	a := newAudience(t, 10)
	a.broken = a.ranges[3].Upto
	env := notifyEnvironment(t, a)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, livestream.NotifyIncomplete, a.last().Status)
		require.EqualValues(t, 1000, a.last().Failed)
		env.SignalWorkflow(workflows.SignalRetry, nil) // in vain
	}, 2*time.Hour)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, livestream.NotifyIncomplete, a.last().Status)
		a.broken = uuid.Nil
		env.SignalWorkflow(workflows.SignalRetry, nil)
	}, 4*time.Hour)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.notified, 10)
	require.Equal(t, livestream.NotifyCompleted, a.last().Status)
	require.Zero(t, a.last().Failed)
	require.EqualValues(t, 10_000, a.last().FollowersTotal)
}

func TestNotifyStopsWhenTheStreamHasEnded(t *testing.T) {
	for _, ranges := range []int{1, 60} {
		a := newAudience(t, ranges)
		a.ended = true
		env := notifyEnvironment(t, a)

		env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

		require.NoError(t, env.GetWorkflowError())
		require.Empty(t, a.notified)
		require.Equal(t, livestream.NotifyStopped, a.last().Status)
	}
}

func TestNotifyPausesAndGoesOn(t *testing.T) {
	a := newAudience(t, 8)
	env := notifyEnvironment(t, a)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalPause, nil) }, 0)
	env.RegisterDelayedCallback(func() {
		require.Empty(t, a.notified, "nobody is told during the pause")
		var p livestream.NotifyProgress
		value, err := env.QueryWorkflow(workflows.QueryProgress)
		require.NoError(t, err)
		require.NoError(t, value.Get(&p))
		require.Equal(t, livestream.NotifyPaused, p.Status)
		env.SignalWorkflow(workflows.SignalResume, nil)
	}, time.Hour)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.notified, 8)
}

func TestNotifyCanceledStopsAndSaysSo(t *testing.T) {
	a := newAudience(t, 8)
	env := notifyEnvironment(t, a)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalPause, nil) }, 0)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalCancel, nil) }, time.Minute)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, a.notified)
	require.Equal(t, livestream.NotifyCanceled, a.last().Status)
}

func TestNotifyCanceledByTemporalSaysSoToo(t *testing.T) {
	a := newAudience(t, 8)
	env := notifyEnvironment(t, a)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalPause, nil) }, 0)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, a.notified)
	require.Equal(t, livestream.NotifyCanceled, a.last().Status)
}

func TestNotifyCarriesWhatTheOperatorWantsIntoItsNextRun(t *testing.T) {
	a := newAudience(t, 8)
	env := notifyEnvironment(t, a)
	env.SetContinueAsNewSuggested(true)
	begun := time.Now()
	state := workflows.NotifyState{
		Progress: livestream.NotifyProgress{Status: livestream.NotifyRunning, FollowersTotal: 8000, Notified: 3000, StartedAt: &begun},
		After:    a.ranges[2].Upto,
	}
	env.OnActivity("NotifyRange", mock.Anything, mock.Anything, mock.Anything).Return(func(_ context.Context, _ livestream.GoLive, r livestream.FollowerRange) (livestream.RangeResult, error) {
		env.SignalWorkflow(workflows.SignalCancel, nil)
		return livestream.RangeResult{Notified: r.Count}, nil
	})

	env.ExecuteWorkflow(workflows.NotifyFollowers, workflows.NotifyInput{Stream: livestream.GoLive{StreamID: newID(t)}, State: &state})

	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &next)
	var in workflows.NotifyInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &in))
	require.True(t, in.State.Canceled)
	require.EqualValues(t, 7000, in.State.Progress.Notified)
	require.Equal(t, a.ranges[6].Upto, in.State.After)
}
