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
	broken   func(livestream.FollowerRange) bool // says which ranges fail
	attempts int                                 // at those that do
	away     bool                                // the database, for the first step
	ended    bool                                // the stream is over
	keeping  func(livestream.NotifyProgress)
	notified []uuid.UUID
	saved    []livestream.NotifyProgress
}

func newAudience(t *testing.T, ranges int) *audience {
	a := &audience{broken: none, keeping: func(livestream.NotifyProgress) {}}
	after := uuid.Nil
	for range ranges {
		upto := newID(t)
		a.ranges = append(a.ranges, livestream.FollowerRange{After: after, Upto: upto, Count: 1000})
		after = upto
	}
	return a
}

func none(livestream.FollowerRange) bool { return false }

func only(broken livestream.FollowerRange) func(livestream.FollowerRange) bool {
	return func(r livestream.FollowerRange) bool { return r == broken }
}

func (a *audience) Open(context.Context, uuid.UUID) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return 0, livestream.Unavailable("the database", nil)
	}
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
	if a.broken(r) {
		a.attempts++
		return livestream.RangeResult{}, errors.New("this range is broken")
	}
	if a.ended || r.Count == 0 {
		return livestream.RangeResult{Ended: a.ended}, nil
	}
	a.notified = append(a.notified, r.Upto)
	return livestream.RangeResult{Notified: r.Count - 1, Skipped: 1}, nil
}

func (a *audience) SaveProgress(_ context.Context, _ uuid.UUID, p livestream.NotifyProgress) error {
	a.keeping(p)
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

// change is for what happens to the audience meanwhile.
func (a *audience) change(what func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	what()
}

// queried is how far the fan-out is, as an operator is told.
func queried(t *testing.T, env *testsuite.TestWorkflowEnvironment) (p livestream.NotifyProgress) {
	value, err := env.QueryWorkflow(workflows.QueryProgress)
	require.NoError(t, err)
	require.NoError(t, value.Get(&p))
	return p
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
		local := 0
		env.SetOnLocalActivityStartedListener(func(*activity.Info, context.Context, []any) { local++ })
		env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			t.Errorf("the server was asked for the step %s", info.ActivityType.Name)
		})

		env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, 1, local)
		require.Equal(t, livestream.NotifyCompleted, a.last().Status)
		require.Equal(t, notified, a.last().Notified)
		require.Equal(t, []livestream.StreamEventType{livestream.EventNotifyStarted, livestream.EventNotifyFinished}, a.events)
	}
}

func TestNotifyTellsTheRestWhenARangeIsBroken(t *testing.T) {
	for _, ranges := range []int{1, 10} {
		a := newAudience(t, ranges)
		a.broken = only(a.ranges[ranges/2])
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
	a.broken = only(a.ranges[3])
	env := notifyEnvironment(t, a)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, livestream.NotifyIncomplete, a.last().Status)
		require.EqualValues(t, 1000, a.last().Failed)
		env.SignalWorkflow(workflows.SignalRetry, nil) // in vain
	}, 2*time.Hour)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, livestream.NotifyIncomplete, a.last().Status)
		a.change(func() { a.broken = none })
		env.SignalWorkflow(workflows.SignalRetry, nil)
	}, 4*time.Hour)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.notified, 10)
	require.Equal(t, livestream.NotifyCompleted, a.last().Status)
	require.Zero(t, a.last().Failed)
	require.EqualValues(t, 10_000, a.last().FollowersTotal)
}

