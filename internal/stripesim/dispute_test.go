package stripesim_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func TestDisputesAreDecidedByTheirEvidence(t *testing.T) {
	t.Parallel()
	evidence := func(text string) url.Values { return url.Values{"evidence[uncategorized_text]": {text}} }
	for name, c := range map[string]struct {
		method, path string
		form         url.Values
		first, last  string
		refundable   bool
		events       []string
	}{
		"won":             {"pm_card_createDispute", "", evidence("winning_evidence"), "needs_response", "won", true, []string{"charge.dispute.funds_withdrawn", "charge.dispute.closed", "charge.dispute.funds_reinstated"}},
		"lost":            {"pm_card_createDisputeProductNotReceived", "", evidence("losing_evidence"), "needs_response", "lost", false, []string{"charge.dispute.funds_withdrawn", "charge.dispute.closed"}},
		"given in":        {"pm_card_createDispute", "/close", nil, "needs_response", "lost", false, []string{"charge.dispute.closed"}},
		"under review":    {"pm_card_createDispute", "", evidence("a photograph"), "needs_response", "under_review", false, []string{"charge.dispute.updated"}},
		"only an inquiry": {"pm_card_createDisputeInquiry", "", evidence("winning_evidence"), "warning_needs_response", "warning_closed", true, []string{"charge.dispute.closed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newInbox(t)
			simulator, address := start(t, stripesim.Config{WebhookURL: in.URL})
			intent := paid(t, address, c.method)
			ids, _ := list(t, address+"/v1/disputes?payment_intent="+intent)
			require.Len(t, ids, 1)
			dispute := address + "/v1/disputes/" + ids[0]
			require.Equal(t, c.first, get(t, dispute).field(t, "status"))
			decided := post(t, dispute+c.path, "", c.form)
			require.Equal(t, 200, decided.status, decided.body)
			require.Equal(t, c.last, get(t, dispute).field(t, "status"))
			require.True(t, simulator.Charges()[0].Disputed)
			require.Equal(t, c.last != "under_review", post(t, dispute+"/close", "", nil).status == 400, "a closed one stays as it is")
			if c.last != "under_review" {
				give := post(t, address+"/v1/refunds", "", refund(intent, "100"))
				require.Equal(t, c.refundable, give.status == 200, give.body)
				if !c.refundable {
					require.Equal(t, "charge_disputed", give.field(t, "error.code"))
				}
			}
			for _, event := range append(c.events, "charge.dispute.created") {
				eventually(t, func() bool { return len(in.of(event)) == 1 }, event)
			}
		})
	}
}

func TestBankChangesItsMind(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	simulator, address := start(t, stripesim.Config{WebhookURL: in.URL})
	intent := paid(t, address, "pm_card_createDispute")
	dispute := simulator.Disputes()[0]
	require.Len(t, dispute.BalanceTransactions, 1)
	require.Equal(t, -dispute.Amount, dispute.BalanceTransactions[0].Amount)
	reinstate := func(id string) int {
		response, err := http.Post(address+"/_sim/disputes/"+id+"/reinstate", "", nil)
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, http.StatusConflict, reinstate(dispute.ID), "it is not lost")
	require.Equal(t, 200, post(t, address+"/v1/disputes/"+dispute.ID+"/close", "", nil).status)
	require.Equal(t, 400, post(t, address+"/v1/refunds", "", refund(intent, "100")).status)
	require.Equal(t, 200, reinstate(dispute.ID))
	require.Equal(t, http.StatusConflict, reinstate(dispute.ID), "once")
	require.Equal(t, http.StatusConflict, reinstate("dp_none"))
	require.Equal(t, "lost", simulator.Disputes()[0].Status)
	require.Equal(t, dispute.Amount, simulator.Disputes()[0].BalanceTransactions[1].Amount)
	require.Equal(t, 200, post(t, address+"/v1/refunds", "", refund(intent, "100")).status, "the money is there again")
	eventually(t, func() bool { return len(in.of("charge.dispute.funds_reinstated")) == 1 }, "funds_reinstated")
}

func TestPayersGoToTheirBankLater(t *testing.T) {
	t.Parallel()
	simulator, address := start(t, stripesim.Config{})
	intent := paid(t, address, "pm_card_visa")
	require.Equal(t, 200, post(t, address+"/v1/refunds", "", refund(intent, "200")).status)
	begin := func(id string) int {
		response, err := http.Post(address+"/_sim/payment_intents/"+id+"/dispute", "application/json", strings.NewReader(`{"reason":"duplicate"}`))
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, 200, begin(intent))
	require.Equal(t, http.StatusConflict, begin(intent), "once")
	require.Equal(t, http.StatusConflict, begin("pi_none"))
	dispute := simulator.Disputes()[0]
	require.Equal(t, int64(300), dispute.Amount, "what was not refunded")
	require.Equal(t, "duplicate", dispute.Reason)
	require.Equal(t, 404, get(t, address+"/v1/disputes/dp_none").status)
	require.Equal(t, 404, post(t, address+"/v1/disputes/dp_none", "", nil).status)
	require.Equal(t, 404, post(t, address+"/v1/disputes/dp_none/close", "", nil).status)
}
