package workflows

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// Names of the handlers of a Stream workflow.
const (
	UpdateStartStream       = "start"
	UpdateEndStream         = "end"
	UpdateCompleteRecording = "complete_recording"
	SignalEncoder           = "encoder"
	QueryStream             = "state"
)

// StreamInput starts a Stream workflow.
type StreamInput struct {
	Stream livestream.NewStream `json:"stream"`
}

// EncoderSignal says that a stream's encoder went away or came back.
type EncoderSignal struct {
	Connected bool `json:"connected"`
}

// StreamState is what a Stream workflow knows; the query gives it.
type StreamState struct {
	Status      livestream.StreamStatus `json:"status"`
	EndWanted   bool                    `json:"end_wanted"`
	Reconnects  int                     `json:"reconnects"`
	LostAt      *time.Time              `json:"lost_at,omitempty"`
	ArchiveID   *uuid.UUID              `json:"archive_id,omitempty"`
	SourceKey   string                  `json:"source_key,omitempty"`
	SizeBytes   int64                   `json:"size_bytes,omitempty"` // of the recording
	UploadEnded bool                    `json:"upload_ended"`         // no recording is taken any more
}

var streamSteps *activities.Streams

// Stream is a broadcast from its start to its end and, when it is recorded, on
// until its recording has arrived.
func Stream(ctx workflow.Context, in StreamInput) error {
	s := &stream{in: in.Stream}
	if err := s.setup(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}

type stream struct {
	StreamState
	in livestream.NewStream

	late      bool  // the one who asked had been told that it did not work
	startErr  error // why there is no stream
	encoder   workflow.ReceiveChannel
	announced workflow.Future // the last change, and all before it
}

func (s *stream) setup(ctx workflow.Context) error {
	s.Status = livestream.StreamStarting
	s.encoder = workflow.GetSignalChannel(ctx, SignalEncoder)
	if err := workflow.SetQueryHandler(ctx, QueryStream, func() (StreamState, error) { return s.StreamState, nil }); err != nil {
		return err
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, UpdateStartStream, s.awaitStart, workflow.UpdateHandlerOptions{
		UnfinishedPolicy: workflow.HandlerUnfinishedPolicyAbandon, // see withdraw
	})
	if err != nil {
		return err
	}
	if err := workflow.SetUpdateHandler(ctx, UpdateEndStream, s.end); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, UpdateCompleteRecording, s.completeRecording,
		workflow.UpdateHandlerOptions{Validator: s.validateRecording})
}

