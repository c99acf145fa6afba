package e2e

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/stripesim"
	"github.com/livestream-pro/livestream-pro/internal/webpush/webpushtest"
)

// section is one of docs/operations.md, with its blocks of commands in order.
type section struct {
	*stack
	blocks []string
	vars   map[string]string
}

// TestOperations runs every command of docs/operations.md, section by section, each
// in the situation that it is for.
func TestOperations(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker|transcode)
	sections := readOperations(t)
	scenarios := []struct {
		heading string
		run     func(*section)
	}{
		{"Before you begin", beforeYouBegin},
		{"Find a stream's workflow", findAStream},
		{"List live streams", listLiveStreams},
		{"End a stream for its creator", endAStream},
		{"See why an archive failed, and retry it", retryAnArchive},
		{"See a stuck payment, and retry it now", retryAPayment},
		{"Give a payment back", giveAPaymentBack},
		{"Reconcile the books with Stripe", reconcileTheBooks},
		{"Which archives move to a cheaper class", moveArchives},
		{"What belongs to nobody", whatBelongsToNobody},
		{"Watch, pause, resume and cancel a fan-out", steerAFanOut},
		{"Slow all fan-outs down", slowAllFanOuts},
		{"Reset with care", resetWithCare},
		{"Terminate with more care", terminateWithMoreCare},
		{"Push to browsers", pushToBrowsers},
		{"Replace the key of the access tokens", replaceTheKey},
	}
	for _, scenario := range scenarios {
		t.Run(scenario.heading, func(t *testing.T) {
			blocks := sections[scenario.heading]
			require.NotEmpty(t, blocks, "the section has no commands")
			x := &section{stack: s.in(t), blocks: blocks, vars: map[string]string{}}
			scenario.run(x)
			require.Empty(t, x.blocks, "nobody has run these commands")
		})
		delete(sections, scenario.heading)
	}
	require.Empty(t, sections, "these sections have commands and no test")
}

// readOperations gives the blocks of commands of each section.
func readOperations(t *testing.T) map[string][]string {
	t.Helper()
	root, err := devstack.FindRoot()
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	require.NoError(t, err)
	sections := map[string][]string{}
	heading, block, inside := "", "", false
	for _, line := range strings.Split(string(content), "\n") {
		switch {
		case inside && line == "```":
			sections[heading] = append(sections[heading], block)
			inside = false
		case inside:
			block += line + "\n"
		case line == "```sh":
			block, inside = "", true
		case strings.HasPrefix(line, "## "):
			heading = strings.TrimPrefix(line, "## ")
		}
	}
	return sections
}

// next runs the section's next block and gives what it printed.
func (x *section) next() string {
	x.Helper()
	require.NotEmpty(x, x.blocks, "the section has fewer commands")
	block := x.blocks[0]
	x.blocks = x.blocks[1:]
	return x.shell(block, x.vars)
}

