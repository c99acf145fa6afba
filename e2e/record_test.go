package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
	"github.com/livestream-pro/livestream-pro/workflows"
	steer "github.com/livestream-pro/livestream-pro/workflows/client"
)

var record = flag.Bool("record", false, "record the workflows' histories anew (make record)")

// paths are the ways through the workflows, each with a history of its own that
// package workflows replays. What takes a day or a month is tested there with
// skipped time alone.
var paths = map[string]func(*stack) (workflowID string){
	"stream_ended":           streamEnded,
	"stream_recorded":        streamRecorded,
	"stream_reconnected":     streamReconnected,
	"stream_lost":            streamLost,
	"stream_refused":         streamRefused,
	"stream_unavailable":     nil, // needs a database that is away
	"stream_canceled":        streamCanceled,
	"stream_not_recorded":    streamNotRecorded,
	"notify_small":           notifySmall,
	"notify_completed":       notifyCompleted,
	"notify_paused":          notifyPaused,
	"notify_canceled":        notifyCanceled,
	"notify_stopped":         notifyStopped,
	"notify_retried":         notifyRetried,
	"notify_begun_late":      notifyBegunLate,
	"notify_ended":           notifyEnded,
	"notify_continued":       nil, // needs a Temporal that suggests it early
	"notify_continuation":    nil,
	"archive_ready":          archiveReady,
	"archive_failed":         archiveFailed,
	"archive_retried":        archiveRetried,
	"archive_deleted":        archiveDeleted,
	"archive_delete":         archiveDelete,
	"payment_succeeded":      paymentSucceeded,
	"payment_declined":       paymentDeclined,
	"payment_confirmed":      paymentConfirmed,
	"payment_queued":         nil, // these need a Stripe that is away
	"payment_retried":        nil,
	"payment_given_up":       nil,
	"payment_left_alone":     nil,
	"payment_canceled":       paymentCanceled,
	"payment_refused":        paymentRefused,
	"payment_unavailable":    nil, // needs a database that is away
	"payment_reset":          paymentReset,
	"payment_reset_unbooked": nil, // needs a Stripe whose events do not come
	"refund_succeeded":       refundSucceeded,
	"refund_pending":         refundPending,
	"refund_refused":         refundRefused,
	"refund_queued":          nil, // needs a Stripe that is away
	"hold_released":          nil, // needs a short one
	"hold_refunded":          nil,
	"event_applied":          eventApplied,
	"event_foreign":          eventForeign,
	"push_sent":              nil, // needs a push service
	"housekeeping":           scheduled("housekeeping"),
	"reconciliation":         scheduled("reconciliation"),
	"views":                  scheduled("views"),
	"tiers":                  scheduled("tiers"),
	"orphans":                scheduled("orphans"),
	"archive_restored":       archiveRestored,
}

