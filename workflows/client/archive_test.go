package client_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	temporalclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// The steps beside one that was refused have stopped when the archive has failed: the
// next attempt forgets what they made.
func TestAnArchiveThatFailedHasNoStepsUnderWay(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ctx := testenv.Context(t)
	var writing atomic.Bool
	begun, failed := make(chan struct{}), make(chan bool, 1)
	fleet := worker.New(s.temporal, workflows.QueueTranscode, worker.Options{MaxHeartbeatThrottleInterval: 100 * time.Millisecond})
	step := func(name string, run any) {
		fleet.RegisterActivityWithOptions(run, activity.RegisterOptions{Name: name})
	}
	step("Prepare", func(context.Context, activities.PrepareInput) (activities.ChunkPlan, error) {
		return activities.ChunkPlan{
			Recording: activities.Recording{Chunks: 1, Info: livestream.MediaInfo{DurationSeconds: 60, VideoCodec: "h264", AudioCodec: "aac"}},
			Chunks:    []livestream.Chunk{{Duration: 60}},
		}, nil
	})
	step("TranscodeAudio", func(ctx context.Context, _ activities.Recording) error {
		writing.Store(true)
		defer writing.Store(false)
		close(begun)
		for ctx.Err() == nil {
			activity.RecordHeartbeat(ctx)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	})
	step("Pictures", func(context.Context, activities.Recording, livestream.Chunk, float64) error { return nil })
	step("TranscodeChunk", func(context.Context, activities.Recording, livestream.Chunk) error {
		<-begun
		return temporal.NewNonRetryableApplicationError("no video", activities.ErrRecordingRejected, nil, livestream.Failure{Code: livestream.FailureCorrupt})
	})
	require.NoError(t, fleet.Start())
	t.Cleanup(fleet.Stop)
	rest := worker.New(s.temporal, workflows.QueueArchive, worker.Options{})
	rest.RegisterWorkflow(workflows.Archive)
	rest.RegisterActivityWithOptions(func(context.Context, uuid.UUID, uuid.UUID, int) error { return nil }, activity.RegisterOptions{Name: "Begin"})
	rest.RegisterActivityWithOptions(func(context.Context, uuid.UUID, livestream.Failure, int) error {
		failed <- writing.Load()
		return nil
	}, activity.RegisterOptions{Name: "Fail"})
	require.NoError(t, rest.Start())
	t.Cleanup(rest.Stop)
	_, err := s.temporal.ExecuteWorkflow(ctx, temporalclient.StartWorkflowOptions{TaskQueue: workflows.QueueArchive}, workflows.Archive, workflows.ArchiveInput{ArchiveID: newID(t), StreamID: newID(t)})
	require.NoError(t, err)
	select {
	case wrote := <-failed:
		require.False(t, wrote, "the sound is still encoded")
	case <-ctx.Done():
		t.Fatal("it does not fail")
	}
}
