package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflow/v1"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

// What these tests do to the fleet is little in every run of the tests; make
// soak-archive does as much as the requirements ask for.
var (
	kills  = flag.Int("kills", 1, "how often the transcode worker is killed on the way")
	outage = flag.Duration("outage", 0, "how long the object store is away once that was noticed")
	rush   = flag.Int("rush", 4, "streams that end at once")
)

func TestTranscoderKilledInTheMiddleOfARecording(t *testing.T) {
	t.Parallel()
	chunks := *kills + 2
	seconds := float64(60*(chunks-1) + 10)
	s := newStack(t, api|worker|transcode)
	recording := s.recordingOf(seconds, 854, 480)
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	archiveID := ada.upload(stream.ID, recording)
	for interrupted := 0; interrupted < *kills; {
		s.until("a chunk is under way", func() bool { return s.beating("archive/"+archiveID, "TranscodeChunk") })
		s.kill(s.transcode)
		require.Equal(t, "processing", ada.archive(archiveID).Status)
		if s.underWay("archive/"+archiveID, "TranscodeChunk") { // it may have been done just then
			interrupted++
		}
		s.restart(s.transcode)
	}

	archive := ada.archived(archiveID, "ready")
	require.InDelta(t, seconds, archive.DurationSeconds, 0.5)
	s.plays(archive, seconds, "480p", "360p")
	again := 0
	for _, event := range s.history("archive/" + archiveID) {
		if started := event.GetActivityTaskStartedEventAttributes(); started != nil {
			again += int(started.Attempt) - 1
		}
	}
	require.Equal(t, *kills, again, "a killed worker costs the step that it was working on, and no other")
	ada.happened(stream.ID, "created", "live", "notify_started", "notify_finished", "ending", "ended", "recording_received", "archive_started", "archive_ready")
	s.completed("archive/" + archiveID)
}

func TestStoreAwayInTheMiddleOfARecording(t *testing.T) {
	t.Parallel()
	const seconds = 130
	var store *testenv.Proxy
	s := newStack(t, api|worker|transcode, func(env *devstack.Env) { store, env.S3Endpoint = testenv.NewProxy(t, env.S3Endpoint) })
	recording := s.recording(seconds)
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	archiveID := ada.upload(stream.ID, recording)
	s.until("a chunk is under way", func() bool { return s.beating("archive/"+archiveID, "TranscodeChunk") })

	store.Cut()
	s.until("a step has failed for it", func() bool {
		return slices.ContainsFunc(s.steps("archive/"+archiveID), func(step *workflow.PendingActivityInfo) bool { return step.LastFailure != nil })
	})
	time.Sleep(*outage) // the outage itself; none unless it is asked for
	require.Equal(t, "processing", ada.archive(archiveID).Status, "what needs no store goes on")
	store.Restore()

	s.plays(ada.archived(archiveID, "ready"), seconds, "360p")
	s.completed("archive/" + archiveID)
}

// A long recording has the fleet to itself, until another creator's comes: that one
// does not wait for the long one's end.
func TestShortRecordingDoesNotWaitForALongOne(t *testing.T) {
	t.Parallel()
	const chunks = 14 // the short one has five steps, between which the long one has its turns
	s := newStack(t, api|worker|transcode)
	long, short := s.recordingOf(60*chunks, 480, 270), s.recordingOf(4, 480, 270)
	ada, bob := s.register("ada"), s.register("bob")
	hers, his := ada.start(true), bob.start(true)
	ada.end(hers)
	bob.end(his)
	longID := ada.upload(hers.ID, long)
	s.until("all of the long one's chunks wait for the fleet", func() bool { return len(s.steps("archive/"+longID)) >= chunks-1 })

	shortID := bob.upload(his.ID, short)
	bob.archived(shortID, "ready")

	require.Less(t, s.notes(longID), chunks-2, "the short one came last")
	require.Equal(t, "processing", ada.archive(longID).Status)
}

// Streams that end together all become archives, and the API goes on meanwhile.
func TestManyStreamsEndTogether(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker|transcode)
	recording := s.recordingOf(10, 480, 270)
	reader := s.register("reader")
	creators := make([]member, *rush)
	streams := make([]streamView, *rush)
	for i := range creators {
		creators[i] = s.register(fmt.Sprintf("ada%d", i))
		streams[i] = creators[i].start(true)
	}
	calm := s.reading(reader, streams[0].ID)
	s.until("enough was asked while nothing else happened", func() bool { return calm.times() >= 50 })
	before := calm.stop()
	busy := s.reading(reader, streams[0].ID)
	archives := make([]string, *rush)
	for i := range creators {
		creators[i].end(streams[i])
		archives[i] = creators[i].upload(streams[i].ID, recording)
	}
	for i := range creators {
		creators[i].archived(archives[i], "ready")
	}
	during := busy.stop()
	t.Logf("GET /api/streams/{id} while nothing else happens: p95 %s of %d; while %d archives are made: p95 %s of %d",
		p95(before), len(before), *rush, p95(during), len(during))
	for i := range creators {
		s.completed("archive/" + archives[i])
	}
}

// stopwatch asks for a stream ten times a second, and notes how long each answer took.
type stopwatch struct {
	s    *stack
	mu   sync.Mutex
	took []time.Duration
	err  error
	end  chan struct{}
	done chan struct{}
}

func (s *stack) reading(m member, streamID string) *stopwatch {
	w := &stopwatch{s: s, end: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.end:
				return
			case <-tick.C:
			}
			began := time.Now()
			err := m.Do(s.ctx, http.MethodGet, "/api/streams/"+streamID, nil, nil)
			w.mu.Lock()
			w.took, w.err = append(w.took, time.Since(began)), errors.Join(w.err, err)
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *stopwatch) times() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.took)
}

// stop gives the times of answers, all of which have to be good.
func (w *stopwatch) stop() []time.Duration {
	w.s.Helper()
	close(w.end)
	<-w.done
	require.NoError(w.s, w.err)
	return w.took
}

func p95(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*95/100].Round(10 * time.Microsecond)
}

// notes counts the chunks of an archive that are done: where the note is, the
// files are.
func (s *stack) notes(archiveID string) int {
	s.Helper()
	notes, err := filepath.Glob(filepath.Join(s.env.S3Dir, s.env.S3Bucket, "work", archiveID, "chunk_*.json"))
	require.NoError(s, err)
	return len(notes)
}

// beating says whether a workflow has a step of that type that has told of its
// progress.
func (s *stack) beating(workflowID, step string) bool {
	return slices.ContainsFunc(s.steps(workflowID), func(pending *workflow.PendingActivityInfo) bool {
		return pending.ActivityType.Name == step && pending.HeartbeatDetails != nil
	})
}

// underWay says whether a worker has taken such a step of a workflow.
func (s *stack) underWay(workflowID, step string) bool {
	return slices.ContainsFunc(s.steps(workflowID), func(pending *workflow.PendingActivityInfo) bool {
		return pending.ActivityType.Name == step && pending.State == enums.PENDING_ACTIVITY_STATE_STARTED
	})
}

// steps are those that a workflow waits for.
func (s *stack) steps(workflowID string) []*workflow.PendingActivityInfo {
	described, err := s.temporal.DescribeWorkflowExecution(s.ctx, workflowID, "")
	if err != nil {
		return nil // it may not have begun
	}
	return described.PendingActivities
}
