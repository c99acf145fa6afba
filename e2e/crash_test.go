package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func TestWorkerKilledWhileAStreamIsLive(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	ada := s.register("ada")
	stream := ada.start(false)

	s.kill(s.worker)
	began := time.Now()
	err := ada.Do(s.ctx, http.MethodPost, "/api/streams/"+stream.ID+"/end", nil, nil)
	s.refused(err, http.StatusServiceUnavailable, "unavailable")
	require.Less(t, time.Since(began), quickly, "nobody is there, and the caller is told so")
	require.Equal(t, "live", ada.stream(stream.ID).Status, "reading needs no worker")
	s.restart(s.worker)

	ada.end(stream)
	s.completed(stream.WorkflowID)
	s.completed("notify/" + stream.ID)
	types := ada.happened(stream.ID, "created", "live", "notify_started", "notify_finished", "ending", "ended")
	require.Equal(t, []string{"created", "live"}, types[:2])
	require.Less(t, slices.Index(types, "ending"), slices.Index(types, "ended"))
	again := ada.start(false) // the creator is free for the next one
	require.NotEqual(t, stream.ID, again.ID)
}

func TestWorkerKilledInTheMiddleOfAFanOut(t *testing.T) {
	t.Parallel()
	const followers = 20_000
	s := newStack(t, api|worker)
	ada := s.register("ada")
	s.followedBy(ada, followers)
	release := s.hold(ada, followers/2)
	stream := ada.start(false)
	told := func() int64 {
		return s.number("SELECT count(*) FROM notifications WHERE key = $1", "stream_live:"+stream.ID)
	}
	s.waiting()
	s.until("the other ranges of the window have been told", func() bool { return told() >= followers/2-2000 })

	s.kill(s.worker)
	// The database goes on with the range that it was asked to write, and nobody
	// is there to hear of it.
	release()
	require.Less(t, told(), int64(followers))
	require.NotEqual(t, "completed", ada.progress(stream.ID).Status)
	s.restart(s.worker)

	require.Equal(t, progressView{Status: "completed", FollowersTotal: followers, Notified: followers}, ada.progressed(stream.ID, "completed"))
	require.EqualValues(t, followers, told(), "a follower was told twice, or not at all")
	require.EqualValues(t, followers, s.number("SELECT count(DISTINCT user_id) FROM notifications WHERE key = $1", "stream_live:"+stream.ID))
	ada.end(stream)
}

func TestAPIKilledInTheMiddleOfAPayment(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	ada, bob := s.register("ada"), s.register("bob")
	s.stripe.SetFaults(stripesim.Faults{LatencyMS: 1500, WebhooksPaused: true})
	key, answer := uuid.NewString(), make(chan error, 1)
	tip := map[string]any{"recipient_id": ada.id, "message": "for the coffee"}
	go func() {
		_, err := bob.tip(key, tip)
		answer <- err
	}()
	s.until("the charge is under way", func() bool { return s.stripe.Requests() > 0 })

	s.kill(s.api)
	require.Error(t, <-answer, "the payer does not know what became of it")
	s.restart(s.api)

	first, err := bob.tip(key, tip)
	require.NoError(t, err)
	require.Contains(t, []string{"processing", "queued"}, first.Status, "Stripe has not told the outcome yet")
	s.stripe.SetFaults(stripesim.Faults{WebhooksTwice: 1})
	s.paidOnce(ada, bob, first)
	again, err := bob.tip(key, tip)
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	require.Len(t, s.stripe.Charges(), 1)
}

func TestWorkerKilledInTheMiddleOfAPayment(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	ada, bob := s.register("ada"), s.register("bob")
	s.stripe.SetFaults(stripesim.Faults{LatencyMS: 1500})
	key, tip := uuid.NewString(), map[string]any{"recipient_id": ada.id}
	answer := make(chan error, 1)
	go func() {
		_, err := bob.tip(key, tip)
		answer <- err
	}()
	s.until("the charge is under way", func() bool { return s.stripe.Requests() > 0 })

	s.kill(s.worker)
	s.stripe.SetFaults(stripesim.Faults{})
	s.restart(s.worker)

	require.NoError(t, <-answer)
	first, err := bob.tip(key, tip)
	require.NoError(t, err)
	s.paidOnce(ada, bob, first)
}

// paidOnce checks that a tip was taken from the payer once and booked once.
func (s *stack) paidOnce(creator, payer member, transaction transactionView) {
	s.Helper()
	payer.paid(transaction.ID, "succeeded")
	s.completed(transaction.WorkflowID)
	charges := s.stripe.Charges()
	require.Len(s, charges, 1)
	require.Equal(s, transaction.ID, charges[0].Metadata["transaction_id"])
	require.EqualValues(s, 1, s.number("SELECT count(*) FROM ledger_transactions WHERE transaction_id = $1", transaction.ID))
	require.Zero(s, s.number("SELECT sum(amount)::bigint FROM ledger_entries"), "the ledger is balanced")
	require.EqualValues(s, 450, creator.balance(), "500 less the fee")
	require.EqualValues(s, 1, s.number("SELECT count(*) FROM notifications WHERE user_id = $1 AND type = 'tip_received'", creator.id))
}

func TestDatabaseAwayForALongerTimeLosesNoStart(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	ada := s.register("ada")
	key, in := uuid.NewString(), map[string]any{"title": "Live", "record": false}
	// Nobody can write streams for a while, longer than a start may take.
	lock := s.begin()
	_, err := lock.Exec(s.ctx, "LOCK TABLE streams IN SHARE MODE")
	require.NoError(t, err)
	err = ada.Do(s.ctx, http.MethodPost, "/api/streams", in, nil, "Idempotency-Key", key)
	s.refused(err, http.StatusServiceUnavailable, "unavailable")
	require.NoError(t, lock.Rollback(s.ctx))

	var stream streamView
	err = ada.ask(http.MethodPost, "/api/streams", in, &stream, "Idempotency-Key", key)
	if err != nil { // a row that nobody heard of was taken back
		s.refused(err, http.StatusUnprocessableEntity, "stream_not_live")
		ada.must(http.MethodPost, "/api/streams", in, &stream, "Idempotency-Key", uuid.NewString())
	}
	require.EqualValues(t, 1, s.number("SELECT count(*) FROM streams WHERE status <> 'ended'"))
	ada.end(stream)
}