// TestRecord holds the recorded histories against the paths. With -record it
// records them, each from a run on the real components.
func TestRecord(t *testing.T) {
	t.Parallel()
	root, err := devstack.FindRoot()
	require.NoError(t, err)
	dir := filepath.Join(root, "workflows", "testdata", "replay")
	if *record {
		t.Run("recording", func(t *testing.T) { recordAll(t, dir) })
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	var recorded, wanted []string
	for _, file := range files {
		recorded = append(recorded, strings.TrimSuffix(filepath.Base(file), ".json"))
	}
	for path := range paths {
		wanted = append(wanted, path)
	}
	require.ElementsMatch(t, wanted, recorded, "make record")
}

func recordAll(t *testing.T, dir string) {
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bad"), 0o755))
	t.Run("calm", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, api|worker|transcode)
		for path, run := range paths {
			if run == nil {
				continue
			}
			t.Run(path, func(t *testing.T) {
				t.Parallel()
				s := s.in(t)
				s.record(dir, path, run(s), "")
			})
		}
	})
	t.Run("early continue-as-new", func(t *testing.T) {
		t.Parallel()
		s := newStackOn(t, place{temporal: newTemporal(t, map[string]any{"limit.historyCount.suggestContinueAsNew": 60})}, api|worker)
		first, last := notifyContinued(s)
		s.record(dir, "notify_continued", first.workflowID, first.runID)
		s.record(dir, "notify_continuation", last.workflowID, last.runID)
	})
	t.Run("with a push service", func(t *testing.T) {
		t.Parallel()
		s, service := newPushStack(t)
		s.record(dir, "push_sent", pushSent(s, service), "")
	})
	t.Run("without Stripe", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, api|worker)
		ada, bob := s.register("ada"), s.register("bob")
		paid := bob.mustTip(ada, "pm_card_visa")
		s.stripe.SetFaults(stripesim.Faults{CutBefore: 1})
		refund := s.refundOf(ada.refund(paid.ID, 200))
		s.until("the refund waits", func() bool { return s.refund(refund).Attempts > 0 })
		queued, retried, givenUp := s.queued(ada, bob), s.queued(ada, bob), s.queued(ada, bob)
		require.NoError(t, s.temporal.CancelWorkflow(s.ctx, givenUp.WorkflowID, ""))
		var leftAlone transactionView
		s.until("the breaker is known to be open when a payment begins", func() bool {
			leftAlone = s.queued(ada, bob)
			return !slices.ContainsFunc(s.history(leftAlone.WorkflowID), func(e *history.HistoryEvent) bool {
				return e.EventType == enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
			})
		})
		s.stripe.SetFaults(stripesim.Faults{})
		s.signal(retried.WorkflowID, workflows.SignalRetry, nil)
		bob.paid(givenUp.ID, "canceled")
		s.completed(givenUp.WorkflowID)
		s.record(dir, "payment_given_up", givenUp.WorkflowID, "")
		bob.paid(queued.ID, "succeeded")
		bob.paid(retried.ID, "succeeded")
		s.completed(queued.WorkflowID)
		s.completed(retried.WorkflowID)
		s.completed(refund)
		s.record(dir, "refund_queued", refund, "")
		s.record(dir, "payment_queued", queued.WorkflowID, "")
		bob.paid(leftAlone.ID, "succeeded")
		s.completed(leftAlone.WorkflowID)
		s.record(dir, "payment_left_alone", leftAlone.WorkflowID, "")
		s.record(dir, "payment_retried", retried.WorkflowID, "")

		s.stripe.SetFaults(stripesim.Faults{WebhooksPaused: true})
		tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id})
		require.NoError(t, err)
		s.reset(tip.WorkflowID)
		s.stripe.SetFaults(stripesim.Faults{})
		bob.paid(tip.ID, "succeeded")
		s.completed(tip.WorkflowID)
		s.record(dir, "payment_reset_unbooked", tip.WorkflowID, "")
	})
	t.Run("with a short hold", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, api)
		impatient := devstack.NewRole(s.env, s.env.Dir, "worker", free(t), []string{"worker", "--queues", devstack.WorkerQueues}, "PAYOUT_HOLD=5s")
		require.NoError(t, impatient.Launch(s.ctx))
		t.Cleanup(impatient.Kill)
		ada, bob := s.register("ada"), s.register("bob")
		released, refunded := bob.mustTip(ada, "pm_card_visa"), bob.mustTip(ada, "pm_card_visa")
		s.shell(`temporal workflow update execute --workflow-id "hold/$ID" --name refund --input '{"amount": 200}'`, map[string]string{"ID": refunded.ID})
		s.completed("hold/" + released.ID)
		s.completed("hold/" + refunded.ID)
		bob.refunded(refunded.ID, 200)
		s.record(dir, "hold_released", "hold/"+released.ID, "")
		s.record(dir, "hold_refunded", "hold/"+refunded.ID, "")
	})
	t.Run("without the database", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, api|worker)
		stream, payment := unavailableDatabase(s)
		s.record(dir, "stream_unavailable", stream, "")
		s.record(dir, "payment_unavailable", payment, "")
	})
}

