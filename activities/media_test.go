package activities_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.uber.org/zap/zaptest"

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
func (c closet) UploadFile(_ context.Context, key, file, _, _ string) error {
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
	chunks, sounds, pictures int
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
func (b *bench) Thumbnail(_ context.Context, _ string, _ livestream.MediaInfo, dst string) error {
	b.pictures++
	return os.WriteFile(dst, []byte("jpeg"), 0o600)
}

// A worker that dies between a step's last upload and its answer has done the step.
func TestMediaStepsThatAreDoneAreNotDoneAgain(t *testing.T) {
	t.Parallel()
	store, tool := closet{}, &bench{}
	media := &activities.Media{Tool: tool, Store: store, Scratch: t.TempDir(), Log: zaptest.NewLogger(t)}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(media)
	recording := activities.Recording{ArchiveID: uuid.New(), SourceKey: "recordings/x"}
	var made []string
	for range 2 {
		for _, chunk := range []livestream.Chunk{{Index: 0}, {Index: 1}} {
			_, err := env.ExecuteActivity(media.TranscodeChunk, recording, chunk)
			require.NoError(t, err)
		}
		_, err := env.ExecuteActivity(media.TranscodeAudio, recording)
		require.NoError(t, err)
		_, err = env.ExecuteActivity(media.Thumbnail, recording)
		require.NoError(t, err)
		objects := slices.Sorted(maps.Keys(store))
		require.True(t, made == nil || slices.Equal(made, objects))
		made = objects
	}
	require.Equal(t, [3]int{2, 1, 1}, [3]int{tool.chunks, tool.sounds, tool.pictures})
	require.Contains(t, made, livestream.ArchivePrefix(recording.ArchiveID)+livestream.Thumbnail)

	// What is there is not believed of another archive.
	recording.ArchiveID = uuid.New()
	_, err := env.ExecuteActivity(media.Thumbnail, recording)
	require.NoError(t, err)
	require.Equal(t, 2, tool.pictures)
}
