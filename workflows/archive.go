package workflows

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// SignalRetry makes a failed archive or a payment that waits try again.
const SignalRetry = "retry"

// QueryArchive gives an Archive workflow's state.
const QueryArchive = "state"

// ArchiveInput starts an Archive workflow.
type ArchiveInput struct {
	ArchiveID uuid.UUID `json:"archive_id"`
	StreamID  uuid.UUID `json:"stream_id"`
	UserID    uuid.UUID `json:"user_id"`
	SourceKey string    `json:"source_key"`
	SizeBytes int64     `json:"size_bytes"` // of the recording

	// State is what an earlier run of the same archive left to this one.
	State *ArchiveState `json:"state,omitempty"`
}

// ArchiveState is what an Archive workflow knows.
type ArchiveState struct {
	Status     livestream.ArchiveStatus `json:"status"`
	Attempt    int                      `json:"attempt"`
	Chunks     int                      `json:"chunks"`
	ChunksDone int                      `json:"chunks_done"`
	Progress   float64                  `json:"progress"` // 0 to 1, of what the steps that are done weigh
	Failure    *livestream.Failure      `json:"failure,omitempty"`

	// Of an archive that failed: how often it was tried again by itself since an operator
	// had it tried, when it is the next time, and until when it waits.
	Retries    int        `json:"retries,omitempty"`
	RetryAt    *time.Time `json:"retry_at,omitempty"`
	RetryUntil *time.Time `json:"retry_until,omitempty"`
}

var (
	archiveSteps *activities.Archives
	mediaSteps   *activities.Media
)

// Archive makes a recording playable. What fails waits for an operator's retry; a fault
// on our side is tried again meanwhile.
func Archive(ctx workflow.Context, in ArchiveInput) error {
	a := &archive{in: in}
	if in.State != nil {
		a.ArchiveState = *in.State
	}
	if err := workflow.SetQueryHandler(ctx, QueryArchive, func() (ArchiveState, error) { return a.ArchiveState, nil }); err != nil {
		return err
	}
	return a.run(ctx)
}

type archive struct {
	ArchiveState
	in ArchiveInput
}

func (a *archive) run(ctx workflow.Context) error {
	for {
		err := a.make(ctx)
		if err == nil {
			return a.clean(ctx)
		}
		if temporal.IsCanceledError(err) {
			return a.abandon(ctx, err)
		}
		if deleted(err) {
			workflow.SetCurrentDetails(ctx, "deleted by its creator")
			return nil
		}
		if err := a.fail(ctx, failureOf(err)); err != nil {
			return err
		}
		again, err := a.awaitRetry(ctx)
		if err != nil {
			return a.stop(ctx, err)
		}
		if !again {
			return a.clean(ctx)
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			in := a.in
			in.State = &a.ArchiveState
			return workflow.NewContinueAsNewError(ctx, Archive, in)
		}
	}
}

// make is one attempt, from the probe to the published archive.
func (a *archive) make(ctx workflow.Context) error {
	a.Attempt++
	replaced := a.Failure != nil && a.Failure.Code != livestream.FailureInternal
	a.ChunksDone, a.Progress, a.Failure, a.RetryAt = 0, 0, nil, nil
	a.status(ctx, livestream.ArchiveProcessing)
	begin := write(ctx, fmt.Sprintf("begin attempt %d", a.Attempt))
	if err := workflow.ExecuteActivity(begin, archiveSteps.Begin, a.in.ArchiveID, a.in.StreamID, a.Attempt).Get(ctx, nil); err != nil {
		return err
	}
	if replaced {
		// Whoever retries has put another recording there: what was made of the one that
		// was refused is no part of its archive.
		if err := a.forget(ctx, true); err != nil {
			return err
		}
	}
	plan, err := a.prepare(ctx)
	if err != nil {
		return err
	}
	if err := a.transcode(ctx, plan); err != nil {
		return err
	}
	var made activities.Assembled
	assemble := a.step(ctx, "write the playlists", plan.Recording.Info.DurationSeconds)
	if err := workflow.ExecuteActivity(assemble, mediaSteps.Assemble, plan.Recording).Get(ctx, &made); err != nil {
		return err
	}
	ready := write(ctx, "publish the archive")
	if err := workflow.ExecuteActivity(ready, archiveSteps.Ready, a.in.ArchiveID, plan.Recording.Info, made).Get(ctx, nil); err != nil {
		return err
	}
	a.Progress = 1
	a.status(ctx, livestream.ArchiveReady)
	return nil
}