// shell runs a script as an operator would, and gives what it printed.
func (s *stack) shell(script string, vars map[string]string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-euc", script)
	cmd.Env = append(os.Environ(),
		"PATH="+strings.Join([]string{filepath.Dir(s.env.Binary), filepath.Dir(s.env.TemporalCLI), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"TEMPORAL_ADDRESS="+s.env.TemporalAddress, "TEMPORAL_NAMESPACE="+s.env.TemporalNamespace)
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	require.NoError(s, err, "%s\n%s%s", script, out, complaint.String())
	return string(out)
}

// shows polls a list until it has something: the visibility store is a moment
// behind.
func (x *section) shows(query, workflowID string) {
	x.Helper()
	x.until(workflowID+" is listed by "+query, func() bool {
		return strings.Contains(x.shell("temporal workflow list --query "+`"$QUERY"`, map[string]string{"QUERY": query}), workflowID)
	})
}

func beforeYouBegin(x *section) {
	out := x.next()
	require.Contains(x, out, "SERVING")
	pollers := regexp.MustCompile(`(?m)^\s*UNVERSIONED\s+(workflow|activity)\s+\S+@`).FindAllString(out, -1)
	require.GreaterOrEqual(x, len(pollers), 9, "workflows and activities of four queues, and the transcoder's activities\n%s", out)
}

func findAStream(x *section) {
	ada := x.register("ada")
	stream := ada.start(false)
	x.vars["STREAM_ID"], x.vars["USER_ID"] = stream.ID, ada.id
	out := x.next()
	require.Contains(x, out, `stream «Live from the workshop»`)
	require.Contains(x, out, "**Live from the workshop**")
	require.Contains(x, out, `"status":"live"`)
	x.shows("UserId = '"+ada.id+"'", "notify/"+stream.ID)
	out = x.next()
	require.Equal(x, 2, strings.Count(out, "notify/"+stream.ID), "by the stream and by its creator")
	ada.end(stream)
}

func listLiveStreams(x *section) {
	ada, bob := x.register("ada"), x.register("bob")
	live, over := ada.start(false), bob.start(true)
	bob.end(over)
	x.shows("StreamStatus = 'live'", live.WorkflowID)
	x.shows("StreamStatus = 'ended' AND ExecutionStatus = 'Running'", over.WorkflowID)
	out := x.next()
	require.Contains(x, out, live.WorkflowID)
	require.NotContains(x, out, over.WorkflowID)
	require.Contains(x, out, "Total: 1")
	out = x.next()
	require.Contains(x, out, over.WorkflowID)
	require.NotContains(x, out, live.WorkflowID)
	ada.end(live)
}

func endAStream(x *section) {
	ada := x.register("ada")
	stream := ada.start(false)
	x.vars["STREAM_ID"] = stream.ID
	x.next()
	x.until("the stream has ended", func() bool { return ada.stream(stream.ID).Status == "ended" })
	x.completed(stream.WorkflowID)
	ada.happened(stream.ID, "created", "live", "notify_started", "notify_finished", "ending", "ended")
	ada.end(ada.start(false))
}

func retryAnArchive(x *section) {
	ada := x.register("ada")
	archiveID := x.brokenArchive(ada)
	x.vars["ARCHIVE_ID"] = archiveID
	x.shows("ArchiveStatus = 'failed'", "archive/"+archiveID)
	out := x.next()
	require.Contains(x, out, "archive/"+archiveID)
	require.Contains(x, out, "not_a_video")
	require.Contains(x, x.next(), "recording_rejected")

	failures := func() (n int) {
		for _, kind := range ada.timeline(ada.archive(archiveID).StreamID) {
			if kind == "archive_failed" {
				n++
			}
		}
		return n
	}
	x.next() // the file is the same, and so is the answer
	x.until("it has failed again", func() bool { return failures() == 2 && ada.archive(archiveID).Status == "failed" })

	x.replaceRecording(ada.archive(archiveID).StreamID, x.recording(4))
	x.shows("ArchiveStatus = 'failed'", "archive/"+archiveID)
	x.next()
	ada.archived(archiveID, "ready")
}

// brokenArchive is one of a file that is no video.
func (s *stack) brokenArchive(creator member) string {
	s.Helper()
	stream := creator.start(true)
	creator.end(stream)
	file := filepath.Join(s.TempDir(), "holiday.mp4")
	require.NoError(s, os.WriteFile(file, bytes.Repeat([]byte("this is no video "), 4096), 0o644))
	archiveID := creator.upload(stream.ID, file)
	creator.archived(archiveID, "failed")
	return archiveID
}

// replaceRecording puts another file in the place of what was uploaded, as support
// does for a creator.
func (s *stack) replaceRecording(streamID, file string) {
	s.Helper()
	content, err := os.ReadFile(file)
	require.NoError(s, err)
	var key string
	require.NoError(s, s.db.QueryRow(s.ctx, "SELECT key FROM uploads WHERE stream_id = $1", streamID).Scan(&key))
	require.NoError(s, os.WriteFile(filepath.Join(s.env.S3Dir, s.env.S3Bucket, key), content, 0o644))
}

func retryAPayment(x *section) {
	ada, bob := x.register("ada"), x.register("bob")
	waiting, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id, "payment_method": "pm_card_authenticationRequired"})
	require.NoError(x, err)
	x.stripe.SetFaults(stripesim.Faults{CutBefore: 1})
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id})
	require.NoError(x, err)
	require.Equal(x, "queued", tip.Status, "Stripe is away, and the payment is not lost")
	x.vars["PAYMENT_WORKFLOW_ID"] = tip.WorkflowID
	x.shows("PaymentStatus = 'queued'", tip.WorkflowID)
	out := x.next()
	require.Contains(x, out, tip.WorkflowID)
	require.Contains(x, out, "last error: the payment provider is not available")
	require.Contains(x, out, "next attempt at")
	require.Contains(x, out, `"last_error":"the payment provider is not available`)

	x.stripe.SetFaults(stripesim.Faults{})
	x.next()
	bob.paid(tip.ID, "succeeded")
	require.Len(x, x.charges(tip), 1)

	x.stripe.SetFaults(stripesim.Faults{CutBefore: 1})
	tip, err = bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id})
	require.NoError(x, err)
	x.shows("PaymentStatus = 'queued'", tip.WorkflowID)
	out = x.next()
	require.Equal(x, 2, strings.Count(out, tip.WorkflowID), "%s", out)
	require.NoError(x, x.temporal.CancelWorkflow(x.ctx, tip.WorkflowID, ""))
	bob.paid(tip.ID, "canceled")
	x.stripe.SetFaults(stripesim.Faults{})

	x.vars["PAYMENT_WORKFLOW_ID"] = waiting.WorkflowID
	x.next()
	bob.paid(waiting.ID, "canceled")
	require.Empty(x, x.charges(waiting))
	require.EqualValues(x, 450, ada.balance(), "the one that was paid, less the fee")
}

