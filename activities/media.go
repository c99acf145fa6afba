package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Transcoder turns files into files.
type Transcoder interface {
	Probe(ctx context.Context, file string) (livestream.MediaInfo, error)
	TranscodeChunk(ctx context.Context, src string, info livestream.MediaInfo, chunk livestream.Chunk, ladder []livestream.Rendition, dir string, progress func(seconds float64)) (map[string][]livestream.Segment, error)
	TranscodeAudio(ctx context.Context, src string, info livestream.MediaInfo, dir string, progress func(seconds float64)) ([]livestream.Segment, error)
	Thumbnail(ctx context.Context, src string, info livestream.MediaInfo, dst string) error
}

// Playlister plans a recording's chunks and writes its playlists.
type Playlister interface {
	PlanChunks(info livestream.MediaInfo, target time.Duration) []livestream.Chunk
	MediaPlaylist(segments []livestream.Segment) []byte
	MasterPlaylist(info livestream.MediaInfo, ladder []livestream.Rendition, initSegments map[string][]byte, segments map[string][]livestream.Segment) ([]byte, error)
}

// MediaStore is what the media steps need of object storage. Progress is told in
// bytes, so that a long transfer shows that it is alive.
type MediaStore interface {
	Download(ctx context.Context, key, file string, progress func(bytes int64)) error
	UploadFile(ctx context.Context, key, file, contentType, cacheControl string) error
	UploadBytes(ctx context.Context, key string, content []byte, contentType, cacheControl string) error
	ReadAll(ctx context.Context, key string) ([]byte, error)
	DeletePrefix(ctx context.Context, prefix string) error
}

// ProgressMeter adds up how much of an archive its steps have done.
type ProgressMeter interface {
	Report(ctx context.Context, archiveID uuid.UUID, unit string, seconds float64) (sum float64, err error)
}

// ProgressStore shows an archive's progress.
type ProgressStore interface {
	SetProgress(ctx context.Context, id uuid.UUID, progress float64) error
}

// Media are the archive's steps that need the CPU fleet. Each takes its input
// from object storage and leaves its output there, in a scratch folder of its
// own meanwhile, so that any worker can run any step again.
type Media struct {
	Tool     Transcoder
	Plan     Playlister
	Store    MediaStore
	Meter    ProgressMeter
	Progress ProgressStore
	Scratch  string // folder for the steps' own folders
	Log      *zap.Logger
}

// Recording is the source of an archive, as the steps pass it on.
type Recording struct {
	ArchiveID uuid.UUID              `json:"archive_id"`
	SourceKey string                 `json:"source_key"`
	Info      livestream.MediaInfo   `json:"info"`
	Ladder    []livestream.Rendition `json:"ladder"`
	Chunks    int                    `json:"chunks"`
}

// work is the weight of all steps in seconds of media; sound is cheap.
func (r Recording) work() float64 {
	total := 0.0
	if len(r.Ladder) > 0 {
		total += r.Info.DurationSeconds
	}
	if r.Info.AudioCodec != "" {
		total += r.Info.DurationSeconds * audioWeight
	}
	return max(total, 1)
}

const audioWeight = 0.1

// ChunkPlan is a probed recording and how it is cut.
type ChunkPlan struct {
	Recording Recording          `json:"recording"`
	Chunks    []livestream.Chunk `json:"chunks"`
}

// ProbeInput names a recording.
type ProbeInput struct {
	ArchiveID   uuid.UUID
	SourceKey   string
	ChunkTarget time.Duration
}

// Probe looks into a recording and plans its chunks, or says why it cannot be
// made into an archive.
func (m *Media) Probe(ctx context.Context, in ProbeInput) (ChunkPlan, error) {
	var plan ChunkPlan
	err := m.withSource(ctx, in.SourceKey, func(ctx context.Context, src, _ string) error {
		info, err := m.Tool.Probe(ctx, src)
		if err != nil {
			return err
		}
		plan.Recording = Recording{ArchiveID: in.ArchiveID, SourceKey: in.SourceKey, Info: info}
		if info.VideoCodec != "" {
			plan.Recording.Ladder = livestream.Ladder(info.Width, info.Height)
			plan.Chunks = m.Plan.PlanChunks(info, in.ChunkTarget)
			plan.Recording.Chunks = len(plan.Chunks)
		}
		return nil
	})
	return plan, edge(err)
}