func (a *archive) prepare(ctx workflow.Context) (activities.ChunkPlan, error) {
	var plan activities.ChunkPlan
	in := activities.PrepareInput{ArchiveID: a.in.ArchiveID, SourceKey: a.in.SourceKey, ChunkTarget: chunkTarget}
	if err := workflow.ExecuteActivity(a.step(ctx, "look into the recording and cut it up", 0), mediaSteps.Prepare, in).Get(ctx, &plan); err != nil {
		return plan, err
	}
	a.Chunks = len(plan.Chunks)
	if a.Chunks > 0 {
		a.Progress = plan.Recording.Info.DurationSeconds * activities.SplitWeight / plan.Recording.Work()
	}
	a.describe(ctx)
	return plan, nil
}

// transcode runs all steps at once; the queue spreads them over the fleet. The
// first that fails stops the others, and is told of when they have stopped: the next
// attempt must not find them writing.
func (a *archive) transcode(ctx workflow.Context, plan activities.ChunkPlan) error {
	r := plan.Recording
	ctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	whole := r.Info.DurationSeconds
	pending := 0
	work := r.Work()
	var failed error
	selector := workflow.NewSelector(ctx)
	add := func(future workflow.Future, weight float64, chunk bool) {
		pending++
		selector.AddFuture(future, func(f workflow.Future) {
			pending--
			if err := f.Get(ctx, nil); err != nil {
				if failed == nil {
					failed = err
					cancel()
				}
				return
			}
			a.Progress += weight / work
			if chunk {
				a.ChunksDone++
			}
			a.describe(ctx)
		})
	}
	if r.Info.AudioCodec != "" {
		add(workflow.ExecuteActivity(a.step(ctx, "encode the sound", whole), mediaSteps.TranscodeAudio, r), whole*activities.AudioWeight, false)
	}
	if len(plan.Chunks) > 0 {
		// About a tenth into it the titles are mostly over.
		at := whole / 10
		chunk := plan.Chunks[0]
		for _, c := range plan.Chunks {
			if c.Start <= at {
				chunk = c
			}
		}
		add(workflow.ExecuteActivity(a.step(ctx, "make the poster and the thumbnail", 0), mediaSteps.Pictures, r, chunk, at), 0, false)
	}
	for _, chunk := range plan.Chunks {
		summary := fmt.Sprintf("transcode chunk %d of %d", chunk.Index+1, len(plan.Chunks))
		add(workflow.ExecuteActivity(a.step(ctx, summary, chunk.Duration), mediaSteps.TranscodeChunk, r, chunk), chunk.Duration, true)
	}
	for pending > 0 {
		selector.Select(ctx)
	}
	return failed
}

// fail keeps the reason where the creator and the operator look for it. A retry
// that was sent before they could see it was meant for something else.
func (a *archive) fail(ctx workflow.Context, failure livestream.Failure) error {
	received(ctx, SignalRetry)
	a.Failure = &failure
	if err := workflow.ExecuteActivity(write(ctx, "say why it failed"), archiveSteps.Fail, a.in.ArchiveID, failure, a.Attempt).Get(ctx, nil); err != nil {
		return fmt.Errorf("say why the archive failed: %w", err)
	}
	a.status(ctx, livestream.ArchiveFailed)
	return nil
}

