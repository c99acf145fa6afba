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

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

func streamEnvironment(t *testing.T, store *recorder, recordings activities.RecordingStore) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterWorkflow(workflows.NotifyFollowers)
	env.RegisterWorkflow(workflows.Archive)
	env.RegisterActivity(&activities.Streams{
		Store: store, Recordings: recordings, Uploads: noUploads{}, Viewers: noViewers{}, Chat: noChat{}, Now: time.Now,
	})
	return env
}

func TestStreamLivesUntilItIsEnded(t *testing.T) {
	store := &recorder{}
	env := streamEnvironment(t, store, nil)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil).Once()
	stream := livestream.NewStream{ID: newID(t), UserID: newID(t), Title: "first light"}
	var start, end, again updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateStartStream, "start", &start) }, 0)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end-1", &end) }, time.Hour)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end-2", &again) }, time.Hour)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: stream})

	require.NoError(t, env.GetWorkflowError())
	require.True(t, start.done)
	require.NoError(t, start.err)
	require.True(t, end.done && again.done)
	require.NoError(t, end.err)
	require.NoError(t, again.err, "ending twice is no error")
	require.Equal(t, []livestream.StreamStatus{livestream.StreamLive, livestream.StreamEnding, livestream.StreamEnded}, store.statuses)
}

func TestStreamThatIsRefusedTellsWhy(t *testing.T) {
	store := &recorder{refuse: livestream.Errorf(livestream.CodeAlreadyStreaming, "you are live already")}
	env := streamEnvironment(t, store, nil)
	var start updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateStartStream, "start", &start) }, 0)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.NoError(t, env.GetWorkflowError(), "a refusal is an answer, not a failure of the workflow")
	var app *temporal.ApplicationError
	require.ErrorAs(t, start.err, &app)
	require.Equal(t, string(livestream.CodeAlreadyStreaming), app.Type())
	require.Empty(t, store.statuses)
}

func TestStreamThatCannotBeWrittenMayBeStartedAgain(t *testing.T) {
	store := &recorder{refuse: livestream.Unavailable("the database", errors.New("connection refused"))}
	env := streamEnvironment(t, store, nil)
	var start updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateStartStream, "start", &start) }, 0)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.Error(t, env.GetWorkflowError(), "a workflow that failed may be started again under its id")
	require.False(t, start.done, "an answer would be given again to the same request")
	require.Equal(t, []livestream.StreamStatus{livestream.StreamEnded}, store.statuses, "a row that nobody heard of would keep its creator from going live")
}

func TestStreamThatWasTakenBackDoesNotComeAlive(t *testing.T) {
	store := &recorder{over: true}
	env := streamEnvironment(t, store, nil)
	var start updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateStartStream, "start", &start) }, 0)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.NoError(t, env.GetWorkflowError())
	var app *temporal.ApplicationError
	require.ErrorAs(t, start.err, &app)
	require.Equal(t, string(livestream.CodeStreamNotLive), app.Type())
}

func TestStreamWithoutItsEncoderEndsAfterTheReconnectWindow(t *testing.T) {
	store := &recorder{}
	env := streamEnvironment(t, store, nil)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	begin := env.Now()
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalEncoder, workflows.EncoderSignal{}) }, 10*time.Minute)
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflow(workflows.SignalEncoder, workflows.EncoderSignal{Connected: true})
	}, 10*time.Minute+30*time.Second)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalEncoder, workflows.EncoderSignal{}) }, 20*time.Minute)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []livestream.StreamStatus{
		livestream.StreamLive, livestream.StreamReconnecting, livestream.StreamLive,
		livestream.StreamReconnecting, livestream.StreamEnding, livestream.StreamEnded,
	}, store.statuses)
	require.InDelta(t, 21*time.Minute, env.Now().Sub(begin), float64(5*time.Second))
}