// TranscodeChunk makes the segments of one chunk in all qualities, decoding it
// once.
func (m *Media) TranscodeChunk(ctx context.Context, r Recording, chunk livestream.Chunk) error {
	unit := fmt.Sprintf("chunk_%05d", chunk.Index)
	if done, err := m.noted(ctx, r, unit); done || err != nil {
		return edge(err)
	}
	return edge(m.withSource(ctx, r.SourceKey, func(ctx context.Context, src, dir string) error {
		segments, err := m.Tool.TranscodeChunk(ctx, src, r.Info, chunk, r.Ladder, dir, m.reporter(ctx, r, unit, 1))
		if err != nil {
			return err
		}
		return m.keep(ctx, r, unit, dir, segments)
	}))
}

// TranscodeAudio makes the sound, in one piece, so that nothing clicks or drifts
// at the chunks' borders.
func (m *Media) TranscodeAudio(ctx context.Context, r Recording) error {
	if done, err := m.noted(ctx, r, livestream.AudioRendition); done || err != nil {
		return edge(err)
	}
	return edge(m.withSource(ctx, r.SourceKey, func(ctx context.Context, src, dir string) error {
		segments, err := m.Tool.TranscodeAudio(ctx, src, r.Info, dir, m.reporter(ctx, r, livestream.AudioRendition, audioWeight))
		if err != nil {
			return err
		}
		return m.keep(ctx, r, livestream.AudioRendition, dir, map[string][]livestream.Segment{livestream.AudioRendition: segments})
	}))
}

// Thumbnail makes the archive's picture.
func (m *Media) Thumbnail(ctx context.Context, r Recording) error {
	const unit = "thumbnail"
	if done, err := m.noted(ctx, r, unit); done || err != nil {
		return edge(err)
	}
	return edge(m.withSource(ctx, r.SourceKey, func(ctx context.Context, src, dir string) error {
		file := filepath.Join(dir, livestream.Thumbnail)
		if err := m.Tool.Thumbnail(ctx, src, r.Info, file); err != nil {
			return err
		}
		if err := m.Store.UploadFile(ctx, livestream.ArchivePrefix(r.ArchiveID)+livestream.Thumbnail, file, "image/jpeg", cacheShort); err != nil {
			return err
		}
		return m.note(ctx, r, unit, nil)
	}))
}

// Assembled is what the steps made together.
type Assembled struct {
	Renditions []livestream.Rendition `json:"renditions"`
	SizeBytes  int64                  `json:"size_bytes"`
}

// Assemble writes the playlists over what the chunks left. The master comes
// last: where it is, everything is.
func (m *Media) Assemble(ctx context.Context, r Recording) (Assembled, error) {
	segments := map[string][]livestream.Segment{}
	units := make([]string, 0, r.Chunks+1)
	for i := range r.Chunks {
		units = append(units, fmt.Sprintf("chunk_%05d", i))
	}
	if r.Info.AudioCodec != "" {
		units = append(units, livestream.AudioRendition)
	}
	for _, unit := range units {
		made, err := m.made(ctx, r, unit)
		if err != nil {
			return Assembled{}, edge(err)
		}
		for name, list := range made {
			segments[name] = append(segments[name], list...)
		}
		activity.RecordHeartbeat(ctx, unit)
	}
	out := Assembled{Renditions: r.Ladder}
	initSegments := map[string][]byte{}
	for name, list := range segments {
		folder := livestream.ArchivePrefix(r.ArchiveID) + name + "/"
		init, err := m.Store.ReadAll(ctx, folder+"init.mp4")
		if err != nil {
			return Assembled{}, edge(err)
		}
		initSegments[name] = init
		for _, segment := range list {
			out.SizeBytes += segment.Bytes
		}
		if err := m.Store.UploadBytes(ctx, folder+"index.m3u8", m.Plan.MediaPlaylist(list), playlistType, cacheShort); err != nil {
			return Assembled{}, edge(err)
		}
	}
	master, err := m.Plan.MasterPlaylist(r.Info, r.Ladder, initSegments, segments)
	if err != nil {
		return Assembled{}, edge(err)
	}
	err = m.Store.UploadBytes(ctx, livestream.ArchivePrefix(r.ArchiveID)+livestream.MasterPlaylist, master, playlistType, cacheShort)
	return out, edge(err)
}

// Clean forgets what the steps noted for one another.
func (m *Media) Clean(ctx context.Context, archiveID uuid.UUID) error {
	return edge(m.Store.DeletePrefix(ctx, workPrefix(archiveID)))
}

