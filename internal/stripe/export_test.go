package stripe

import "time"

// NewWithPause is New with a breaker that tries again after pause.
func NewWithPause(config Config, pause time.Duration) (*Client, error) {
	return newClient(config, pause)
}
