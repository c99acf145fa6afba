package workflows_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// shelf is an archive's row, as one test needs it.
type shelf struct {
	recorder
	ready    int
	deleted  bool
	failures []livestream.Failure
	deletes  []error // what each attempt to delete it is answered; then it works
	removed  []string
	source   livestream.Upload
}

func (s *shelf) ByID(_ context.Context, id uuid.UUID) (livestream.Archive, error) {
	return livestream.Archive{ID: id}, nil
}
func (s *shelf) MarkProcessing(context.Context, uuid.UUID) error { return nil }
func (s *shelf) MarkReady(_ context.Context, id uuid.UUID, _ livestream.MediaInfo, _ []livestream.Rendition, _ int64, _ time.Time) (livestream.Archive, error) {
	if s.deleted {
		return livestream.Archive{}, livestream.Errorf(livestream.CodeArchiveNotFound, "there is no such archive")
	}
	s.ready++
	now := time.Now()
	return livestream.Archive{ID: id, ReadyAt: &now}, nil
}
func (s *shelf) MarkFailed(_ context.Context, _ uuid.UUID, f livestream.Failure, _ int, _ time.Time) error {
	s.failures = append(s.failures, f)
	return nil
}
func (s *shelf) Delete(context.Context, uuid.UUID, uuid.UUID, uuid.UUID) error {
	if len(s.deletes) == 0 {
		return nil
	}
	err := s.deletes[0]
	s.deletes = s.deletes[1:]
	return err
}
func (s *shelf) OfArchive(context.Context, uuid.UUID, uuid.UUID) (livestream.Upload, error) {
	if s.source.Key == "" {
		return s.source, livestream.Errorf(livestream.CodeUploadNotFound, "there is no such upload")
	}
	return s.source, nil
}
func (s *shelf) Notify(context.Context, livestream.NewNotification) (livestream.Notification, error) {
	return livestream.Notification{}, nil
}

// bin is where a shelf's objects go.
type bin struct{ *shelf }

func (b bin) Delete(ctx context.Context, key string) error {
	return b.DeletePrefix(ctx, key, func() {})
}
func (b bin) DeletePrefix(_ context.Context, prefix string, _ func()) error {
	b.removed = append(b.removed, prefix)
	return nil
}

// archiveEnvironment stands in for the CPU fleet, whose steps are tested with
// FFmpeg elsewhere; probes are the answers of the probe, one an attempt.
func archiveEnvironment(t *testing.T, s *shelf, probes ...any) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterActivity(&activities.Archives{Store: s, Recordings: s, Objects: bin{s}, Timeline: s, Notify: s, Push: &audience{}, Browsers: &audience{}, Now: time.Now})
	var media *activities.Media
	env.RegisterActivity(media)
	attempt := 0
	env.OnActivity(media.Prepare, mock.Anything, mock.Anything).Return(func(context.Context, activities.PrepareInput) (activities.ChunkPlan, error) {
		answer := probes[min(attempt, len(probes)-1)]
		attempt++
		if err, ok := answer.(error); ok {
			return activities.ChunkPlan{}, err
		}
		return answer.(activities.ChunkPlan), nil
	}).Maybe()
	env.OnActivity(media.TranscodeChunk, mock.Anything, mock.Anything, mock.Anything).Return(nil).Maybe()
	env.OnActivity(media.TranscodeAudio, mock.Anything, mock.Anything).Return(nil).Maybe()
	env.OnActivity(media.Pictures, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil).Maybe()
	env.OnActivity(media.Assemble, mock.Anything, mock.Anything).Return(activities.Assembled{}, nil).Maybe()
	env.OnActivity(media.Clean, mock.Anything, mock.Anything, mock.Anything).Return(nil).Maybe()
	return env
}

func threeChunks() activities.ChunkPlan {
	return activities.ChunkPlan{
		Recording: activities.Recording{Chunks: 3, Info: livestream.MediaInfo{DurationSeconds: 180, VideoCodec: "h264", AudioCodec: "aac"}},
		Chunks:    []livestream.Chunk{{Index: 0, Duration: 60}, {Index: 1, Start: 60, Duration: 60}, {Index: 2, Start: 120, Duration: 60}},
	}
}

func rejected() error {
	failure := livestream.Failure{Code: livestream.FailureNotVideo, Message: "This file is not a video."}
	return temporal.NewApplicationErrorWithOptions(failure.Message, activities.ErrRecordingRejected,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{failure}})
}