// awaitRetry waits for the operator, or for a fault on our side to pass, and says
// whether to go on.
func (a *archive) awaitRetry(ctx workflow.Context) (bool, error) {
	now := workflow.Now(ctx)
	if a.RetryUntil == nil {
		until := now.Add(retryWindow)
		a.RetryUntil = &until
	}
	wait, summary := a.RetryUntil.Sub(now), "an operator may retry until then"
	if pause := backoff(retryFirst, retryMax, a.Retries); a.Failure.Code == livestream.FailureInternal && pause < wait {
		at := now.Add(pause)
		wait, summary, a.RetryAt = pause, "it is tried again then, or when an operator says so", &at
		a.describe(ctx)
	}
	retry := workflow.GetSignalChannel(ctx, SignalRetry)
	told, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout:      wait,
		TimerOptions: workflow.TimerOptions{Summary: summary},
	}, func() bool { return retry.Len() > 0 })
	if err != nil {
		return false, err
	}
	received(ctx, SignalRetry)
	if told {
		a.Retries, a.RetryUntil = 0, nil
		return true, nil
	}
	a.Retries++
	return a.RetryAt != nil, nil
}

// backoff is first, doubled that many times, up to most.
func backoff(first, most time.Duration, times int) time.Duration {
	for ; times > 0 && first < most; times-- {
		first *= 2
	}
	return min(first, most)
}

// abandon is an operator's cancel: the archive says so, and the workflow closes.
func (a *archive) abandon(ctx workflow.Context, cause error) error {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	failure := livestream.Failure{Code: livestream.FailureInternal, Message: "The work on this archive was stopped."}
	if err := a.fail(ctx, failure); err != nil {
		return err
	}
	return a.stop(ctx, cause)
}

// stop closes the workflow of an archive that says already why there is none.
func (a *archive) stop(ctx workflow.Context, cause error) error {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	_ = a.clean(ctx)
	return cause
}

// deleted says whether a step found no archive any more. Its files are the
// business of the workflow that deletes it.
func deleted(err error) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && app.Type() == string(livestream.CodeArchiveNotFound)
}

func (a *archive) clean(ctx workflow.Context) error {
	if err := a.forget(ctx, false); err != nil {
		workflow.GetLogger(ctx).Warn("the steps' notes and pieces stay", "error", err)
	}
	return nil
}

// forget drops what the steps left for one another, and what they made if that is said.
func (a *archive) forget(ctx workflow.Context, made bool) error {
	return workflow.ExecuteActivity(a.step(ctx, "forget the steps' notes", 0), mediaSteps.Clean, a.in.ArchiveID, made).Get(ctx, nil)
}

func (a *archive) status(ctx workflow.Context, to livestream.ArchiveStatus) {
	a.Status = to
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttrArchiveStatus.ValueSet(string(to))); err != nil {
		workflow.GetLogger(ctx).Error("search attributes", "error", err)
	}
	a.describe(ctx)
}

func (a *archive) describe(ctx workflow.Context) {
	details := fmt.Sprintf("**%s**, %.0f %%, attempt %d, %d of %d chunks", a.Status, 100*a.Progress, a.Attempt, a.ChunksDone, a.Chunks)
	if a.Failure != nil {
		details += fmt.Sprintf("\n\n%s: %s\n\nSend the signal `%s` to try again.", a.Failure.Code, a.Failure.Message, SignalRetry)
	}
	if a.RetryAt != nil {
		details += " It is tried again by itself at " + a.RetryAt.UTC().Format(time.RFC3339) + "."
	}
	workflow.SetCurrentDetails(ctx, details)
}

// failureOf finds a creator's words for what went wrong.
func failureOf(err error) livestream.Failure {
	failure := livestream.Failure{
		Code:    livestream.FailureInternal,
		Message: "Something went wrong on our side. We have been told and will try again.",
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.Type() == activities.ErrRecordingRejected && app.HasDetails() {
		var told livestream.Failure
		if app.Details(&told) == nil {
			return told
		}
	}
	return failure
}

// step is for a step that works on that many seconds of the recording.
func (a *archive) step(ctx workflow.Context, summary string, seconds float64) workflow.Context {
	return transcode(ctx, summary, a.in.UserID, a.in.SizeBytes, time.Duration(seconds*float64(time.Second)))
}
