package activities

import (
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
	"golang.org/x/sync/errgroup"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Transcoder turns files into files.
type Transcoder interface {
	Probe(ctx context.Context, file string, alive func()) (livestream.MediaInfo, error)
	Split(ctx context.Context, src string, info livestream.MediaInfo, target time.Duration, dir string, progress func(seconds float64)) ([]livestream.Chunk, error)
	TranscodeChunk(ctx context.Context, piece string, info livestream.MediaInfo, chunk livestream.Chunk, ladder []livestream.Rendition, dir string, progress func(seconds float64)) (map[string][]livestream.Segment, error)
	TranscodeAudio(ctx context.Context, src string, info livestream.MediaInfo, dir string, progress func(seconds float64)) ([]livestream.Segment, error)
	Pictures(ctx context.Context, piece string, info livestream.MediaInfo, chunk livestream.Chunk, at float64, dir string, alive func()) error
}

// Playlister writes an archive's playlists.
type Playlister interface {
	MediaPlaylist(segments []livestream.Segment) []byte
	KeyFramePlaylist(segments []livestream.Segment) []byte
	MasterPlaylist(info livestream.MediaInfo, ladder []livestream.Rendition, initSegments map[string][]byte, segments map[string][]livestream.Segment) ([]byte, error)
	Storyboard(info livestream.MediaInfo, sheets []livestream.Segment) []byte
}

// MediaStore is what the media steps need of object storage. Progress is told in
// bytes, so that a long transfer shows that it is alive.
type MediaStore interface {
	Download(ctx context.Context, key, file string, progress func(bytes int64)) error
	UploadFile(ctx context.Context, key, file, contentType, cacheControl string, progress func(bytes int64)) error
	UploadBytes(ctx context.Context, key string, content []byte, contentType, cacheControl string) error
	ReadAll(ctx context.Context, key string) ([]byte, error)
	DeletePrefix(ctx context.Context, prefix string, alive func()) error
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
}

// Recording is the source of an archive, as the steps pass it on.
type Recording struct {
	ArchiveID uuid.UUID              `json:"archive_id"`
	SourceKey string                 `json:"source_key"`
	Info      livestream.MediaInfo   `json:"info"`
	Ladder    []livestream.Rendition `json:"ladder"`
	Chunks    int                    `json:"chunks"`
}

// Work is the weight of all steps in seconds of media; all but the pictures are cheap.
func (r Recording) Work() float64 {
	total := 0.0
	if len(r.Ladder) > 0 {
		total += r.Info.DurationSeconds * (1 + SplitWeight)
	}
	if r.Info.AudioCodec != "" {
		total += r.Info.DurationSeconds * AudioWeight
	}
	return max(total, 1)
}

// What a second of media weighs in the steps that are not its pictures.
const (
	SplitWeight = 0.02
	AudioWeight = 0.1
)

// ChunkPlan is a probed recording and how it is cut.
type ChunkPlan struct {
	Recording Recording          `json:"recording"`
	Chunks    []livestream.Chunk `json:"chunks"`
}

// PrepareInput names a recording.
type PrepareInput struct {
	ArchiveID   uuid.UUID
	SourceKey   string
	ChunkTarget time.Duration
}

// Prepare looks into a recording and cuts it into the pieces that its chunks are made
// of, or says why it cannot be made into an archive. A chunk then needs its piece
// alone, wherever it is transcoded.
func (m *Media) Prepare(ctx context.Context, in PrepareInput) (ChunkPlan, error) {
	const unit = "plan"
	var plan ChunkPlan
	if done, err := m.noted(ctx, in.ArchiveID, unit, &plan); done || err != nil {
		return plan, edge(err)
	}
	err := m.with(ctx, in.SourceKey, func(ctx context.Context, src, dir string) error {
		info, err := m.Tool.Probe(ctx, src, func() { activity.RecordHeartbeat(ctx, "probe") })
		if err != nil {
			return err
		}
		r := Recording{ArchiveID: in.ArchiveID, SourceKey: in.SourceKey, Info: info}
		if info.VideoCodec != "" {
			r.Ladder = livestream.Ladder(info.Width, info.Height)
			if plan.Chunks, err = m.Tool.Split(ctx, src, info, in.ChunkTarget, dir, m.reporter(ctx, r, unit, SplitWeight)); err != nil {
				return err
			}
			r.Chunks = len(plan.Chunks)
		}
		plan.Recording = r
		var pieces []outgoing
		for _, chunk := range plan.Chunks {
			pieces = append(pieces, outgoing{pieceKey(r, chunk), filepath.Join(dir, chunk.PieceFile()), pieceType, cacheNever})
		}
		if err := m.upload(ctx, pieces); err != nil {
			return err
		}
		return m.note(ctx, in.ArchiveID, unit, plan)
	})
	return plan, edge(err)
}

// TranscodeChunk makes the segments of one chunk in all qualities, decoding it
// once.
func (m *Media) TranscodeChunk(ctx context.Context, r Recording, chunk livestream.Chunk) error {
	unit := chunkUnit(chunk.Index)
	if done, err := m.noted(ctx, r.ArchiveID, unit, nil); done || err != nil {
		return edge(err)
	}
	return edge(m.with(ctx, pieceKey(r, chunk), func(ctx context.Context, piece, dir string) error {
		segments, err := m.Tool.TranscodeChunk(ctx, piece, r.Info, chunk, r.Ladder, dir, m.reporter(ctx, r, unit, 1))
		if err != nil {
			return err
		}
		return m.keep(ctx, r, unit, dir, segments)
	}))
}

// TranscodeAudio makes the sound, in one piece, so that nothing clicks or drifts
// at the chunks' borders.
func (m *Media) TranscodeAudio(ctx context.Context, r Recording) error {
	if done, err := m.noted(ctx, r.ArchiveID, livestream.AudioRendition, nil); done || err != nil {
		return edge(err)
	}
	return edge(m.with(ctx, r.SourceKey, func(ctx context.Context, src, dir string) error {
		segments, err := m.Tool.TranscodeAudio(ctx, src, r.Info, dir, m.reporter(ctx, r, livestream.AudioRendition, AudioWeight))
		if err != nil {
			return err
		}
		return m.keep(ctx, r, livestream.AudioRendition, dir, map[string][]livestream.Segment{livestream.AudioRendition: segments})
	}))
}

// Pictures makes the archive's poster and thumbnail, of what is seen at about that
// time in a chunk.
func (m *Media) Pictures(ctx context.Context, r Recording, chunk livestream.Chunk, at float64) error {
	const unit = "pictures"
	if done, err := m.noted(ctx, r.ArchiveID, unit, nil); done || err != nil {
		return edge(err)
	}
	return edge(m.with(ctx, pieceKey(r, chunk), func(ctx context.Context, piece, dir string) error {
		if err := m.Tool.Pictures(ctx, piece, r.Info, chunk, at, dir, func() { activity.RecordHeartbeat(ctx, unit) }); err != nil {
			return err
		}
		var pictures []outgoing
		for _, name := range []string{livestream.Poster, livestream.Thumbnail} {
			pictures = append(pictures, outgoing{livestream.ArchivePrefix(r.ArchiveID) + name, filepath.Join(dir, name), pictureType, cacheShort})
		}
		if err := m.upload(ctx, pictures); err != nil {
			return err
		}
		return m.note(ctx, r.ArchiveID, unit, nil)
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
		units = append(units, chunkUnit(i))
	}
	if r.Info.AudioCodec != "" {
		units = append(units, livestream.AudioRendition)
	}
	for _, unit := range units {
		var made map[string][]livestream.Segment
		done, err := m.noted(ctx, r.ArchiveID, unit, &made)
		if err == nil && !done {
			err = fmt.Errorf("assemble: there is no note of %s", unit)
		}
		if err != nil {
			return Assembled{}, edge(err)
		}
		for name, list := range made {
			segments[name] = append(segments[name], list...)
		}
		activity.RecordHeartbeat(ctx, unit)
	}
	out := Assembled{Renditions: r.Ladder}
	for _, list := range segments {
		for _, segment := range list {
			out.SizeBytes += segment.Bytes
		}
	}
	return out, edge(m.publish(ctx, r, segments))
}

// publish writes the playlists, the master last.
func (m *Media) publish(ctx context.Context, r Recording, segments map[string][]livestream.Segment) error {
	prefix := livestream.ArchivePrefix(r.ArchiveID)
	put := func(name string, content []byte, contentType string) error {
		activity.RecordHeartbeat(ctx, name)
		return m.Store.UploadBytes(ctx, prefix+name, content, contentType, cacheShort)
	}
	if sheets, ok := segments[livestream.StoryboardFolder]; ok {
		if err := put(livestream.Storyboard, m.Plan.Storyboard(r.Info, sheets), "text/vtt"); err != nil {
			return err
		}
		delete(segments, livestream.StoryboardFolder)
	}
	initSegments := map[string][]byte{}
	for name, list := range segments {
		folder := name + "/"
		activity.RecordHeartbeat(ctx, folder)
		init, err := m.Store.ReadAll(ctx, prefix+folder+livestream.InitSegment)
		if err != nil {
			return err
		}
		initSegments[name] = init
		if err := put(folder+livestream.MediaPlaylist, m.Plan.MediaPlaylist(list), playlistType); err != nil {
			return err
		}
		if name == livestream.AudioRendition {
			continue
		}
		if err := put(folder+livestream.KeyFramePlaylist, m.Plan.KeyFramePlaylist(list), playlistType); err != nil {
			return err
		}
	}
	master, err := m.Plan.MasterPlaylist(r.Info, r.Ladder, initSegments, segments)
	if err != nil {
		return err
	}
	return put(livestream.MasterPlaylist, master, playlistType)
}

// Clean forgets what the steps noted for one another, and the pieces; and what they made
// of them, if that is said.
func (m *Media) Clean(ctx context.Context, archiveID uuid.UUID, made bool) error {
	prefixes := []string{workPrefix(archiveID)}
	if made {
		prefixes = append(prefixes, livestream.ArchivePrefix(archiveID))
	}
	for _, prefix := range prefixes {
		if err := m.Store.DeletePrefix(ctx, prefix, func() { activity.RecordHeartbeat(ctx, prefix) }); err != nil {
			return edge(err)
		}
	}
	return nil
}

const (
	playlistType   = "application/vnd.apple.mpegurl"
	segmentType    = "video/mp4"
	pictureType    = "image/jpeg"
	pieceType      = "video/x-matroska"
	cacheNever     = "no-store"
	cacheShort     = "public, max-age=60"
	cacheImmutable = "public, max-age=31536000, immutable"
)

func workPrefix(archiveID uuid.UUID) string { return "work/" + archiveID.String() + "/" }

func chunkUnit(index int) string { return fmt.Sprintf("chunk_%05d", index) }

func pieceKey(r Recording, chunk livestream.Chunk) string {
	return workPrefix(r.ArchiveID) + chunk.PieceFile()
}

func noteKey(archiveID uuid.UUID, unit string) string {
	return workPrefix(archiveID) + unit + ".json"
}

// noted says whether a step is done, by this attempt or by one on a worker that died
// before it could say so, and reads what it noted into what is not nil.
func (m *Media) noted(ctx context.Context, archiveID uuid.UUID, unit string, into any) (bool, error) {
	note, err := m.Store.ReadAll(ctx, noteKey(archiveID, unit))
	if livestream.CodeOf(err) == livestream.CodeNotFound {
		return false, nil
	}
	if err == nil && into != nil {
		err = json.Unmarshal(note, into)
	}
	if err != nil {
		return false, fmt.Errorf("read the note of %s: %w", unit, err)
	}
	return true, nil
}

// note is written when a step's files are: where it is, they are.
func (m *Media) note(ctx context.Context, archiveID uuid.UUID, unit string, what any) error {
	note, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("note %s: %w", unit, err)
	}
	return m.Store.UploadBytes(ctx, noteKey(archiveID, unit), note, "application/json", cacheNever)
}

// keep uploads a step's files, then the note of what they are.
func (m *Media) keep(ctx context.Context, r Recording, unit, dir string, segments map[string][]livestream.Segment) error {
	var all []outgoing
	for name, list := range segments {
		files, kind := []string{livestream.InitSegment}, segmentType
		if name == livestream.StoryboardFolder {
			files, kind = nil, pictureType
		}
		for _, segment := range list {
			files = append(files, segment.Name)
		}
		for _, file := range files {
			key := path.Join(livestream.ArchivePrefix(r.ArchiveID), name, file)
			all = append(all, outgoing{key, filepath.Join(dir, name, file), kind, cacheImmutable})
		}
	}
	if err := m.upload(ctx, all); err != nil {
		return err
	}
	return m.note(ctx, r.ArchiveID, unit, segments)
}

// outgoing is a file that a step leaves in the store.
type outgoing struct{ key, file, contentType, cacheControl string }

// uploadsAtOnce is how many of a step's files go at a time.
const uploadsAtOnce = 8

// upload stores a step's files. Temporal is told of each: most are too small to tell of
// themselves on the way, and a cancel is heard at a heartbeat alone.
func (m *Media) upload(ctx context.Context, files []outgoing) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(uploadsAtOnce)
	for _, f := range files {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := m.Store.UploadFile(ctx, f.key, f.file, f.contentType, f.cacheControl, transferring(ctx)); err != nil {
				return err
			}
			activity.RecordHeartbeat(ctx, f.key)
			return nil
		})
	}
	return group.Wait()
}

