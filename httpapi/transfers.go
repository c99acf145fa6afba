package httpapi

import (
	"sync"
	"time"

	livestream "github.com/livestream-pro/livestream-pro"
)

// transfers bounds how many files are sent at once: to all, and to one address.
type transfers struct {
	max, perAddress int

	mu  sync.Mutex
	all int
	to  map[string]int
}

func newTransfers(most, perAddress int) *transfers {
	return &transfers{max: most, perAddress: perAddress, to: map[string]int{}}
}

// begin takes a place; end gives it back.
//
// Errors: unavailable, rate_limited.
func (t *transfers) begin(address string) (end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.all >= t.max:
		return nil, livestream.Unavailable("another connection for media", nil)
	case t.to[address] >= t.perAddress:
		return nil, &livestream.Error{Code: livestream.CodeRateLimited, Message: "too many files are being sent to this address", RetryAfter: time.Second}
	}
	t.all++
	t.to[address]++
	return func() { t.end(address) }, nil
}

func (t *transfers) end(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.to[address]--; t.to[address] == 0 {
		delete(t.to, address)
	}
}
