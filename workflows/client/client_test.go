package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
	"github.com/livestream-pro/livestream-pro/workers"
	"github.com/livestream-pro/livestream-pro/workflows"
	"github.com/livestream-pro/livestream-pro/workflows/client"
)

// What clients are told at the ends of workflows: before a worker has them, and when
// they are closed.

// scene is a namespace of Temporal and a database, with a creator and a payer.
type scene struct {
	*client.Client
	temporal       temporal.Client
	db             *postgres.DB
	creator, payer uuid.UUID
}

func newScene(t *testing.T) *scene {
	t.Helper()
	ctx := testenv.Context(t)
	db, err := postgres.Open(ctx, postgres.Config{URL: testenv.Database(t)})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	connection, err := temporal.Dial(temporal.Options{
		HostPort: testenv.Load(t).TemporalAddress, Namespace: testenv.Namespace(t), Logger: telemetry.NewTemporalLogger(zap.NewNop()),
	})
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	s := &scene{Client: client.New(connection), temporal: connection, db: db}
	for _, id := range []*uuid.UUID{&s.creator, &s.payer} {
		name := "u" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20]
		user, err := postgres.NewUsers(db).Create(ctx, livestream.NewUser{
			ID: newID(t), Username: name, Email: name + "@example.com", DisplayName: name, PasswordHash: "hash",
		})
		require.NoError(t, err)
		*id = user.ID
	}
	return s
}

func newID(t *testing.T) uuid.UUID {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	return id
}

// daysAhead is how far in the future the housekeeping of these tests takes place.
const daysAhead = 3 * 24 * time.Hour

// work begins to serve a queue.
func (s *scene) work(t *testing.T, queue string) {
	t.Helper()
	now := func() time.Time { return time.Now().UTC() }
	w, err := workers.New(s.temporal, queue, workers.Activities{
		Streams: &activities.Streams{
			Store: postgres.NewStreams(s.db), Recordings: postgres.NewRecordings(s.db), Viewers: away{}, Chat: away{}, Now: now,
		},
		Transactions: &activities.Transactions{Store: postgres.NewTransactions(s.db), Stripe: away{}, Now: now},
		Housekeeping: &activities.Housekeeping{
			Notifications: postgres.NewNotifications(s.db),
			Keys:          postgres.NewIdempotencyKeys(s.db), Sessions: postgres.NewSessions(s.db), StripeEvents: postgres.NewStripeEvents(s.db), Views: postgres.NewViews(s.db),
			Now: func() time.Time { return now().Add(daysAhead) },
		},
	}, workers.Limits{}, func(err error) { t.Log("a worker ended", err) })
	require.NoError(t, err)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
}

// away are the peers that these tests do without.
type away struct{ activities.PaymentProvider }

var errAway = errors.New("away")

func (away) Viewers(context.Context, ...uuid.UUID) (map[uuid.UUID]int64, error) { return nil, errAway }
func (away) Peak(context.Context, uuid.UUID) (int64, error)                     { return 0, errAway }
func (away) Append(context.Context, livestream.NewChatEvent) (livestream.ChatEvent, bool, error) {
	return livestream.ChatEvent{}, true, nil
}
func (away) CreateIntent(context.Context, livestream.Charge) (livestream.PaymentIntent, error) {
	return livestream.PaymentIntent{}, livestream.Unavailable("the payment provider", errAway)
}
func (away) Away(context.Context) time.Duration { return 0 }

func (s *scene) start(t *testing.T) livestream.NewStream {
	t.Helper()
	stream := livestream.NewStream{ID: newID(t), UserID: s.creator, Title: "first light", Tags: []string{}, Ingest: livestream.IngestExternal, Record: true}
	require.NoError(t, s.StartStream(testenv.Context(t), stream))
	return stream
}

// closed waits for a workflow's end.
func (s *scene) closed(t *testing.T, id string) enums.WorkflowExecutionStatus {
	t.Helper()
	var described *workflowservice.DescribeWorkflowExecutionResponse
	require.Eventually(t, func() bool {
		var err error
		described, err = s.temporal.DescribeWorkflowExecution(testenv.Context(t), id, "")
		return err == nil && described.WorkflowExecutionInfo.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING
	}, time.Minute, 20*time.Millisecond)
	return described.WorkflowExecutionInfo.Status
}

// Somebody has to end the row of a stream whose workflow was terminated: its creator
// could start no other.
func TestEndOfAStreamWithoutAWorkflowIsNotFound(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.work(t, workflows.QueueStream)
	stream, ctx := s.start(t), testenv.Context(t)
	require.NoError(t, s.temporal.TerminateWorkflow(ctx, workflows.StreamID(stream.ID), "", "by mistake"))
	for _, id := range []uuid.UUID{stream.ID, newID(t)} {
		require.Equal(t, livestream.CodeNotFound, livestream.CodeOf(s.EndStream(ctx, id)))
	}
}

// A caller that comes again must not take the recording of an archive for one that
// nobody wants.
func TestARecordingThatWasTakenIsTakenStillWhenItsStreamIsClosed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.work(t, workflows.QueueStream)
	stream, ctx := s.start(t), testenv.Context(t)
	id := newID(t)
	first := livestream.Upload{
		ID: id, StreamID: stream.ID, Key: livestream.RecordingPrefix(stream.ID) + id.String(), StorageID: "x", ContentType: "video/mp4", SizeBytes: 1, PartSize: 1,
	}
	require.NoError(t, postgres.NewRecordings(s.db).Create(ctx, first))
	archive, err := s.CompleteRecording(ctx, first)
	require.NoError(t, err)
	require.NoError(t, s.EndStream(ctx, stream.ID))
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, s.closed(t, workflows.StreamID(stream.ID)))

	again, err := s.CompleteRecording(ctx, first)
	require.NoError(t, err)
	require.Equal(t, archive, again)
	late := first
	late.ID = newID(t)
	_, err = s.CompleteRecording(ctx, late)
	require.Equal(t, livestream.CodeRecordingClosed, livestream.CodeOf(err))
}

// Who was told that it did not work must not be charged afterwards.
func TestAPaymentThatBeganTooLateIsNotMade(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ctx, id := testenv.Context(t), newID(t)
	tip := livestream.NewTransaction{
		ID: id, WorkflowID: workflows.PaymentID(s.payer, "tip-1"), Kind: livestream.KindTip, Amount: 500, Currency: "usd",
		SenderID: s.payer, RecipientID: s.creator, PaymentMethod: "pm_card_visa",
	}
	begin := time.Now()
	require.Equal(t, livestream.CodeUnavailable, livestream.CodeOf(s.SubmitPayment(ctx, tip)), "no worker is there")
	require.Greater(t, time.Since(begin), workflows.StartDeadline)

	s.work(t, workflows.QueuePayment)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_FAILED, s.closed(t, tip.WorkflowID))
	_, err := postgres.NewTransactions(s.db).ByID(ctx, id, s.payer)
	require.Equal(t, livestream.CodeTransactionNotFound, livestream.CodeOf(err))

	require.NoError(t, s.SubmitPayment(ctx, tip), "the same request may come again")
	row, err := postgres.NewTransactions(s.db).ByID(ctx, id, s.payer)
	require.NoError(t, err)
	require.Equal(t, livestream.TransactionQueued, row.Status)
}
