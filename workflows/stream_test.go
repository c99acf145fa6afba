package workflows_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/workflows"
)

func streamEnvironment(t *testing.T, store *recorder, recordings activities.RecordingStore) *testsuite.TestWorkflowEnvironment {
	return streamEnvironmentWith(t, &activities.Streams{Store: store, Recordings: recordings, Uploads: noUploads{}, Viewers: noViewers{}, Chat: noChat{}, Now: time.Now})
}

func streamEnvironmentWith(t *testing.T, steps *activities.Streams) *testsuite.TestWorkflowEnvironment {
	env := newEnvironment(t)
	env.RegisterWorkflow(workflows.NotifyFollowers)
	env.RegisterWorkflow(workflows.Archive)
	env.RegisterActivity(steps)
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
	store, recordings := &recorder{}, &recordings{archive: newID(t), abandoned: []livestream.Upload{{ID: newID(t)}}}
	env := streamEnvironment(t, store, recordings)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var archived workflows.ArchiveInput
	env.OnWorkflow(workflows.Archive, mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		require.Equal(t, livestream.StreamEnded, store.statuses[len(store.statuses)-1], "not before the end")
		require.Empty(t, recordings.deleted, "it does not wait until other uploads are forgotten")
		archived = args.Get(1).(workflows.ArchiveInput)
	}).Return(nil).Once()
	stream := livestream.NewStream{ID: newID(t), UserID: newID(t), Record: true}
	var complete, end updateResult
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(workflows.UpdateCompleteRecording, "recording", &complete, workflows.RecordingInput{UploadID: newID(t), SourceKey: "recordings/x", SizeBytes: 7})
	}, time.Minute)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &end) }, time.Hour)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: stream})

	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, complete.err)
	require.Equal(t, recordings.archive, complete.value)
	require.Equal(t, workflows.ArchiveInput{ArchiveID: recordings.archive, StreamID: stream.ID, UserID: stream.UserID, SourceKey: "recordings/x", SizeBytes: 7}, archived)
	require.Len(t, recordings.deleted, 1)
}

// A recording whose archive was deleted may be replaced while the stream goes on.
func TestStreamHandsItsLastRecordingToAnArchive(t *testing.T) {
	store, recordings := &recorder{}, &recordings{archive: newID(t)}
	env := streamEnvironment(t, store, recordings)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var archived workflows.ArchiveInput
	env.OnWorkflow(workflows.Archive, mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		archived = args.Get(1).(workflows.ArchiveInput)
	}).Return(nil).Once()
	complete := func(key string) {
		var done updateResult
		env.UpdateWorkflow(workflows.UpdateCompleteRecording, key, &done, workflows.RecordingInput{UploadID: newID(t), SourceKey: key})
	}
	env.RegisterDelayedCallback(func() { complete("recordings/first") }, time.Minute)
	second := newID(t)
	env.RegisterDelayedCallback(func() { recordings.archive = second; complete("recordings/second") }, 2*time.Minute)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &updateResult{}) }, time.Hour)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t), Record: true}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, second, archived.ArchiveID)
	require.Equal(t, "recordings/second", archived.SourceKey)
}

// What the chat was told last is how things are.
func TestStreamTellsTheChatInOrderAndIsNotHeldUpByIt(t *testing.T) {
	store, chat := &recorder{}, &deafChat{deaf: 4}
	env := streamEnvironmentWith(t, &activities.Streams{Store: store, Viewers: noViewers{}, Chat: chat, Now: time.Now})
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	encoder := func(connected bool, at time.Duration) {
		env.RegisterDelayedCallback(func() {
			env.SignalWorkflow(workflows.SignalEncoder, workflows.EncoderSignal{Connected: connected})
		}, at)
	}
	encoder(false, time.Minute)
	encoder(true, time.Minute+100*time.Millisecond)
	encoder(false, time.Minute+200*time.Millisecond)
	env.RegisterDelayedCallback(func() {
		require.Empty(t, chat.told)
		require.Equal(t, []livestream.StreamStatus{
			livestream.StreamLive, livestream.StreamReconnecting, livestream.StreamLive, livestream.StreamReconnecting,
		}, store.statuses, "the chat does not hold it up")
		env.UpdateWorkflow(workflows.UpdateEndStream, "end", &updateResult{})
	}, time.Minute+300*time.Millisecond)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []livestream.StreamStatus{
		livestream.StreamReconnecting, livestream.StreamLive, livestream.StreamReconnecting, livestream.StreamEnding, livestream.StreamEnded,
	}, chat.told)
}