// errWorkerStopping makes Temporal give the step to another worker.
var errWorkerStopping = errors.New("this worker is stopping")

// with runs a step in a scratch folder with a file of the store in it. The step is
// stopped when the worker stops, so that another one has it soon.
func (m *Media) with(ctx context.Context, key string, step func(ctx context.Context, src, dir string) error) error {
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
			activity.GetLogger(ctx).Warn("remove a scratch folder", "dir", dir, "error", err)
		}
	}()
	src := filepath.Join(dir, "source")
	if err := m.Store.Download(ctx, key, src, transferring(ctx)); err != nil {
		return err
	}
	err = step(ctx, src, dir)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// transferring tells Temporal that a transfer gets on.
func transferring(ctx context.Context) func(int64) {
	return func(bytes int64) { activity.RecordHeartbeat(ctx, bytes) }
}

// reportPatience is how long showing an archive's progress may hold up its step.
const reportPatience = time.Second

// reporter tells Temporal that the step is alive and shows the archive's
// progress, a second after the last time. What it cannot show is no reason to fail,
// nor to wait.
func (m *Media) reporter(ctx context.Context, r Recording, unit string, weight float64) func(float64) {
	var last time.Time
	return func(seconds float64) {
		activity.RecordHeartbeat(ctx, seconds)
		if time.Since(last) < time.Second {
			return
		}
		showing, cancel := context.WithTimeout(ctx, reportPatience)
		defer cancel()
		sum, err := m.Meter.Report(showing, r.ArchiveID, unit, seconds*weight)
		if err == nil {
			err = m.Progress.SetProgress(showing, r.ArchiveID, min(sum/r.Work(), 1)*maxWorking)
		}
		last = time.Now()
		if err != nil && ctx.Err() == nil {
			activity.GetLogger(ctx).Warn("show progress", "archive_id", r.ArchiveID, "error", err)
		}
	}
}

// maxWorking is the progress of an archive whose media are done but which has
// not been published.
const maxWorking = 0.98
