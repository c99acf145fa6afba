package livestream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Position is a place in the database's write-ahead log. What was committed
// before it is seen by whoever has replayed that far.
type Position uint64

// String is the form that Postgres gives it: two hexadecimal halves.
func (p Position) String() string { return fmt.Sprintf("%X/%X", uint32(p>>32), uint32(p)) }

// ParsePosition reads what String wrote.
func ParsePosition(s string) (Position, error) {
	high, low, found := strings.Cut(s, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !found || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%q is no position in a log", s)
	}
	return Position(h<<32 | l), nil
}

// ReadPolicy says where a request may read from. The zero value is the primary:
// replicas are for those who say that they will do.
type ReadPolicy struct {
	// Replica allows one that has replayed After.
	Replica bool
	// After is what the one who asks has written or seen.
	After Position
}

type readPolicyKey struct{}

// WithReadPolicy makes the reads of a context follow a policy.
func WithReadPolicy(ctx context.Context, policy ReadPolicy) context.Context {
	return context.WithValue(ctx, readPolicyKey{}, policy)
}

// ReadPolicyOf is the policy of a context.
func ReadPolicyOf(ctx context.Context) ReadPolicy {
	policy, _ := ctx.Value(readPolicyKey{}).(ReadPolicy)
	return policy
}