const (
	playlistType   = "application/vnd.apple.mpegurl"
	segmentType    = "video/mp4"
	cacheShort     = "public, max-age=60"
	cacheImmutable = "public, max-age=31536000, immutable"
)

func workPrefix(archiveID uuid.UUID) string { return "work/" + archiveID.String() + "/" }

func noteKey(r Recording, unit string) string { return workPrefix(r.ArchiveID) + unit + ".json" }

// noted says whether an earlier attempt has done a step, on a worker that may have
// died before it could say so.
func (m *Media) noted(ctx context.Context, r Recording, unit string) (bool, error) {
	_, err := m.Store.ReadAll(ctx, noteKey(r, unit))
	if livestream.CodeOf(err) == livestream.CodeNotFound {
		return false, nil
	}
	return err == nil, err
}

// keep uploads a step's files, then the note of what they are: where the note
// is, the files are.
func (m *Media) keep(ctx context.Context, r Recording, unit, dir string, segments map[string][]livestream.Segment) error {
	for name, list := range segments {
		files := []string{"init.mp4"}
		for _, segment := range list {
			files = append(files, segment.Name)
		}
		for _, file := range files {
			key := path.Join(livestream.ArchivePrefix(r.ArchiveID), name, file)
			if err := m.Store.UploadFile(ctx, key, filepath.Join(dir, name, file), segmentType, cacheImmutable); err != nil {
				return err
			}
			activity.RecordHeartbeat(ctx, key)
		}
	}
	return m.note(ctx, r, unit, segments)
}

func (m *Media) note(ctx context.Context, r Recording, unit string, segments map[string][]livestream.Segment) error {
	note, err := json.Marshal(segments)
	if err != nil {
		return fmt.Errorf("note segments: %w", err)
	}
	return m.Store.UploadBytes(ctx, noteKey(r, unit), note, "application/json", cacheShort)
}

func (m *Media) made(ctx context.Context, r Recording, unit string) (map[string][]livestream.Segment, error) {
	note, err := m.Store.ReadAll(ctx, noteKey(r, unit))
	if err != nil {
		return nil, err
	}
	var segments map[string][]livestream.Segment
	if err := json.NewDecoder(bytes.NewReader(note)).Decode(&segments); err != nil {
		return nil, fmt.Errorf("read the note of %s: %w", unit, err)
	}
	return segments, nil
}

// errWorkerStopping makes Temporal give the step to another worker.
var errWorkerStopping = errors.New("this worker is stopping")

// withSource runs a step in a scratch folder with the recording in it. The step
// is stopped when the worker stops, so that another one has it soon.
func (m *Media) withSource(ctx context.Context, key string, step func(ctx context.Context, src, dir string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := activity.GetWorkerStopChannel(ctx)
	go func() {
		select {
		case <-stop:
			cancel(errWorkerStopping)
		case <-ctx.Done():
		}
	}()
	dir, err := os.MkdirTemp(m.Scratch, strings.ReplaceAll(activity.GetInfo(ctx).ActivityType.Name, "/", "_")+"-")
	if err != nil {
		return fmt.Errorf("make a scratch folder: %w", err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			m.Log.Warn("remove a scratch folder", zap.String("dir", dir), zap.Error(err))
		}
	}()
	src := filepath.Join(dir, "source")
	if err := m.Store.Download(ctx, key, src, func(n int64) { activity.RecordHeartbeat(ctx, n) }); err != nil {
		return err
	}
	err = step(ctx, src, dir)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// reporter tells Temporal that the step is alive and shows the archive's
// progress, at most once a second. What it cannot show is no reason to fail.
func (m *Media) reporter(ctx context.Context, r Recording, unit string, weight float64) func(float64) {
	var last time.Time
	return func(seconds float64) {
		activity.RecordHeartbeat(ctx, seconds)
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		sum, err := m.Meter.Report(ctx, r.ArchiveID, unit, seconds*weight)
		if err == nil {
			err = m.Progress.SetProgress(ctx, r.ArchiveID, min(sum/r.work(), 1)*maxWorking)
		}
		if err != nil && ctx.Err() == nil {
			m.Log.Warn("show progress", zap.Stringer("archive_id", r.ArchiveID), zap.Error(err))
		}
	}
}

// maxWorking is the progress of an archive whose media are done but which has
// not been published.
const maxWorking = 0.98
