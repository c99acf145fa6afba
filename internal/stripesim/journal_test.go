package stripesim_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func journal(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "stripesim.jsonl")
}

// restarted is a simulator that takes up a journal.
func restarted(tb testing.TB, file, webhooks string) (*stripesim.Server, string) {
	tb.Helper()
	return start(tb, stripesim.Config{Journal: file, WebhookURL: webhooks})
}

func TestRestartForgetsNothing(t *testing.T) {
	t.Parallel()
	file := journal(t)
	simulator, address := restarted(t, file, "")
	answers := map[string]answer{}
	for _, method := range []string{"", "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"} {
		answers[method] = post(t, address+"/v1/payment_intents", "key of "+method, payment(method))
	}
	open := answers[""].field(t, "id")
	waits := answers["pm_card_authenticationRequired"].field(t, "id")
	post(t, address+"/v1/payment_intents/"+open+"/cancel", "", nil)
	response, err := http.Post(address+"/_sim/payment_intents/"+waits+"/authenticate", "application/json", strings.NewReader(`{"succeed":true}`))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	post(t, address+"/v1/refunds", "", refund(waits, "100"))
	post(t, address+"/v1/disputes/"+disputeOf(t, address, paid(t, address, "pm_card_createDispute")), "", url.Values{"evidence[uncategorized_text]": {"losing_evidence"}})
	before, refunds, disputes := simulator.Charges(), simulator.Refunds(), simulator.Disputes()
	require.Len(t, before, 3)
	require.Len(t, refunds, 1)
	require.Len(t, disputes, 1)
	simulator.Close()

	for range 2 { // the second start reads what the first one left
		simulator, address = restarted(t, file, "")
		require.Equal(t, before, simulator.Charges())
		require.Equal(t, refunds, simulator.Refunds())
		require.Equal(t, disputes, simulator.Disputes())
		for method, first := range answers {
			again := post(t, address+"/v1/payment_intents", "key of "+method, payment(method))
			require.True(t, again.replayed)
			require.Equal(t, first.body, again.body)
		}
		require.Equal(t, "canceled", get(t, address+"/v1/payment_intents/"+open).field(t, "status"))
		require.Equal(t, before, simulator.Charges())
		simulator.Close()
	}
}

func disputeOf(tb testing.TB, address, intent string) string {
	tb.Helper()
	ids, _ := list(tb, address+"/v1/disputes?payment_intent="+intent)
	require.Len(tb, ids, 1)
	return ids[0]
}

// A crash can cut the journal anywhere. Each line is there as a whole or not at
// all, and what comes next is appended behind the last whole one.
func TestJournalCutAnywhere(t *testing.T) {
	t.Parallel()
	file := journal(t)
	simulator, address := restarted(t, file, "")
	post(t, address+"/v1/payment_intents", "a", payment("pm_card_visa"))
	post(t, address+"/v1/payment_intents", "b", payment("pm_card_visa"))
	simulator.Close()
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	first := bytes.IndexByte(whole, '\n') + 1
	require.Equal(t, 2, bytes.Count(whole, []byte("\n")), "one line a call")
	for _, cut := range []int{first, first + 1, first + 40, len(whole) - 2, len(whole) - 1} {
		cutFile := journal(t)
		require.NoError(t, os.WriteFile(cutFile, whole[:cut], 0o600))
		simulator, address := restarted(t, cutFile, "")
		want := 1
		if cut == len(whole)-1 { // only the line's end is missing
			want = 2
		}
		require.Len(t, simulator.Charges(), want, "cut at %d of %d", cut, len(whole))
		require.True(t, post(t, address+"/v1/payment_intents", "a", payment("pm_card_visa")).replayed)
		require.Equal(t, want == 2, post(t, address+"/v1/payment_intents", "b", payment("pm_card_visa")).replayed)
		simulator.Close()
		simulator, _ = restarted(t, cutFile, "")
		require.Len(t, simulator.Charges(), 2, "cut at %d of %d", cut, len(whole))
	}
}

func TestJournalThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"{}\n", "[1]\n", "[{\"kind\":\"intent\",\"value\":5}]\n", "not JSON\n"} {
		file := journal(t)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := stripesim.New(stripesim.Config{Journal: file})
		require.ErrorContains(t, err, file, content)
		kept, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, content, string(kept), "and left as it was")
	}
	_, err := stripesim.New(stripesim.Config{Journal: t.TempDir()})
	require.Error(t, err, "a folder")
}

func TestKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	for age, replayed := range map[time.Duration]bool{23 * time.Hour: true, 25 * time.Hour: false} {
		file := journal(t)
		simulator, address := restarted(t, file, "")
		post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa"))
		simulator.Close()
		backdate(t, file, age)
		simulator, address = restarted(t, file, "")
		require.Equal(t, replayed, post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa")).replayed)
		want := 2
		if replayed {
			want = 1
		}
		require.Len(t, simulator.Charges(), want)
	}
}

// backdate makes the answers in a journal older.
func backdate(tb testing.TB, file string, age time.Duration) {
	tb.Helper()
	content, err := os.ReadFile(file)
	require.NoError(tb, err)
	var line []struct {
		Kind  string         `json:"kind"`
		Value map[string]any `json:"value"`
	}
	require.NoError(tb, json.Unmarshal(content, &line))
	for _, change := range line {
		if change.Kind == "answer" {
			change.Value["at"] = time.Now().Add(-age)
		}
	}
	content, err = json.Marshal(line)
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(file, append(content, '\n'), 0o600))
}

func TestEventsOutliveARestart(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	in.setRefuse(true)
	file := journal(t)
	simulator, address := restarted(t, file, in.URL)
	id := post(t, address+"/v1/payment_intents", "k", payment("pm_card_visa")).field(t, "id")
	eventually(t, func() bool { return in.attempts() > 0 }, "the first attempts fail")
	simulator.Close()
	in.setRefuse(false)
	simulator, _ = restarted(t, file, in.URL)
	// At least once: an attempt that the restart cut off may have arrived all the
	// same.
	eventually(t, func() bool { return len(in.of("payment_intent.succeeded")) > 0 }, "it comes after the restart")
	require.Equal(t, id, in.of("payment_intent.succeeded")[0].Data.Object.ID)
	eventually(t, func() bool { return len(in.of("payment_intent.created")) > 0 }, "both do")
	// Once it is written down that they were taken, they are not sent again.
	eventually(t, func() bool {
		content, err := os.ReadFile(file)
		return err == nil && strings.Count(string(content), `"done":true`) == 2
	}, "their end is written down")
	simulator.Close()
	tries := in.attempts()
	restarted(t, file, in.URL)
	require.Never(t, func() bool { return in.attempts() > tries }, 150*time.Millisecond, 10*time.Millisecond)
}

// A killed simulator remembers every answer that went out, and sends every event
// of a charge that it remembers.
func TestKilledSimulatorForgetsNoCharge(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	file := journal(t)
	answered := map[string]string{} // id by key
	var mu sync.Mutex
	for round := range 3 {
		child, address := spawn(t, file, in.URL)
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for n := 0; ; n++ {
					key := fmt.Sprintf("%d/%d/%d", round, worker, n)
					a, err := send(http.MethodPost, address+"/v1/payment_intents", key, payment("pm_card_visa"))
					if err != nil {
						return // it is dead
					}
					var intent stripesim.Intent
					if json.Unmarshal([]byte(a.body), &intent) != nil {
						return
					}
					mu.Lock()
					answered[key] = intent.ID
					mu.Unlock()
				}
			})
		}
		target := 25 * (round + 1)
		eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(answered) >= target }, "charges are made")
		require.NoError(t, child.Process.Kill())
		wg.Wait()
		_ = child.Wait() // it was killed
	}

	simulator, address := restarted(t, file, in.URL)
	charged := map[string]bool{}
	for _, c := range simulator.Charges() {
		charged[c.PaymentIntent] = true
	}
	for key, id := range answered {
		require.True(t, charged[id], "the charge of %s is gone", key)
		again := post(t, address+"/v1/payment_intents", key, payment("pm_card_visa"))
		require.True(t, again.replayed)
		require.Equal(t, id, again.field(t, "id"))
	}
	require.Len(t, simulator.Charges(), len(charged))
	eventually(t, func() bool {
		told := map[string]bool{}
		for _, e := range in.of("payment_intent.succeeded") {
			told[e.Data.Object.ID] = true
		}
		for id := range charged {
			if !told[id] {
				return false
			}
		}
		return true
	}, "each charge is told of")
}

// spawn starts a simulator as a process of its own.
func spawn(tb testing.TB, file, webhooks string) (*exec.Cmd, string) {
	tb.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childJournal+"="+file, "STRIPESIM_TEST_WEBHOOKS="+webhooks)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, child.Start())
	tb.Cleanup(func() { _ = child.Process.Kill() }) // it may be dead already
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(tb, err)
	return child, strings.TrimSpace(address)
}
