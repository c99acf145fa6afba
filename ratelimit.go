package livestream

import "time"

// RateLimit is how often somebody may do something: Rate times in Per, and Burst
// times at once.
type RateLimit struct {
	Name  string // in the RateLimit-Policy header and in the limiter's keys
	Rate  int
	Per   time.Duration
	Burst int
}

// RateDecision is what a limiter says of one attempt.
type RateDecision struct {
	Allowed   bool
	Remaining int
	// ResetAfter is when all of the burst is there again.
	ResetAfter time.Duration
	// RetryAfter is how long to wait; zero when it is allowed.
	RetryAfter time.Duration
}
