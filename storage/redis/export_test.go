package redis

// LocalKeys is how many keys a limiter remembers by itself.
func (l *RateLimiter) LocalKeys() int {
	l.local.mu.Lock()
	defer l.local.mu.Unlock()
	return len(l.local.full)
}