// record writes a workflow's history into a file, without what belongs to this
// machine.
func (s *stack) record(dir, path, workflowID, runID string) {
	s.Helper()
	events := &history.History{}
	iterator := s.temporal.GetWorkflowHistory(s.ctx, workflowID, runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iterator.HasNext() {
		event, err := iterator.Next()
		require.NoError(s, err)
		events.Events = append(events.Events, event)
	}
	content, err := protojson.Marshal(events)
	require.NoError(s, err)
	var tree any
	require.NoError(s, json.Unmarshal(content, &tree))
	content, err = json.MarshalIndent(s.scrub(tree), "", " ")
	require.NoError(s, err)
	write := func(content []byte, name ...string) {
		file := filepath.Join(append([]string{dir}, name...)...)
		require.NoError(s, os.WriteFile(file, append(content, '\n'), 0o644))
	}
	write(content, path+".json")
	if path == "stream_ended" {
		// A workflow that would do something else than tell the chat: its replay has to
		// fail.
		bad := bytes.ReplaceAll(content, []byte(`"name": "AnnounceStatus"`), []byte(`"name": "AppendEvent"`))
		require.NotEqual(s, content, bad)
		write(bad, "bad", "another_step.json")
	}
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// scrub takes hosts, processes and folders out of a history.
func (s *stack) scrub(tree any) any {
	switch node := tree.(type) {
	case []any:
		for i := range node {
			node[i] = s.scrub(node[i])
		}
	case map[string]any:
		if node["kind"] == "TASK_QUEUE_KIND_STICKY" {
			node["name"] = "sticky"
		}
		for key, value := range node {
			switch key {
			case "identity":
				node[key] = "somebody"
			case "stackTrace", "workerVersion", "binaryChecksum":
				delete(node, key)
			default:
				node[key] = s.scrub(value)
			}
		}
	case string:
		node = strings.ReplaceAll(node, s.env.Dir, "")
		return loopback.ReplaceAllString(node, "127.0.0.1:1")
	}
	return tree
}

func streamEnded(s *stack) string {
	ada := s.register("ada")
	stream := ada.start(false)
	s.completed("notify/" + stream.ID)
	ada.end(stream)
	s.completed(stream.WorkflowID)
	return stream.WorkflowID
}

func streamRecorded(s *stack) string {
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	ada.upload(stream.ID, s.recording(4))
	s.completed(stream.WorkflowID)
	return stream.WorkflowID
}

func streamReconnected(s *stack) string {
	ada := s.register("ada")
	stream := ada.start(false)
	s.signal(stream.WorkflowID, workflows.SignalEncoder, workflows.EncoderSignal{})
	s.until("the stream is reconnecting", func() bool { return ada.stream(stream.ID).Status == "reconnecting" })
	s.signal(stream.WorkflowID, workflows.SignalEncoder, workflows.EncoderSignal{Connected: true})
	s.until("the stream is live again", func() bool { return ada.stream(stream.ID).Status == "live" })
	ada.end(stream)
	s.completed(stream.WorkflowID)
	return stream.WorkflowID
}

func streamLost(s *stack) string {
	ada := s.register("ada")
	stream := ada.start(false)
	s.signal(stream.WorkflowID, workflows.SignalEncoder, workflows.EncoderSignal{})
	s.completed(stream.WorkflowID)
	require.Equal(s, "ended", ada.stream(stream.ID).Status)
	return stream.WorkflowID
}

func streamRefused(s *stack) string {
	ada := s.register("ada")
	live := ada.start(false)
	id, err := uuid.NewV7()
	require.NoError(s, err)
	err = steer.New(s.temporal).StartStream(s.ctx, livestream.NewStream{ID: id, UserID: uuid.MustParse(ada.id), Title: "too much", Ingest: livestream.IngestExternal})
	require.Equal(s, livestream.CodeAlreadyStreaming, livestream.CodeOf(err))
	ada.end(live)
	s.completed(workflows.StreamID(id))
	return workflows.StreamID(id)
}

func streamCanceled(s *stack) string {
	ada := s.register("ada")
	stream := ada.start(false)
	require.NoError(s, s.temporal.CancelWorkflow(s.ctx, stream.WorkflowID, ""))
	s.completed(stream.WorkflowID)
	require.Equal(s, "ended", ada.stream(stream.ID).Status)
	return stream.WorkflowID
}

func streamNotRecorded(s *stack) string {
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	require.NoError(s, s.temporal.CancelWorkflow(s.ctx, stream.WorkflowID, ""))
	s.completed(stream.WorkflowID)
	return stream.WorkflowID
}

func notifySmall(s *stack) string {
	ada := s.register("ada")
	s.followedBy(ada, 10)
	stream := ada.start(false)
	s.completed("notify/" + stream.ID)
	require.Equal(s, progressView{Status: "completed", FollowersTotal: 10, Notified: 10}, ada.progress(stream.ID))
	ada.end(stream)
	return "notify/" + stream.ID
}

func notifyCompleted(s *stack) string {
	ada := s.register("ada")
	s.followedBy(ada, 5000)
	stream := ada.start(false)
	s.completed("notify/" + stream.ID)
	require.EqualValues(s, 5000, ada.progressed(stream.ID, "completed").Notified)
	ada.end(stream)
	return "notify/" + stream.ID
}

// steered starts a fan-out of 5,000, sends a signal while it is in its first
// ranges, and lets it go on.
func (s *stack) steered(signal string) (creator member, stream streamView) {
	s.Helper()
	creator = s.register("ada")
	s.followedBy(creator, 5000)
	release := s.hold(creator, 0, 1000, 2000, 3000) // all that is told at once
	stream = creator.start(false)
	s.until("the first ranges are under way", func() bool { return s.pending("notify/"+stream.ID, "NotifyRange") })
	if signal != "" {
		s.signal("notify/"+stream.ID, signal, nil)
	} else {
		require.NoError(s, s.temporal.CancelWorkflow(s.ctx, "notify/"+stream.ID, ""))
	}
	release()
	return creator, stream
}

func notifyPaused(s *stack) string {
	ada, stream := s.steered(workflows.SignalPause)
	ada.progressed(stream.ID, "paused")
	s.signal("notify/"+stream.ID, workflows.SignalResume, nil)
	s.completed("notify/" + stream.ID)
	require.EqualValues(s, 5000, ada.progressed(stream.ID, "completed").Notified)
	ada.end(stream)
	return "notify/" + stream.ID
}

func notifyCanceled(s *stack) string {
	ada, stream := s.steered(workflows.SignalCancel)
	s.completed("notify/" + stream.ID)
	ada.progressed(stream.ID, "canceled")
	ada.end(stream)
	return "notify/" + stream.ID
}

func notifyStopped(s *stack) string {
	ada, stream := s.steered("")
	s.completed("notify/" + stream.ID)
	ada.progressed(stream.ID, "canceled")
	ada.end(stream)
	return "notify/" + stream.ID
}

func notifyRetried(s *stack) string {
	ada := s.register("ada")
	s.followedBy(ada, 5000)
	repair := s.misplace(ada, 1500)
	stream := ada.start(false)
	ada.progressed(stream.ID, "incomplete")
	repair()
	s.signal("notify/"+stream.ID, workflows.SignalRetry, nil)
	s.completed("notify/" + stream.ID)
	require.EqualValues(s, 4999, ada.progressed(stream.ID, "completed").Notified)
	ada.end(stream)
	return "notify/" + stream.ID
}

// notifyBegunLate is of a first step that the worker which runs the workflow could not
// take in time.
func notifyBegunLate(s *stack) string {
	ada := s.register("ada")
	s.followedBy(ada, 10)
	release := s.hold(ada, 5)
	stream := ada.start(false)
	s.until("the server has the first step tried again", func() bool { return s.pending("notify/"+stream.ID, "Begin") })
	release()
	s.completed("notify/" + stream.ID)
	require.EqualValues(s, 10, ada.progressed(stream.ID, "completed").Notified)
	ada.end(stream)
	return "notify/" + stream.ID
}

// notifyEnded is paused when its stream ends.
func notifyEnded(s *stack) string {
	ada, stream := s.steered(workflows.SignalPause)
	ada.progressed(stream.ID, "paused")
	ada.end(stream)
	s.completed("notify/" + stream.ID)
	require.EqualValues(s, 4000, ada.progressed(stream.ID, "stopped").Notified)
	return "notify/" + stream.ID
}

type run struct{ workflowID, runID string }

func notifyContinued(s *stack) (first, last run) {
	ada := s.register("ada")
	s.followedBy(ada, 20_000)
	stream := ada.start(false)
	id := "notify/" + stream.ID
	require.EqualValues(s, 20_000, ada.progressed(stream.ID, "completed").Notified)
	s.completed(id)
	ada.end(stream)
	last = run{id, s.temporal.GetWorkflow(s.ctx, id, "").GetRunID()}
	started := s.history(id)[0].GetWorkflowExecutionStartedEventAttributes()
	require.NotEmpty(s, started.ContinuedExecutionRunId, "nothing was continued as new")
	return run{id, started.ContinuedExecutionRunId}, last
}

func archiveReady(s *stack) string {
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	archiveID := ada.upload(stream.ID, s.recording(70)) // two chunks
	ada.archived(archiveID, "ready")
	s.completed("archive/" + archiveID)
	return "archive/" + archiveID
}

func archiveFailed(s *stack) string { return "archive/" + s.brokenArchive(s.register("ada")) }

func archiveRetried(s *stack) string {
	ada := s.register("ada")
	archiveID := s.brokenArchive(ada)
	s.replaceRecording(ada.archive(archiveID).StreamID, s.recording(4))
	s.signal("archive/"+archiveID, workflows.SignalRetry, nil)
	ada.archived(archiveID, "ready")
	s.completed("archive/" + archiveID)
	return "archive/" + archiveID
}

// archiveRestored brings an archive back that was in GLACIER, as far as its row knows.
func archiveRestored(s *stack) string {
	bob := uuid.MustParse(s.register("bob").id)
	id := strings.TrimPrefix(archiveReady(s), "archive/")
	_, err := s.db.Exec(s.ctx, "UPDATE archives SET storage_class = 'GLACIER', tier = 'GLACIER' WHERE id = $1", id)
	require.NoError(s, err)
	require.NoError(s, steer.New(s.temporal).RestoreArchive(s.ctx, uuid.MustParse(id), &bob))
	s.completed("archive/" + id + "/restore")
	return "archive/" + id + "/restore"
}

func archiveDeleted(s *stack) string {
	ada := s.register("ada")
	archiveID := s.brokenArchive(ada)
	ada.must(http.MethodDelete, "/api/archives/"+archiveID, nil, nil)
	s.closed("archive/" + archiveID)
	return "archive/" + archiveID
}

func archiveDelete(s *stack) string {
	ada := s.register("ada")
	archiveID := s.brokenArchive(ada)
	ada.must(http.MethodDelete, "/api/archives/"+archiveID, nil, nil)
	s.completed("archive/" + archiveID + "/delete")
	return "archive/" + archiveID + "/delete"
}

// settled tips and waits for an end.
func (s *stack) settled(method, status string) string {
	s.Helper()
	ada, bob := s.register("ada"), s.register("bob")
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id, "payment_method": method})
	require.NoError(s, err)
	bob.paid(tip.ID, status)
	s.completed(tip.WorkflowID)
	return tip.WorkflowID
}