func giveAPaymentBack(x *section) {
	ada, bob := x.register("ada"), x.register("bob")
	tip := bob.mustTip(ada, "pm_card_visa")
	x.vars["TRANSACTION_ID"], x.vars["REFUND_ID"] = tip.ID, uuid.NewString()
	out := x.next()
	require.Contains(x, out, "amount:200")
	bob.refunded(tip.ID, 200)
	x.next()
	bob.refunded(tip.ID, 500)
	require.Equal(x, "refunded", bob.transaction(tip.ID).Status)
	x.completed("refund/" + x.vars["REFUND_ID"])
	x.shows("TransactionId = '"+tip.ID+"'", "hold/"+tip.ID)
	out = x.next()
	require.Contains(x, out, `"status":"succeeded"`)
	require.Contains(x, out, "hold/"+tip.ID)
	require.Zero(x, ada.balance())
}

func reconcileTheBooks(x *section) {
	out := x.next()
	require.Contains(x, out, "ReconcilePayments")
	x.shows("WorkflowType = 'ReconcilePayments' AND ExecutionStatus = 'Completed'", "reconciliation")
}

func moveArchives(x *section) {
	x.vars["DATABASE_URL"] = x.env.DatabaseURL
	require.NotEmpty(x, x.next())
	scheduled("tiers")(x.stack)
	x.shows("WorkflowType = 'MoveArchives'", "tiers")
	require.Contains(x, x.next(), "MoveArchives")
}

func whatBelongsToNobody(x *section) {
	x.vars["WORKFLOW_ID"] = scheduled("orphans")(x.stack)
	x.shows("WorkflowType = 'FindOrphans'", "orphans")
	out := x.next()
	require.Contains(x, out, "FindOrphans")
	require.Contains(x, out, "COMPLETED")
}

