package activities_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
)

// With FFmpeg and a real store these steps run in e2e/; here it is counted how often
// they do.

// closet is a store of objects, and bench a tool that counts what it is asked for.
type closet map[string][]byte

func (c closet) Download(_ context.Context, _, file string, progress func(int64)) error {
	progress(1)
	return os.WriteFile(file, []byte("x"), 0o600)
}
func (c closet) UploadFile(_ context.Context, key, file, _, _ string, progress func(int64)) error {
	progress(1)
	content, err := os.ReadFile(file)
	c[key] = content
	return err
}
func (c closet) UploadBytes(_ context.Context, key string, content []byte, _, _ string) error {
	c[key] = content
	return nil
}
func (c closet) ReadAll(_ context.Context, key string) ([]byte, error) {
	content, ok := c[key]
	if !ok {
		return nil, livestream.Errorf(livestream.CodeNotFound, "there is no such file")
	}
	return content, nil
}
func (c closet) DeletePrefix(context.Context, string) error { return nil }

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
func (b *bench) Pictures(_ context.Context, _ string, _ livestream.MediaInfo, _ livestream.Chunk, _ float64, dir string) error {
	b.pictures++
	for _, name := range []string{livestream.Poster, livestream.Thumbnail} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("jpeg"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// A worker that dies between a step's last upload and its answer has done the step.
func TestMediaStepsThatAreDoneAreNotDoneAgain(t *testing.T) {
	t.Parallel()
	store, tool := closet{}, &bench{}
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
		objects := slices.Sorted(maps.Keys(store))
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
