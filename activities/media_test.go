package activities_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// With FFmpeg and a real store these steps run in e2e/; here it is counted how often
// they do.

// closet is a store of objects, and bench a tool that counts what it is asked for.
type closet struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func newCloset() *closet { return &closet{objects: map[string][]byte{}} }

func (c *closet) Download(_ context.Context, _, file string, progress func(int64)) error {
	progress(1)
	return os.WriteFile(file, []byte("x"), 0o600)
}
func (c *closet) UploadFile(ctx context.Context, key, file, _, _ string, progress func(int64)) error {
	progress(1)
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return c.UploadBytes(ctx, key, content, "", "")
}
func (c *closet) UploadBytes(_ context.Context, key string, content []byte, _, _ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[key] = content
	return nil
}
func (c *closet) ReadAll(_ context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, ok := c.objects[key]
	if !ok {
		return nil, livestream.Errorf(livestream.CodeNotFound, "there is no such file")
	}
	return content, nil
}
func (c *closet) DeletePrefix(context.Context, string, func()) error { return nil }

type bench struct {
	activities.Transcoder
	probes, chunks, sounds, pictures int
}

func (b *bench) segments(dir, name string) (map[string][]livestream.Segment, error) {
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, file := range []string{"init.mp4", "seg_00000.m4s"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(file), 0o600); err != nil {
			return nil, err
		}
	}
	return map[string][]livestream.Segment{name: {{Name: "seg_00000.m4s"}}}, nil
}
func (b *bench) TranscodeChunk(_ context.Context, _ string, _ livestream.MediaInfo, _ livestream.Chunk, _ []livestream.Rendition, dir string, _ func(float64)) (map[string][]livestream.Segment, error) {
	b.chunks++
	return b.segments(dir, "360p")
}
func (b *bench) TranscodeAudio(_ context.Context, _ string, _ livestream.MediaInfo, dir string, _ func(float64)) ([]livestream.Segment, error) {
	b.sounds++
	made, err := b.segments(dir, livestream.AudioRendition)
	return made[livestream.AudioRendition], err
}
func (b *bench) Probe(context.Context, string, func()) (livestream.MediaInfo, error) {
	b.probes++
	return livestream.MediaInfo{VideoCodec: "h264", Width: 640, Height: 360, DurationSeconds: 8}, nil
}
func (b *bench) Split(_ context.Context, _ string, _ livestream.MediaInfo, _ time.Duration, dir string, _ func(float64)) ([]livestream.Chunk, error) {
	chunks := []livestream.Chunk{{Index: 0}, {Index: 1}}
	for _, chunk := range chunks {
		if err := os.WriteFile(filepath.Join(dir, chunk.PieceFile()), []byte("piece"), 0o600); err != nil {
			return nil, err
		}
	}
	return chunks, nil
}
func (b *bench) Pictures(_ context.Context, _ string, _ livestream.MediaInfo, _ livestream.Chunk, _ float64, dir string, _ func()) error {
	b.pictures++
	for _, name := range []string{livestream.Poster, livestream.Thumbnail} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("jpeg"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// depot is a store that takes its time for each file.
type depot struct {
	*closet
	files int
	begun chan struct{} // closed at the tenth
}

func (d *depot) UploadFile(ctx context.Context, _, _, _, _ string, _ func(int64)) error {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files++; d.files == 10 {
		close(d.begun)
	}
	return nil
}

// reel is a sound of many segments.
type reel struct {
	*bench
	segments int
}

func (r reel) TranscodeAudio(context.Context, string, livestream.MediaInfo, string, func(float64)) ([]livestream.Segment, error) {
	r.sounds++
	return make([]livestream.Segment, r.segments), nil
}

// Files that are too small to tell of themselves are told of: the step is not taken for
// dead while they go, and hears in the middle that nobody wants them any more.
func TestMediaStepThatStoresManyFilesIsAlive(t *testing.T) {
	t.Parallel()
	connection, err := temporal.Dial(temporal.Options{
		HostPort: testenv.Load(t).TemporalAddress, Namespace: testenv.Namespace(t), Logger: telemetry.NewTemporalLogger(zap.NewNop()),
	})
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	const files = 500
	for name, canceled := range map[string]bool{"to the end": false, "until a cancel": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, queue := testenv.Context(t), uuid.NewString()
			store, tool := &depot{closet: newCloset(), begun: make(chan struct{})}, reel{&bench{}, files - 1}
			media := &activities.Media{Tool: tool, Store: store, Scratch: t.TempDir()}
			w := worker.New(connection, queue, worker.Options{MaxHeartbeatThrottleInterval: 100 * time.Millisecond})
			w.RegisterActivity(media)
			step := func(ctx workflow.Context, r activities.Recording) error {
				return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
					StartToCloseTimeout: time.Minute, HeartbeatTimeout: 2 * time.Second, WaitForCancellation: true,
				}), media.TranscodeAudio, r).Get(ctx, nil)
			}
			w.RegisterWorkflowWithOptions(step, workflow.RegisterOptions{Name: "step"})
			require.NoError(t, w.Start())
			t.Cleanup(w.Stop)
			archive := uuid.New()
			run, err := connection.ExecuteWorkflow(ctx, temporal.StartWorkflowOptions{TaskQueue: queue}, "step", activities.Recording{ArchiveID: archive})
			require.NoError(t, err)
			if canceled {
				<-store.begun
				require.NoError(t, connection.CancelWorkflow(ctx, run.GetID(), ""))
				require.ErrorContains(t, run.Get(ctx, nil), "canceled")
				require.Less(t, store.files, files)
				require.Empty(t, store.objects, "what is not whole has no note")
			} else {
				require.NoError(t, run.Get(ctx, nil))
				require.Equal(t, files, store.files)
				require.Len(t, store.objects, 1)
			}
			require.Equal(t, 1, tool.sounds, "the step was taken for dead")
		})
	}
}