func TestArchiveTranscodesEveryChunkAndIsPublished(t *testing.T) {
	s := &shelf{}
	env := archiveEnvironment(t, s, threeChunks())

	env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.ready)
	env.AssertActivityNumberOfCalls(t, "TranscodeChunk", 3)
	env.AssertActivityNumberOfCalls(t, "TranscodeAudio", 1)
	value, err := env.QueryWorkflow(workflows.QueryArchive)
	require.NoError(t, err)
	var state workflows.ArchiveState
	require.NoError(t, value.Get(&state))
	require.Equal(t, workflows.ArchiveState{Status: livestream.ArchiveReady, Attempt: 1, Chunks: 3, ChunksDone: 3, Progress: 1}, state)
}

func TestArchiveOfWhatIsNoVideoFailsWithTheReasonAndCanBeRetried(t *testing.T) {
	s := &shelf{}
	env := archiveEnvironment(t, s, rejected(), threeChunks())
	env.RegisterDelayedCallback(func() {
		require.Equal(t, []livestream.Failure{{Code: livestream.FailureNotVideo, Message: "This file is not a video."}}, s.failures)
		env.SignalWorkflow(workflows.SignalRetry, nil)
	}, 48*time.Hour)

	env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.ready)
	require.Equal(t, []livestream.StreamEventType{livestream.EventArchiveStarted, livestream.EventArchiveStarted}, s.events)
}

func TestArchiveThatFailsOnOurSideSaysNothingOfHow(t *testing.T) {
	s := &shelf{}
	env := archiveEnvironment(t, s, errors.New("dial tcp 10.0.0.7: connection refused"))

	env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

	require.NoError(t, env.GetWorkflowError(), "nobody retried within the window")
	require.Equal(t, livestream.FailureInternal, s.failures[0].Code)
	require.NotContains(t, s.failures[0].Message, "10.0.0.7")
}

// An outage is over at some time, and nobody has to say so.
func TestArchiveThatFailsOnOurSideIsTriedAgainByItself(t *testing.T) {
	outage := func(attempts int) []any { return slices.Repeat([]any{errors.New("connection refused")}, 10*attempts) }
	t.Run("until it works", func(t *testing.T) {
		s := &shelf{}
		env := archiveEnvironment(t, s, append(outage(3), threeChunks())...)
		begin := env.Now()

		env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, 1, s.ready)
		require.Len(t, s.failures, 3)
		require.WithinRange(t, env.Now(), begin.Add(105*time.Minute), begin.Add(3*time.Hour)) // 15 min, 30 min, 1 h
	})
	t.Run("until nobody waits any more", func(t *testing.T) {
		s := &shelf{}
		env := archiveEnvironment(t, s, errors.New("connection refused"))
		begin := env.Now()

		env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

		require.NoError(t, env.GetWorkflowError())
		require.Zero(t, s.ready)
		require.Greater(t, len(s.failures), 30, "once a day at last")
		require.Less(t, len(s.failures), 50)
		require.WithinRange(t, env.Now(), begin.Add(30*24*time.Hour), begin.Add(31*24*time.Hour))
	})
	t.Run("in a run of its own when there were many steps", func(t *testing.T) {
		s := &shelf{}
		env := archiveEnvironment(t, s, errors.New("connection refused"))
		env.SetContinueAsNewSuggested(true)

		env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t), SizeBytes: 7})

		var next *workflow.ContinueAsNewError
		require.ErrorAs(t, env.GetWorkflowError(), &next)
		var in workflows.ArchiveInput
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &in))
		env = archiveEnvironment(t, s, threeChunks())
		env.ExecuteWorkflow(workflows.Archive, in)
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, 1, s.ready)
		value, err := env.QueryWorkflow(workflows.QueryArchive)
		require.NoError(t, err)
		var state workflows.ArchiveState
		require.NoError(t, value.Get(&state))
		require.Equal(t, 2, state.Attempt)
		require.Equal(t, 1, state.Retries)
	})
	t.Run("but not what is no video", func(t *testing.T) {
		s := &shelf{}
		env := archiveEnvironment(t, s, rejected())

		env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

		require.NoError(t, env.GetWorkflowError())
		require.Len(t, s.failures, 1)
	})
}

func TestArchiveRetriesOnlyForARetryThatCameAfterTheFailure(t *testing.T) {
	s := &shelf{}
	env := archiveEnvironment(t, s, rejected(), rejected(), threeChunks())
	env.RegisterDelayedCallback(func() {
		// A nervous operator; one of them is left over when the second attempt fails.
		env.SignalWorkflow(workflows.SignalRetry, nil)
		env.SignalWorkflow(workflows.SignalRetry, nil)
	}, time.Hour)
	env.RegisterDelayedCallback(func() { require.Len(t, s.failures, 2) }, 2*time.Hour)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalRetry, nil) }, 3*time.Hour)

	env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, s.ready)
}

