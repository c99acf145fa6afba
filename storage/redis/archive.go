package redis

import (
	"context"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Archives are the archives' progress, by step.
type Archives struct{ client *Client }

// NewArchives is the progress of a Redis's archives.
func NewArchives(client *Client) *Archives { return &Archives{client} }

// Report says how many seconds of media a step has done, and gives the sum over
// all steps. A step that begins anew replaces what it said before.
func (a *Archives) Report(ctx context.Context, archiveID uuid.UUID, unit string, seconds float64) (float64, error) {
	key := "archive:{" + archiveID.String() + "}:progress"
	pipe := a.client.commands.TxPipeline()
	pipe.HSet(ctx, key, unit, seconds)
	pipe.Expire(ctx, key, 24*time.Hour)
	done := pipe.HVals(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, edge("report progress", err)
	}
	sum := 0.0
	for _, value := range done.Val() {
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			sum += n
		}
	}
	return sum, nil
}