// hung is a service that does not answer.
type hung struct{ activities.ProgressStore }

func (hung) Report(ctx context.Context, _ uuid.UUID, _ string, _ float64) (float64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// chatty is a tool that tells of its progress.
type chatty struct{ *bench }

func (c chatty) TranscodeChunk(ctx context.Context, piece string, info livestream.MediaInfo, chunk livestream.Chunk, ladder []livestream.Rendition, dir string, progress func(float64)) (map[string][]livestream.Segment, error) {
	for i := range 100 {
		progress(float64(i))
	}
	return c.bench.TranscodeChunk(ctx, piece, info, chunk, ladder, dir, progress)
}

func TestMediaStepDoesNotWaitForItsProgressToBeShown(t *testing.T) {
	t.Parallel()
	media := &activities.Media{Tool: chatty{&bench{}}, Store: newCloset(), Meter: hung{}, Progress: hung{}, Scratch: t.TempDir()}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(media)
	_, err := env.ExecuteActivity(media.TranscodeChunk, activities.Recording{ArchiveID: uuid.New()}, livestream.Chunk{})
	require.NoError(t, err)
}

// A worker that dies between a step's last upload and its answer has done the step.
func TestMediaStepsThatAreDoneAreNotDoneAgain(t *testing.T) {
	t.Parallel()
	store, tool := newCloset(), &bench{}
	media := &activities.Media{Tool: tool, Store: store, Scratch: t.TempDir()}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(media)
	recording := activities.Recording{ArchiveID: uuid.New(), SourceKey: "recordings/x"}
	var made []string
	for range 2 {
		var plan activities.ChunkPlan
		value, err := env.ExecuteActivity(media.Prepare, activities.PrepareInput{ArchiveID: recording.ArchiveID, SourceKey: recording.SourceKey})
		require.NoError(t, err)
		require.NoError(t, value.Get(&plan))
		require.Len(t, plan.Chunks, 2)
		require.Equal(t, 8.0, plan.Recording.Info.DurationSeconds, "the note tells all that the step did")
		for _, chunk := range plan.Chunks {
			_, err := env.ExecuteActivity(media.TranscodeChunk, recording, chunk)
			require.NoError(t, err)
		}
		_, err = env.ExecuteActivity(media.TranscodeAudio, recording)
		require.NoError(t, err)
		_, err = env.ExecuteActivity(media.Pictures, recording, livestream.Chunk{}, 1.5)
		require.NoError(t, err)
		objects := slices.Sorted(maps.Keys(store.objects))
		require.True(t, made == nil || slices.Equal(made, objects))
		made = objects
	}
	require.Equal(t, [4]int{1, 2, 1, 1}, [4]int{tool.probes, tool.chunks, tool.sounds, tool.pictures})
	require.Contains(t, made, livestream.ArchivePrefix(recording.ArchiveID)+livestream.Thumbnail)

	// What is there is not believed of another archive.
	recording.ArchiveID = uuid.New()
	_, err := env.ExecuteActivity(media.Pictures, recording, livestream.Chunk{}, 1.5)
	require.NoError(t, err)
	require.Equal(t, 2, tool.pictures)
}