func TestArchiveThatAnOperatorStopsLeavesNoWork(t *testing.T) {
	for name, c := range map[string]struct {
		probe any
		after time.Duration
	}{
		"while it waits for a retry": {rejected(), time.Hour},
		"while it is made":           {errors.New("no space left on device"), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			env := archiveEnvironment(t, s, c.probe)
			env.RegisterDelayedCallback(env.CancelWorkflow, c.after)

			env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

			require.True(t, temporal.IsCanceledError(env.GetWorkflowError()))
			require.Len(t, s.failures, 1, "it says so")
			env.AssertActivityNumberOfCalls(t, "Clean", 1)
		})
	}
}

func TestArchiveThatWasDeletedMeanwhileIsOver(t *testing.T) {
	s := &shelf{deleted: true}
	env := archiveEnvironment(t, s, threeChunks())
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

	require.NoError(t, env.GetWorkflowError())
	require.Less(t, env.Now().Sub(begin), time.Minute, "there is nothing to wait for")
}

// A worker that died after it had deleted the row could not say so.
func TestArchiveWhoseDeletionWasNotAnsweredLeavesNoFiles(t *testing.T) {
	unanswered := func(n int) (errs []error) {
		for range n {
			errs = append(errs, livestream.Unavailable("the database", errors.New("cut")))
		}
		return append(errs, livestream.Errorf(livestream.CodeArchiveNotFound, "there is no such archive"))
	}
	for name, attempts := range map[string]int{"at once": 0, "the second time": 1, "after its caller has gone": 8} {
		t.Run(name, func(t *testing.T) {
			in := workflows.DeleteArchiveInput{ArchiveID: newID(t), StreamID: newID(t), UserID: newID(t)}
			s := &shelf{deletes: unanswered(attempts), source: livestream.Upload{Key: livestream.RecordingPrefix(in.StreamID) + "first"}}
			env := archiveEnvironment(t, s)
			env.OnRequestCancelExternalWorkflow(mock.Anything, mock.Anything, mock.Anything).Return(nil)
			env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
				if info.ActivityType.Name == "DeleteObjects" {
					require.GreaterOrEqual(t, info.StartToCloseTimeout, time.Hour, "a long one has tens of thousands")
				}
			})
			var deleted updateResult
			env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateDeleteArchive, "delete", &deleted) }, 0)

			env.ExecuteWorkflow(workflows.DeleteArchive, in)

			require.NoError(t, env.GetWorkflowError())
			require.True(t, deleted.done)
			require.NoError(t, deleted.err)
			require.Equal(t, []string{
				livestream.ArchivePrefix(in.ArchiveID), "work/" + in.ArchiveID.String() + "/", s.source.Key,
				livestream.ArchivePrefix(in.ArchiveID), "work/" + in.ArchiveID.String() + "/", s.source.Key,
			}, s.removed, "the stream's next recording is not touched")
		})
	}
}

func TestArchiveOfAnotherKeepsItsFiles(t *testing.T) {
	s := &shelf{deletes: []error{livestream.Errorf(livestream.CodeForbidden, "this archive is another member's")}}
	env := archiveEnvironment(t, s)
	var deleted updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateDeleteArchive, "delete", &deleted) }, 0)

	env.ExecuteWorkflow(workflows.DeleteArchive, workflows.DeleteArchiveInput{ArchiveID: newID(t), StreamID: newID(t), UserID: newID(t)})

	require.NoError(t, env.GetWorkflowError())
	require.ErrorContains(t, deleted.err, "another member's")
	require.Empty(t, s.removed)
}

func TestArchiveOfALargeRecordingHasTimeToFetchIt(t *testing.T) {
	for size, least := range map[int64]time.Duration{0: 10 * time.Minute, 100 << 30: 200 * time.Minute} {
		s := &shelf{}
		env := archiveEnvironment(t, s, threeChunks())
		given := map[string]time.Duration{}
		env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			given[info.ActivityType.Name] = info.StartToCloseTimeout
		})

		env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t), SizeBytes: size})

		require.NoError(t, env.GetWorkflowError())
		for _, step := range []string{"Prepare", "Pictures", "TranscodeChunk", "TranscodeAudio"} {
			require.GreaterOrEqual(t, given[step], least, step)
		}
		require.Less(t, given["Prepare"], least+11*time.Minute)
	}
}

// What was made of a recording that was refused in its middle is no part of the
// archive of the one that replaced it.
func TestArchiveOfAnotherRecordingIsMadeFromItAlone(t *testing.T) {
	for name, c := range map[string]struct {
		failures  []any
		forgotten int
	}{
		"a refusal":           {[]any{rejected()}, 2}, // before the second attempt, and after it
		"a fault on our side": {slices.Repeat([]any{errors.New("no space left on device")}, 10), 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			env := archiveEnvironment(t, s, append(c.failures, threeChunks())...)
			env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalRetry, nil) }, 48*time.Hour)

			env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, 1, s.ready)
			env.AssertActivityNumberOfCalls(t, "Clean", c.forgotten)
		})
	}
}
