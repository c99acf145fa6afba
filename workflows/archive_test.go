package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.uber.org/zap/zaptest"

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
	return livestream.Archive{ID: id}, nil
}
func (s *shelf) MarkFailed(_ context.Context, _ uuid.UUID, f livestream.Failure, _ int, _ time.Time) error {
	s.failures = append(s.failures, f)
	return nil
}
func (s *shelf) Delete(context.Context, uuid.UUID, uuid.UUID) error { return nil }
func (s *shelf) Notify(context.Context, livestream.NewNotification) (livestream.Notification, error) {
	return livestream.Notification{}, nil
}

// archiveEnvironment stands in for the CPU fleet, whose steps are tested with
// FFmpeg elsewhere; probes are the answers of the probe, one an attempt.
func archiveEnvironment(t *testing.T, s *shelf, probes ...any) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterActivity(&activities.Archives{Store: s, Timeline: s, Notify: s, Push: &audience{}, Log: zaptest.NewLogger(t), Now: time.Now})
	var media *activities.Media
	env.RegisterActivity(media)
	attempt := 0
	env.OnActivity(media.Probe, mock.Anything, mock.Anything).Return(func(context.Context, activities.ProbeInput) (activities.ChunkPlan, error) {
		answer := probes[min(attempt, len(probes)-1)]
		attempt++
		if err, ok := answer.(error); ok {
			return activities.ChunkPlan{}, err
		}
		return answer.(activities.ChunkPlan), nil
	})
	env.OnActivity(media.TranscodeChunk, mock.Anything, mock.Anything, mock.Anything).Return(nil).Maybe()
	env.OnActivity(media.TranscodeAudio, mock.Anything, mock.Anything).Return(nil).Maybe()
	env.OnActivity(media.Thumbnail, mock.Anything, mock.Anything).Return(nil).Maybe()
	env.OnActivity(media.Assemble, mock.Anything, mock.Anything).Return(activities.Assembled{}, nil).Maybe()
	env.OnActivity(media.Clean, mock.Anything, mock.Anything).Return(nil).Maybe()
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
	require.Equal(t, workflows.ArchiveState{Status: livestream.ArchiveReady, Attempt: 1, Chunks: 3, ChunksDone: 3}, state)
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
	require.Len(t, s.failures, 1)
	require.Equal(t, livestream.FailureInternal, s.failures[0].Code)
	require.NotContains(t, s.failures[0].Message, "10.0.0.7")
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

func TestArchiveThatWasDeletedMeanwhileIsOver(t *testing.T) {
	s := &shelf{deleted: true}
	env := archiveEnvironment(t, s, threeChunks())
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})

	require.NoError(t, env.GetWorkflowError())
	require.Less(t, env.Now().Sub(begin), time.Minute, "there is nothing to wait for")
}