func paymentSucceeded(s *stack) string { return s.settled("pm_card_visa", "succeeded") }

func paymentDeclined(s *stack) string { return s.settled("pm_card_chargeDeclined", "failed") }

func paymentConfirmed(s *stack) string {
	ada, bob := s.register("ada"), s.register("bob")
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id, "payment_method": "pm_card_authenticationRequired"})
	require.NoError(s, err)
	s.authenticate(tip, true)
	bob.paid(tip.ID, "succeeded")
	s.completed(tip.WorkflowID)
	return tip.WorkflowID
}

func paymentCanceled(s *stack) string {
	ada, bob := s.register("ada"), s.register("bob")
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id, "payment_method": "pm_card_authenticationRequired"})
	require.NoError(s, err)
	require.NoError(s, s.temporal.CancelWorkflow(s.ctx, tip.WorkflowID, ""))
	bob.paid(tip.ID, "canceled")
	s.completed(tip.WorkflowID)
	return tip.WorkflowID
}

func paymentRefused(s *stack) string {
	bob := s.register("bob")
	tip := newTip(s, bob)
	err := steer.New(s.temporal).SubmitPayment(s.ctx, tip)
	require.Equal(s, livestream.CodeUserNotFound, livestream.CodeOf(err))
	s.completed(tip.WorkflowID)
	return tip.WorkflowID
}

