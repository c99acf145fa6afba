package livestream

import "github.com/google/uuid"

// IdempotencyClaim is a request that must have its effect once. Keys belong to
// one user and one operation.
type IdempotencyClaim struct {
	UserID      uuid.UUID
	Operation   string
	Key         string
	RequestHash []byte
	// ResourceID is the id of what the request would make; the first claim's is
	// what every later one gets.
	ResourceID uuid.UUID
}

// IdempotencyRecord is what the first claim of a key left. Status is 0 while
// its response is not known.
type IdempotencyRecord struct {
	ResourceID uuid.UUID
	Status     int
	Response   []byte
}