func TestStreamCanceledByAnOperatorIsEndedProperly(t *testing.T) {
	store := &recorder{}
	env := streamEnvironment(t, store, nil)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, livestream.StreamEnded, store.statuses[len(store.statuses)-1])
}

func TestStreamHandsItsRecordingToAnArchiveOnceItHasEnded(t *testing.T) {
	store, recordings := &recorder{}, &recordings{archive: newID(t)}
	env := streamEnvironment(t, store, recordings)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var archived workflows.ArchiveInput
	env.OnWorkflow(workflows.Archive, mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		require.Equal(t, livestream.StreamEnded, store.statuses[len(store.statuses)-1], "not before the end")
		archived = args.Get(1).(workflows.ArchiveInput)
	}).Return(nil).Once()
	stream := livestream.NewStream{ID: newID(t), UserID: newID(t), Record: true}
	var complete, end updateResult
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(workflows.UpdateCompleteRecording, "recording", &complete, workflows.RecordingInput{UploadID: newID(t), SourceKey: "recordings/x"})
	}, time.Minute)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &end) }, time.Hour)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: stream})

	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, complete.err)
	require.Equal(t, recordings.archive, complete.value)
	require.Equal(t, workflows.ArchiveInput{ArchiveID: recordings.archive, StreamID: stream.ID, UserID: stream.UserID, SourceKey: "recordings/x"}, archived)
}

func TestStreamForgetsUploadsThatNobodyFinished(t *testing.T) {
	store, recordings := &recorder{}, &recordings{abandoned: []livestream.Upload{{ID: newID(t)}}}
	env := streamEnvironment(t, store, recordings)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var end updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &end) }, time.Minute)
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t), Record: true}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []uuid.UUID{recordings.abandoned[0].ID}, recordings.deleted)
	require.GreaterOrEqual(t, env.Now().Sub(begin), livestream.RecordingWindow)
}

func TestStreamCanceledWhileItWaitsForItsRecordingForgetsIt(t *testing.T) {
	store, recordings := &recorder{}, &recordings{abandoned: []livestream.Upload{{ID: newID(t)}}}
	env := streamEnvironment(t, store, recordings)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var end updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &end) }, time.Minute)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour)
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t), Record: true}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []uuid.UUID{recordings.abandoned[0].ID}, recordings.deleted)
	require.Less(t, env.Now().Sub(begin), 2*time.Hour)
}

func TestStreamThatIsNotRecordedRefusesARecording(t *testing.T) {
	env := streamEnvironment(t, &recorder{}, nil)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var complete, end updateResult
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(workflows.UpdateCompleteRecording, "recording", &complete, workflows.RecordingInput{UploadID: newID(t)})
	}, time.Minute)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &end) }, time.Hour)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.NoError(t, env.GetWorkflowError())
	require.False(t, complete.accepted, "it never enters the history")
	require.ErrorContains(t, complete.err, "not recorded")
}

type recordings struct {
	archive   uuid.UUID
	abandoned []livestream.Upload
	deleted   []uuid.UUID
}

func (r *recordings) Complete(context.Context, uuid.UUID, uuid.UUID, time.Time) (livestream.Archive, error) {
	return livestream.Archive{ID: r.archive}, nil
}
func (r *recordings) Abandoned(context.Context, uuid.UUID) ([]livestream.Upload, error) {
	return r.abandoned, nil
}
func (r *recordings) Delete(_ context.Context, id uuid.UUID) error {
	r.deleted = append(r.deleted, id)
	return nil
}

type noUploads struct{}

func (noUploads) AbortUpload(context.Context, livestream.Upload) error { return nil }

type noViewers struct{}

func (noViewers) Viewers(context.Context, ...uuid.UUID) (map[uuid.UUID]int64, error) { return nil, nil }
func (noViewers) Peak(context.Context, uuid.UUID) (int64, error)                     { return 0, nil }

type noChat struct{}

func (noChat) Append(context.Context, livestream.NewChatEvent) (livestream.ChatEvent, bool, error) {
	return livestream.ChatEvent{}, true, nil
}
