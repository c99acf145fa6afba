package stripesim_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

func TestListsHavePages(t *testing.T) {
	t.Parallel()
	_, address := start(t, stripesim.Config{})
	var made []string
	for range 25 {
		made = append(made, paid(t, address, "pm_card_visa"))
	}
	slices.Reverse(made) // the newest is first
	path := address + "/v1/payment_intents"
	first, more := list(t, path)
	require.Equal(t, made[:10], first, "ten, when nothing else is said")
	require.True(t, more)
	second, more := list(t, path+"?limit=15&starting_after="+first[9])
	require.Equal(t, made[10:], second)
	require.False(t, more, "these were the last")
	for _, bad := range []string{"limit=0", "limit=101", "limit=x", "starting_after=pi_none", "created[gte]=x", "status=succeeded"} {
		require.Equal(t, 400, get(t, path+"?"+bad).status, bad)
	}
}

func TestListsAreNarrowed(t *testing.T) {
	t.Parallel()
	_, address := start(t, stripesim.Config{})
	mine, others := paid(t, address, "pm_card_createDispute"), paid(t, address, "pm_card_visa")
	kept := post(t, address+"/v1/refunds", "", refund(others, "1")).field(t, "id")
	now := time.Now().Unix()
	for query, want := range map[string]int{
		fmt.Sprintf("created[gte]=%d&created[lt]=%d", now-60, now+60): 2,
		fmt.Sprintf("created[gt]=%d", now+60):                         0,
		fmt.Sprintf("created[lte]=%d", now-60):                        0,
		fmt.Sprintf("created[lt]=%d", now-60):                         0,
		fmt.Sprintf("created[gte]=%d", now+60):                        0,
	} {
		ids, more := list(t, address+"/v1/payment_intents?"+query)
		require.Len(t, ids, want, query)
		require.False(t, more)
	}
	ids, _ := list(t, address+"/v1/refunds?payment_intent="+others)
	require.Equal(t, []string{kept}, ids)
	ids, _ = list(t, address+"/v1/refunds?payment_intent="+mine)
	require.Empty(t, ids)
	ids, _ = list(t, address+"/v1/disputes?limit=1")
	require.Len(t, ids, 1)
}