// A fan-out that waits for an operator sees by itself that its stream is over.
func TestNotifyThatWaitsStopsWhenTheStreamEnds(t *testing.T) {
	for status, wait := range map[livestream.NotifyStatus]func(*audience, *testsuite.TestWorkflowEnvironment){
		livestream.NotifyPaused: func(_ *audience, env *testsuite.TestWorkflowEnvironment) {
			env.SignalWorkflow(workflows.SignalPause, nil)
		},
		livestream.NotifyIncomplete: func(a *audience, _ *testsuite.TestWorkflowEnvironment) {
			a.change(func() { a.broken = only(a.ranges[3]) })
		},
	} {
		t.Run(string(status), func(t *testing.T) {
			a := newAudience(t, 8)
			env := notifyEnvironment(t, a)
			looks, over := 0, env.Now()
			env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
				var live livestream.GoLive
				var r livestream.FollowerRange
				if info.ActivityType.Name == "NotifyRange" && args.Get(&live, &r) == nil && r.Count == 0 {
					looks++
				}
			})
			env.RegisterDelayedCallback(func() { wait(a, env) }, 0)
			env.RegisterDelayedCallback(func() {
				require.Equal(t, status, a.last().Status)
				require.Less(t, looks, 30, "it looks less and less often")
				a.change(func() { a.ended = true })
				over = env.Now()
			}, 6*time.Hour)

			env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, livestream.NotifyStopped, a.last().Status)
			require.LessOrEqual(t, a.last().FinishedAt.Sub(over), 15*time.Minute)
		})
	}
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
		require.Equal(t, livestream.NotifyPaused, queried(t, env).Status)
		env.SignalWorkflow(workflows.SignalResume, nil)
	}, time.Hour)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.notified, 8)
}

func TestNotifyPausedWhileItPlansTellsNobody(t *testing.T) {
	a := newAudience(t, 8)
	env := notifyEnvironment(t, a)
	first := true
	env.OnActivity("Plan", mock.Anything, mock.Anything).Return(func(context.Context, activities.PlanInput) ([]livestream.FollowerRange, error) {
		if first {
			first = false
			env.SignalWorkflow(workflows.SignalPause, nil)
		}
		return a.ranges, nil
	})
	env.RegisterDelayedCallback(func() {
		require.Empty(t, a.notified)
		require.Equal(t, livestream.NotifyPaused, a.last().Status)
		env.SignalWorkflow(workflows.SignalResume, nil)
	}, time.Hour)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.notified, 8)
	require.Equal(t, livestream.NotifyCompleted, a.last().Status)
}

// While ranges fail, the operator is heard all the same.
func TestNotifyIsPausedAndCanceledWhileRangesFail(t *testing.T) {
	a := newAudience(t, 8)
	a.broken = func(r livestream.FollowerRange) bool { return r != a.ranges[0] && r.Count > 0 }
	env := notifyEnvironment(t, a)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalPause, nil) }, 90*time.Second)
	attempts := 0
	env.RegisterDelayedCallback(func() {
		require.Equal(t, livestream.NotifyPaused, queried(t, env).Status)
		require.Equal(t, livestream.NotifyPaused, a.last().Status, "it is shown at once")
		require.Zero(t, a.last().Failed, "what is under way goes on")
		a.change(func() { attempts = a.attempts })
		env.SignalWorkflow(workflows.SignalCancel, nil)
	}, 91*time.Second)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, attempts, a.attempts, "no range is tried again")
	last := a.last()
	require.Equal(t, livestream.NotifyCanceled, last.Status)
	require.Less(t, last.FinishedAt.Sub(*last.StartedAt), 2*time.Minute)
	require.EqualValues(t, 1000, last.Notified+last.Skipped)
	require.EqualValues(t, 4000, last.Failed, "what was under way was given up, and nothing else was begun")
}

// The first step has one short attempt on the worker that runs the workflow; after
// that it is the server that has it tried again.
func TestNotifyBeginsWhenTheDatabaseIsBack(t *testing.T) {
	a := newAudience(t, 1)
	a.away = true
	env := notifyEnvironment(t, a)
	env.RegisterDelayedCallback(func() { a.change(func() { a.away = false }) }, time.Minute)

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.notified, 1)
	require.Equal(t, livestream.NotifyCompleted, a.last().Status)
	require.GreaterOrEqual(t, a.last().FinishedAt.Sub(*a.last().StartedAt), time.Duration(0))
}