// newTip is a tip to nobody.
func newTip(s *stack, payer member) livestream.NewTransaction {
	id, err := uuid.NewV7()
	require.NoError(s, err)
	sender := uuid.MustParse(payer.id)
	return livestream.NewTransaction{
		ID: id, WorkflowID: workflows.PaymentID(sender, uuid.NewString()), Kind: livestream.KindTip, Amount: 500, Currency: "usd",
		SenderID: sender, RecipientID: id, PaymentMethod: "pm_card_visa",
	}
}

func refundSucceeded(s *stack) string {
	ada, bob := s.register("ada"), s.register("bob")
	id := s.refundOf(ada.refund(bob.mustTip(ada, "pm_card_visa").ID, 200))
	s.completed(id)
	return id
}

func refundPending(s *stack) string {
	ada, bob := s.register("ada"), s.register("bob")
	tip := bob.mustTip(ada, "pm_card_pendingRefund")
	id := s.refundOf(ada.refund(tip.ID, 200))
	s.completed(id)
	return id
}

func refundRefused(s *stack) string {
	ada, bob := s.register("ada"), s.register("bob")
	tip := bob.mustTip(ada, "pm_card_visa")
	id, err := uuid.NewV7()
	require.NoError(s, err)
	err = steer.New(s.temporal).SubmitRefund(s.ctx, livestream.NewRefund{ID: id, TransactionID: uuid.MustParse(tip.ID), Amount: 501})
	require.Equal(s, livestream.CodeRefundExceedsCharge, livestream.CodeOf(err))
	s.completed(workflows.RefundID(id))
	return workflows.RefundID(id)
}