func TestStreamStartsWithinTheTimeThatItsCallerWaits(t *testing.T) {
	store := &recorder{}
	env := streamEnvironment(t, store, nil)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	env.RegisterWorkflow(begunLate)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &updateResult{}) }, time.Minute)

	env.ExecuteWorkflow(begunLate, livestream.NewStream{ID: newID(t), UserID: newID(t)})

	require.NoError(t, env.GetWorkflowError())
	require.Less(t, store.time, time.Second, "of the caller's 5 s, 4.5 are over")
}

// begunLate is a stream whose worker was busy for a while.
func begunLate(ctx workflow.Context, stream livestream.NewStream) error {
	if err := workflow.Sleep(ctx, 4500*time.Millisecond); err != nil {
		return err
	}
	return workflows.Stream(ctx, workflows.StreamInput{Stream: stream})
}

func TestStreamThatEndsWithoutItsPeakKeepsItsViewers(t *testing.T) {
	store := &recorder{}
	env := streamEnvironmentWith(t, &activities.Streams{Store: store, Viewers: hangingViewers{}, Chat: noChat{}, Now: time.Now})
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &updateResult{}) }, time.Minute)

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t)}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, [2]int64{7, 7}, store.viewers)
}

func TestStreamForgetsUploadsThatNobodyFinished(t *testing.T) {
	uploads := []uuid.UUID{newID(t), newID(t), newID(t)}
	store, recordings := &recorder{}, &recordings{abandoned: []livestream.Upload{{ID: uploads[0]}, {ID: uploads[1]}, {ID: uploads[2]}}}
	env := streamEnvironment(t, store, recordings)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var end updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &end) }, time.Minute)
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t), Record: true}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, uploads, recordings.deleted)
	require.GreaterOrEqual(t, env.Now().Sub(begin), livestream.RecordingWindow)
}

func TestStreamCanceledWhileItWaitsForItsRecordingForgetsIt(t *testing.T) {
	uploads := []uuid.UUID{newID(t), newID(t), newID(t)}
	store, recordings := &recorder{}, &recordings{abandoned: []livestream.Upload{{ID: uploads[0]}, {ID: uploads[1]}, {ID: uploads[2]}}}
	env := streamEnvironment(t, store, recordings)
	env.OnWorkflow(workflows.NotifyFollowers, mock.Anything, mock.Anything).Return(nil)
	var end updateResult
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(workflows.UpdateEndStream, "end", &end) }, time.Minute)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour)
	begin := env.Now()

	env.ExecuteWorkflow(workflows.Stream, workflows.StreamInput{Stream: livestream.NewStream{ID: newID(t), UserID: newID(t), Record: true}})

	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, uploads, recordings.deleted)
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

// Abandoned gives two at a time.
func (r *recordings) Abandoned(context.Context, uuid.UUID) ([]livestream.Upload, error) {
	return r.abandoned[:min(2, len(r.abandoned))], nil
}
func (r *recordings) Stale(context.Context, time.Time) ([]livestream.Upload, error) { return nil, nil }
func (r *recordings) Delete(_ context.Context, id uuid.UUID) error {
	r.deleted = append(r.deleted, id)
	r.abandoned = slices.DeleteFunc(slices.Clone(r.abandoned), func(u livestream.Upload) bool { return u.ID == id })
	return nil
}

type noUploads struct{}

func (noUploads) AbortUpload(context.Context, livestream.Upload) error { return nil }

type noViewers struct{}

func (noViewers) Viewers(context.Context, ...uuid.UUID) (map[uuid.UUID]int64, error) { return nil, nil }
func (noViewers) Peak(context.Context, uuid.UUID) (int64, error)                     { return 0, nil }

// hangingViewers knows how many watch, and not how many did.
type hangingViewers struct{}

func (hangingViewers) Viewers(_ context.Context, ids ...uuid.UUID) (map[uuid.UUID]int64, error) {
	return map[uuid.UUID]int64{ids[0]: 7}, nil
}
func (hangingViewers) Peak(ctx context.Context, _ uuid.UUID) (int64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// deafChat takes nothing for a while, and then remembers what it was told.
type deafChat struct {
	mu   sync.Mutex
	deaf int
	told []livestream.StreamStatus
}

func (c *deafChat) Append(_ context.Context, event livestream.NewChatEvent) (livestream.ChatEvent, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf--; c.deaf >= 0 {
		return livestream.ChatEvent{}, false, livestream.Unavailable("the chat", errors.New("connection refused"))
	}
	c.told = append(c.told, event.Body.(livestream.ChatStreamBody).Status)
	return livestream.ChatEvent{}, true, nil
}

type noChat struct{}

func (noChat) Append(context.Context, livestream.NewChatEvent) (livestream.ChatEvent, bool, error) {
	return livestream.ChatEvent{}, true, nil
}
