// Package cached puts copies in Redis before the stores of what is read most:
// members, their follow counts, and streams. Each of its stores has the methods of
// the one that it wraps. Whatever writes to those goes through this package, in
// every process, so that no copy outlives a write.
//
// Copies are for reads whose policy allows a replica; others are answered by the
// wrapped store. The package knows keys and lifetimes, not how copies are kept.
package cached