func TestNotifyCanceledBeforeItHasBegun(t *testing.T) {
	for name, cancel := range map[string]func(*testsuite.TestWorkflowEnvironment){
		"by signal":   func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(workflows.SignalCancel, nil) },
		"by Temporal": (*testsuite.TestWorkflowEnvironment).CancelWorkflow,
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudience(t, 1)
			a.away = true
			env := notifyEnvironment(t, a)
			env.RegisterDelayedCallback(func() { cancel(env) }, time.Minute)

			env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

			require.NoError(t, env.GetWorkflowError())
			require.Empty(t, a.notified)
			require.Equal(t, livestream.NotifyCanceled, a.last().Status)
			require.NotNil(t, a.last().StartedAt)
			require.NotNil(t, a.last().FinishedAt)
		})
	}
}

func TestNotifyCanceledAtItsEndIsCompleted(t *testing.T) {
	a := newAudience(t, 8)
	env := notifyEnvironment(t, a)
	a.keeping = func(p livestream.NotifyProgress) {
		if p.Status == livestream.NotifyCompleted {
			env.CancelWorkflow()
			env.SignalWorkflow(workflows.SignalCancel, nil)
		}
	}

	env.ExecuteWorkflow(workflows.NotifyFollowers, newNotifyInput(t))

	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.notified, 8)
	require.Equal(t, livestream.NotifyCompleted, a.last().Status)
	require.Equal(t, livestream.NotifyCompleted, queried(t, env).Status)
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
	state := underWay(a)
	state.Progress.Notified, state.After = 3000, a.ranges[2].Upto
	env.OnActivity("NotifyRange", mock.Anything, mock.Anything, mock.Anything).Return(func(_ context.Context, _ livestream.GoLive, r livestream.FollowerRange) (livestream.RangeResult, error) {
		env.SignalWorkflow(workflows.SignalPause, nil)
		return livestream.RangeResult{Notified: r.Count}, nil
	})

	next := continued(t, env, state)

	require.True(t, next.Paused)
	require.EqualValues(t, 7000, next.Progress.Notified)
	require.Equal(t, a.ranges[6].Upto, next.After)
}

// Hundreds of failed ranges are tried again by several runs, each of them once.
func TestNotifyTriesManyRangesAgainInSeveralRuns(t *testing.T) {
	a := newAudience(t, 120)
	a.broken = func(r livestream.FollowerRange) bool { return r == a.ranges[7] }
	state := underWay(a)
	state.Planned, state.Failed, state.Retry, state.Progress.Failed = true, a.ranges, 120, 120_000
	for _, left := range []int{70, 20, 0} {
		state = continued(t, notifyEnvironment(t, a), state)
		require.Equal(t, left, state.Retry)
		require.Len(t, a.notified, 119-left)
	}
	require.Len(t, a.notified, 119)
	require.Equal(t, []livestream.FollowerRange{a.ranges[7]}, state.Failed)
	require.EqualValues(t, 1000, state.Progress.Failed)
	require.EqualValues(t, 119_000, state.Progress.Notified+state.Progress.Skipped)
}

// underWay is a fan-out that has begun.
func underWay(a *audience) workflows.NotifyState {
	begun := time.Now()
	return workflows.NotifyState{Begun: true, Progress: livestream.NotifyProgress{
		Status: livestream.NotifyRunning, FollowersTotal: int64(1000 * len(a.ranges)), StartedAt: &begun,
	}}
}

// continued runs a fan-out until it continues as new, and gives what it takes along.
func continued(t *testing.T, env *testsuite.TestWorkflowEnvironment, state workflows.NotifyState) workflows.NotifyState {
	t.Helper()
	env.SetContinueAsNewSuggested(true)
	env.ExecuteWorkflow(workflows.NotifyFollowers, workflows.NotifyInput{Stream: livestream.GoLive{StreamID: newID(t)}, State: &state})
	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &next)
	var in workflows.NotifyInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &in))
	return *in.State
}