func (s *stream) run(ctx workflow.Context) error {
	// A cancel is an operator's way to end the stream, or later the wait for its
	// recording. What must happen, happens all the same.
	steady, _ := workflow.NewDisconnectedContext(ctx)
	if !s.start(ctx) {
		return s.withdraw(steady)
	}
	if err := s.tellFollowers(steady); err != nil {
		return err
	}
	wait := ctx
	if err := s.broadcast(ctx); temporal.IsCanceledError(err) {
		wait = steady // that cancel has done its work
	} else if err != nil {
		return err
	}
	if err := s.finish(steady); err != nil {
		return err
	}
	if err := s.collectRecording(wait, steady); err != nil {
		return err
	}
	return workflow.Await(steady, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// start writes the row, and says whether there is a stream now.
func (s *stream) start(ctx workflow.Context) bool {
	if s.late = late(ctx); s.late {
		s.startErr = temporal.NewApplicationError("the start came too late", string(livestream.CodeUnavailable))
		s.describe(ctx, "not started: no worker was there in time")
		return false
	}
	err := workflow.ExecuteLocalActivity(record(ctx, "write the stream"), streamSteps.Create, s.in).Get(ctx, nil)
	if err != nil {
		s.startErr = err
		s.describe(ctx, "not started: "+err.Error())
		return false
	}
	s.status(ctx, livestream.StreamLive)
	return true
}

// late says whether the one who asked has been told by now that it did not work.
// A reset is late on purpose; only the run's own id tells one, and a replay
// elsewhere has another, so that what it told is kept in the history.
func late(ctx workflow.Context) bool {
	if age(ctx) <= StartDeadline {
		return false
	}
	info, reset := workflow.GetInfo(ctx), false
	told := workflow.SideEffect(ctx, func(workflow.Context) any { return info.OriginalRunID != info.WorkflowExecution.RunID })
	return told.Get(&reset) != nil || !reset
}

// withdraw closes the workflow of a start that did not work. A refusal is an
// answer, the same for each request of that id. After anything else there is no
// answer: the workflow fails, so that the same request may start it again, and a
// row whose commit nobody heard of is ended, because it would keep its creator
// from going live.
func (s *stream) withdraw(ctx workflow.Context) error {
	if final(s.startErr) {
		return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	}
	if s.late {
		return s.startErr // nothing was written
	}
	if err := workflow.ExecuteActivity(write(ctx, "take back what was written"), streamSteps.Withdraw, s.in.ID).Get(ctx, nil); err != nil {
		return fmt.Errorf("take back what was written: %w", err)
	}
	return s.startErr
}

// tellFollowers leaves that to a workflow of its own. Creators take turns on its queue,
// with all of its steps, so that a million followers do not hold up the few of others.
func (s *stream) tellFollowers(ctx workflow.Context) error {
	child := s.child(ctx, NotifyID(s.in.ID), QueueNotify, Summary("tell followers of", s.in.Title))
	child = workflow.WithWorkflowPriority(child, temporal.Priority{FairnessKey: s.in.UserID.String()})
	notify := workflow.ExecuteChildWorkflow(child, NotifyFollowers, NotifyInput{Stream: livestream.GoLive{
		StreamID: s.in.ID, CreatorID: s.in.UserID, Title: s.in.Title, Before: workflow.Now(ctx),
	}})
	if err := notify.GetChildWorkflowExecution().Get(ctx, nil); err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return fmt.Errorf("start the fan-out: %w", err)
	}
	return nil
}

// broadcast lasts until the stream is to end: because somebody said so, or
// because its encoder went away and did not come back.
func (s *stream) broadcast(ctx workflow.Context) error {
	for !s.EndWanted {
		if s.Status == livestream.StreamLive {
			if err := workflow.Await(ctx, func() bool { return s.EndWanted || s.encoder.Len() > 0 }); err != nil {
				return err
			}
		} else {
			deadline := s.LostAt.Add(reconnectWindow)
			back, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
				Timeout:      deadline.Sub(workflow.Now(ctx)),
				TimerOptions: workflow.TimerOptions{Summary: "the encoder may come back until then"},
			}, func() bool { return s.EndWanted || s.encoder.Len() > 0 })
			if err != nil {
				return err
			}
			if !back {
				return nil
			}
		}
		if err := s.followEncoder(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) followEncoder(ctx workflow.Context) error {
	var signal EncoderSignal
	for s.encoder.ReceiveAsync(&signal) {
		now := workflow.Now(ctx)
		switch {
		case !signal.Connected && s.Status == livestream.StreamLive:
			s.LostAt = &now
			deadline := now.Add(reconnectWindow)
			s.Reconnects++
			if err := s.move(ctx, livestream.StreamReconnecting, &deadline); err != nil {
				return err
			}
		case signal.Connected && s.Status == livestream.StreamReconnecting:
			s.LostAt = nil
			if err := s.move(ctx, livestream.StreamLive, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish ends the stream: ending, then ended with its viewers counted.
func (s *stream) finish(ctx workflow.Context) error {
	if err := s.write(ctx, livestream.StreamEnding, nil); err != nil {
		return err
	}
	if err := promptly(ctx, "end the stream", streamSteps.Finish, s.in.ID, workflow.Now(ctx)); err != nil {
		return fmt.Errorf("end the stream: %w", err)
	}
	s.status(ctx, livestream.StreamEnded)
	s.announce(ctx, livestream.StreamEnding, livestream.StreamEnded)
	if err := s.announced.Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("the chat was not told of the end", "error", err)
	}
	return nil
}

// collectRecording waits for the recording and hands it to its archive; when
// none came in time, what was uploaded of one is forgotten. A cancel ends the
// wait alone.
func (s *stream) collectRecording(wait, ctx workflow.Context) error {
	if !s.in.Record {
		s.UploadEnded = true
		return nil
	}
	if s.ArchiveID == nil {
		s.describe(ctx, "ended, waiting for its recording")
	}
	_, err := workflow.AwaitWithOptions(wait, workflow.AwaitOptions{
		Timeout:      livestream.RecordingWindow,
		TimerOptions: workflow.TimerOptions{Summary: "a recording is taken until then"},
	}, func() bool { return s.ArchiveID != nil && workflow.AllHandlersFinished(ctx) })
	if err != nil && !temporal.IsCanceledError(err) {
		return err
	}
	s.UploadEnded = true
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	if s.ArchiveID == nil {
		s.describe(ctx, "ended without a recording")
	} else if err := s.startArchive(ctx); err != nil {
		return err
	}
	if err := workflow.ExecuteActivity(write(ctx, "forget unfinished uploads"), streamSteps.AbortUploads, s.in.ID).Get(ctx, nil); err != nil {
		return fmt.Errorf("forget unfinished uploads: %w", err)
	}
	return nil
}

// startArchive leaves the recording to a workflow of its own.
func (s *stream) startArchive(ctx workflow.Context) error {
	child := s.child(ctx, ArchiveID(*s.ArchiveID), QueueArchive, Summary("archive of", s.in.Title))
	archive := workflow.ExecuteChildWorkflow(child, Archive, ArchiveInput{
		ArchiveID: *s.ArchiveID, StreamID: s.in.ID, UserID: s.in.UserID, SourceKey: s.SourceKey, SizeBytes: s.SizeBytes,
	})
	if err := archive.GetChildWorkflowExecution().Get(ctx, nil); err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return fmt.Errorf("start the archive: %w", err)
	}
	s.describe(ctx, "ended, its archive is "+ArchiveID(*s.ArchiveID))
	return nil
}

// awaitStart answers the one who started the stream, when its row is committed or
// was refused. An answer is kept with the workflow and given again; that the
// database was away must not be.
func (s *stream) awaitStart(ctx workflow.Context) error {
	err := workflow.Await(ctx, func() bool { return s.Status != livestream.StreamStarting || final(s.startErr) })
	if err != nil {
		return err
	}
	return s.startErr
}

// end asks for the end and answers when it can be seen. Asking again is no error.
func (s *stream) end(ctx workflow.Context) error {
	s.EndWanted = true
	return workflow.Await(ctx, func() bool {
		return s.startErr != nil || s.Status == livestream.StreamEnding || s.Status == livestream.StreamEnded
	})
}

func (s *stream) validateRecording(RecordingInput) error {
	switch {
	case !s.in.Record:
		return temporal.NewNonRetryableApplicationError("this stream is not recorded", string(livestream.CodeRecordingDisabled), nil)
	case s.UploadEnded:
		return temporal.NewNonRetryableApplicationError("the time to upload a recording is over", string(livestream.CodeRecordingClosed), nil)
	}
	return nil
}

// RecordingInput names a recording that is in object storage, whole.
type RecordingInput struct {
	UploadID  uuid.UUID `json:"upload_id"`
	SourceKey string    `json:"source_key"`
	SizeBytes int64     `json:"size_bytes"`
}

// completeRecording takes a recording and gives the id of the archive that it
// will become. A stream has one archive: when there is another, the one before was
// deleted.
func (s *stream) completeRecording(ctx workflow.Context, in RecordingInput) (uuid.UUID, error) {
	var archive livestream.Archive
	err := workflow.ExecuteActivity(write(ctx, "take the recording"), streamSteps.CompleteRecording, in.UploadID).Get(ctx, &archive)
	if err != nil {
		return uuid.Nil, err
	}
	s.ArchiveID, s.SourceKey, s.SizeBytes = &archive.ID, in.SourceKey, in.SizeBytes
	return archive.ID, nil
}

// move takes on a new state and tells the chat.
func (s *stream) move(ctx workflow.Context, to livestream.StreamStatus, reconnectDeadline *time.Time) error {
	if err := s.write(ctx, to, reconnectDeadline); err != nil {
		return err
	}
	s.announce(ctx, to)
	return nil
}

// write keeps a new state, then takes it on.
func (s *stream) write(ctx workflow.Context, to livestream.StreamStatus, reconnectDeadline *time.Time) error {
	change := activities.StreamStatusChange{StreamID: s.in.ID, Status: to, At: workflow.Now(ctx), ReconnectDeadline: reconnectDeadline}
	if err := promptly(ctx, "stream is "+string(to), streamSteps.SetStatus, change); err != nil {
		return fmt.Errorf("stream is %s: %w", to, err)
	}
	s.status(ctx, to)
	return nil
}

// announce tells the chat, after what it was told before. The stream's life does
// not hang on it.
func (s *stream) announce(ctx workflow.Context, statuses ...livestream.StreamStatus) {
	before, reconnects := s.announced, s.Reconnects
	announced, settle := workflow.NewFuture(ctx)
	s.announced = announced
	workflow.Go(ctx, func(ctx workflow.Context) {
		if before != nil {
			_ = before.Get(ctx, nil) // what could not be told is left out
		}
		settle.SetError(workflow.ExecuteActivity(courtesy(ctx, "tell the chat"), streamSteps.AnnounceStatus, s.in.ID, statuses, reconnects).Get(ctx, nil))
	})
}

// child is for a workflow that belongs to the stream and outlives this one.
func (s *stream) child(ctx workflow.Context, id, queue, summary string) workflow.Context {
	return abandoned(ctx, id, queue, summary, temporal.NewSearchAttributes(
		AttrStreamID.ValueSet(s.in.ID.String()), AttrUserID.ValueSet(s.in.UserID.String())))
}

// status shows the state to operators.
func (s *stream) status(ctx workflow.Context, to livestream.StreamStatus) {
	s.Status = to
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttrStreamStatus.ValueSet(string(to))); err != nil {
		workflow.GetLogger(ctx).Error("search attributes", "error", err)
	}
	s.describe(ctx, string(to))
}

func (s *stream) describe(ctx workflow.Context, what string) {
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s**\n\n%s", s.in.Title, what))
}