// charges are what was taken for one payment.
func (s *stack) charges(tip transactionView) (charges []stripesim.Charge) {
	for _, charge := range s.stripe.Charges() {
		if charge.Metadata["transaction_id"] == tip.ID {
			charges = append(charges, charge)
		}
	}
	return charges
}

func resetWithCare(x *section) {
	ada, bob := x.register("ada"), x.register("bob")
	tip, err := bob.tip(uuid.NewString(), map[string]any{"recipient_id": ada.id})
	require.NoError(x, err)
	bob.paid(tip.ID, "succeeded")
	x.completed(tip.WorkflowID)
	x.vars["PAYMENT_WORKFLOW_ID"] = tip.WorkflowID
	x.next()
	x.completed(tip.WorkflowID)
	require.Len(x, x.charges(tip), 1)
	require.EqualValues(x, 450, ada.balance())
	require.EqualValues(x, 1, x.number("SELECT count(*) FROM ledger_transactions WHERE transaction_id = $1", tip.ID))
	require.Equal(x, "succeeded", bob.transaction(tip.ID).Status)
}

func terminateWithMoreCare(x *section) {
	ada := x.register("ada")
	stream := ada.start(false)
	x.completed("notify/" + stream.ID)
	x.vars["STREAM_ID"] = stream.ID
	x.next()
	require.Equal(x, "live", ada.stream(stream.ID).Status)
	ada.end(stream)
	require.Equal(x, enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, x.closed(stream.WorkflowID))
}

func replaceTheKey(x *section) {
	x.vars["KEYS"], x.vars["API_URL"] = x.T.TempDir(), x.env.APIURL
	older, newer := x.env.JWTKeyFile, filepath.Join(x.vars["KEYS"], "next.pem")
	restart := func(current string, previous ...string) {
		x.api.Kill()
		api := devstack.NewRole(x.env, x.env.Dir, "api", x.api.Address, []string{"api"},
			"JWT_PRIVATE_KEY_FILE="+current, "JWT_PREVIOUS_KEY_FILES="+strings.Join(previous, " "))
		require.NoError(x, api.Launch(x.ctx))
		x.Cleanup(api.Kill)
		x.api = api
	}
	keys := func() []string {
		return regexp.MustCompile(`"kid":"[^"]+"`).FindAllString(x.next(), -1)
	}
	me := func(m member) error { return m.ask(http.MethodGet, "/api/users/me", nil, nil) }
	x.next()

	restart(older, newer)
	ada := x.register("ada")
	announced := keys()
	require.Len(x, announced, 2)
	restart(newer, older)
	rotated := keys()
	require.Equal(x, []string{announced[1], announced[0]}, rotated, "the new key comes first")
	bob := x.register("bob")
	require.NoError(x, me(ada), "her token is the old key's")
	require.NoError(x, me(bob))
	restart(newer)
	require.NoError(x, me(bob))
	x.refused(me(ada), http.StatusUnauthorized, "unauthorized")
}

func pushToBrowsers(x *section) {
	x.vars["KEYS"], x.vars["DATABASE_URL"] = x.T.TempDir(), x.env.DatabaseURL
	x.next()
	service, ada := webpushtest.New(x.T), x.register("ada")
	old := x.subscribe(ada, service)
	x.api.Kill()
	api := devstack.NewRole(x.env, x.env.Dir, "api", x.api.Address, []string{"api"}, "VAPID_PRIVATE_KEY_FILE="+filepath.Join(x.vars["KEYS"], "vapid.pem"))
	require.NoError(x, api.Launch(x.ctx))
	x.Cleanup(api.Kill)
	x.api = api
	anew := x.subscribe(ada, service)
	require.NotEqual(x, old.Server, anew.Server)
	left := x.next()
	require.Contains(x, left, old.Server[:12])
	require.Contains(x, left, anew.Server[:12])
}