// eventApplied is about a payment that is closed.
func eventApplied(s *stack) string {
	ada, bob := s.register("ada"), s.register("bob")
	tip := bob.mustTip(ada, "pm_card_visa")
	return s.event(livestream.StripeEvent{Object: "payment_intent", Type: "payment_intent.succeeded", PaymentIntentID: tip.IntentID})
}

// eventForeign is about a payment that was made with the same account elsewhere.
func eventForeign(s *stack) string {
	ada, bob := s.register("ada"), s.register("bob")
	tip := bob.mustTip(ada, "pm_card_visa")
	_, err := s.db.Exec(s.ctx, "UPDATE transactions SET payment_intent_id = NULL WHERE id = $1", tip.ID)
	require.NoError(s, err)
	return s.event(livestream.StripeEvent{Object: "payment_intent", Type: "payment_intent.succeeded", PaymentIntentID: tip.IntentID})
}

// event delivers an event that no open workflow waits for, and waits until it is
// applied.
func (s *stack) event(event livestream.StripeEvent) string {
	s.Helper()
	event.ID = "evt_" + uuid.NewString()
	require.NoError(s, steer.New(s.temporal).DeliverStripeEvent(s.ctx, event))
	id := workflows.StripeEventID(event.ID)
	s.completed(id)
	return id
}

