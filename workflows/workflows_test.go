package workflows_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
)

// The tests in this package run on Temporal's time-skipping environment: they
// show what a workflow does with timers and failures that would take hours. The
// end-to-end tests run the same workflows on real components.

func newEnvironment(t *testing.T) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(20 * time.Second)
	t.Cleanup(func() { env.AssertExpectations(t) })
	return env
}

func newID(t *testing.T) uuid.UUID {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	return id
}

// updateResult collects what an update was answered.
type updateResult struct {
	mu       sync.Mutex
	accepted bool
	done     bool
	value    any
	err      error
	told     func() // is called when it is
}

func (u *updateResult) Accept() { u.mu.Lock(); u.accepted = true; u.mu.Unlock() }
func (u *updateResult) Reject(err error) {
	u.mu.Lock()
	u.done, u.err = true, err
	u.mu.Unlock()
}
func (u *updateResult) Complete(value any, err error) {
	u.mu.Lock()
	u.done, u.value, u.err = true, value, err
	u.mu.Unlock()
	if u.told != nil {
		u.told()
	}
}

// recorder is a store that remembers what was written, for the steps whose real
// stores are tested where they live.
type recorder struct {
	mu       sync.Mutex
	statuses []livestream.StreamStatus
	events   []livestream.StreamEventType
	refuse   error
	over     bool          // the stream is there and has ended
	time     time.Duration // that the last start had
	viewers  [2]int64      // at the end, and at most
}

func (r *recorder) Create(ctx context.Context, s livestream.NewStream, now time.Time) (livestream.Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok {
		r.time = time.Until(deadline)
	}
	if r.refuse != nil {
		return livestream.Stream{}, r.refuse
	}
	if r.over {
		return livestream.Stream{ID: s.ID, Status: livestream.StreamEnded}, nil
	}
	r.statuses = append(r.statuses, livestream.StreamLive)
	return livestream.Stream{ID: s.ID, Status: livestream.StreamLive, StartedAt: &now}, nil
}

func (r *recorder) SetStatus(_ context.Context, id uuid.UUID, status livestream.StreamStatus, _ time.Time, _ *time.Time) (livestream.Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statuses = append(r.statuses, status)
	return livestream.Stream{ID: id, Status: status}, nil
}

func (r *recorder) Finish(_ context.Context, id uuid.UUID, _ time.Time, viewers, peak int64) (livestream.Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.viewers = [2]int64{viewers, peak}
	r.statuses = append(r.statuses, livestream.StreamEnded)
	return livestream.Stream{ID: id, Status: livestream.StreamEnded}, nil
}

func (r *recorder) AppendEvent(_ context.Context, event livestream.NewStreamEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event.Type)
	return nil
}
