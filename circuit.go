package livestream

import (
	"errors"
	"time"
)

// CircuitPolicy is when calls of another service are refused, because too many of
// them failed.
type CircuitPolicy struct {
	Name    string        // in keys and metrics
	Window  time.Duration // over which calls are counted; it rolls
	Minimum int           // how many calls there must be before anything follows from them
	Rate    float64       // of failed calls at which it opens; above 0, up to 1
	Pause   time.Duration // how long it is open before a call tries again
	Probes  int           // how many calls must succeed then, one after the other
	Lease   time.Duration // after which a probe that was not heard of is given up; longer than a call takes
}

// CallResult is what a call says of the service.
type CallResult string

const (
	CallOK      CallResult = "ok"
	CallFailed  CallResult = "failed"
	CallUnknown CallResult = "unknown" // the caller gave up
)

// ErrCircuitOpen is the cause of an unavailable whose call was not made, because
// those before it failed.
var ErrCircuitOpen = errors.New("too many calls fail, and no more are made for a while")