// refund is what a refund's workflow says of itself.
func (s *stack) refund(workflowID string) (state workflows.RefundState) {
	s.Helper()
	value, err := s.temporal.QueryWorkflow(s.ctx, workflowID, "", workflows.QueryRefund)
	require.NoError(s, err)
	require.NoError(s, value.Get(&state))
	return state
}

// refundOf is the workflow of a payment's only refund.
func (s *stack) refundOf(tip transactionView) string {
	s.Helper()
	var id uuid.UUID
	require.NoError(s, s.db.QueryRow(s.ctx, "SELECT id FROM refunds WHERE transaction_id = $1", tip.ID).Scan(&id))
	return workflows.RefundID(id)
}

func paymentReset(s *stack) string {
	id := paymentSucceeded(s)
	s.reset(id)
	s.completed(id)
	return id
}

func unavailableDatabase(s *stack) (stream, payment string) {
	ada := s.register("ada")
	lock := s.begin()
	_, err := lock.Exec(s.ctx, "LOCK TABLE streams, transactions IN SHARE MODE")
	require.NoError(s, err)
	id, err := uuid.NewV7()
	require.NoError(s, err)
	tip := newTip(s, ada)
	failed := make(chan error, 2)
	go func() {
		failed <- steer.New(s.temporal).StartStream(s.ctx, livestream.NewStream{ID: id, UserID: tip.SenderID, Title: "at a bad time", Ingest: livestream.IngestExternal})
	}()
	go func() { failed <- steer.New(s.temporal).SubmitPayment(s.ctx, tip) }()
	for range 2 {
		require.Equal(s, livestream.CodeUnavailable, livestream.CodeOf(<-failed))
	}
	require.NoError(s, lock.Rollback(s.ctx))
	for _, workflowID := range []string{workflows.StreamID(id), tip.WorkflowID} {
		require.Equal(s, enums.WORKFLOW_EXECUTION_STATUS_FAILED, s.closed(workflowID))
	}
	return workflows.StreamID(id), tip.WorkflowID
}

// queued tips while Stripe is away.
func (s *stack) queued(creator, payer member) transactionView {
	s.Helper()
	tip, err := payer.tip(uuid.NewString(), map[string]any{"recipient_id": creator.id})
	require.NoError(s, err)
	require.Equal(s, "queued", tip.Status)
	return tip
}

func (s *stack) reset(workflowID string) {
	s.Helper()
	s.shell(`temporal workflow reset --workflow-id "$ID" --type FirstWorkflowTask --reason test`, map[string]string{"ID": workflowID})
}

// pending says whether a workflow has a step of that type under way.
func (s *stack) pending(workflowID, step string) bool {
	described, err := s.temporal.DescribeWorkflowExecution(s.ctx, workflowID, "")
	return err == nil && slices.ContainsFunc(described.PendingActivities, func(pending *workflow.PendingActivityInfo) bool {
		return pending.ActivityType.Name == step
	})
}

func (s *stack) signal(workflowID, name string, arg any) {
	s.Helper()
	require.NoError(s, s.temporal.SignalWorkflow(s.ctx, workflowID, "", name, arg))
}

// scheduled runs a schedule's workflow now.
func scheduled(schedule string) func(*stack) string {
	return func(s *stack) string {
		handle := s.temporal.ScheduleClient().GetHandle(s.ctx, schedule)
		s.until("a worker has made the schedule", func() bool { return handle.Trigger(s.ctx, client.ScheduleTriggerOptions{}) == nil })
		var id string
		s.until("the schedule has run", func() bool {
			described, err := handle.Describe(s.ctx)
			require.NoError(s, err)
			if len(described.Info.RecentActions) > 0 {
				id = described.Info.RecentActions[0].StartWorkflowResult.WorkflowID
			}
			return id != ""
		})
		s.completed(id)
		return id
	}
}
