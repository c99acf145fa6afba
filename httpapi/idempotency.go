package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// IdempotencyKeys stores which requests came under which key. The first claim of
// a key wins, and gives its resource's id to all that follow.
type IdempotencyKeys interface {
	Claim(ctx context.Context, claim livestream.IdempotencyClaim) (livestream.IdempotencyRecord, error)
	SaveResponse(ctx context.Context, userID uuid.UUID, operation, key string, status int, response []byte) error
}

// idempotent runs an operation that makes a resource, and gives it the resource's
// id: a new one, or under a key the one of the first request. An answer that is
// stored is given again as it was. A request that died on its way runs again with
// its id, and meets its own workflow.
func idempotent[Response any](ctx context.Context, s *Server, operation string, key *string, in any,
	run func(id uuid.UUID) (response Response, status int, err error),
) (Response, error) {
	var none Response
	id, err := uuid.NewV7()
	if err != nil {
		return none, err
	}
	if key == nil {
		response, _, err := run(id)
		return response, err
	}
	canonical, err := json.Marshal(in)
	if err != nil {
		return none, fmt.Errorf("hash the request: %w", err)
	}
	hash := sha256.Sum256(canonical)
	me := memberOf(ctx).UserID
	record, err := s.deps.Idempotency.Claim(ctx, livestream.IdempotencyClaim{
		UserID: me, Operation: operation, Key: *key, RequestHash: hash[:], ResourceID: id,
	})
	if err != nil {
		return none, err
	}
	if record.Status != 0 {
		return any(stored{record.Status, record.Response}).(Response), nil
	}
	response, status, err := run(record.ResourceID)
	if err != nil {
		return none, err
	}
	content, err := json.Marshal(response)
	if err != nil {
		return none, fmt.Errorf("store the response: %w", err)
	}
	if err := s.deps.Idempotency.SaveResponse(context.WithoutCancel(ctx), me, operation, *key, status, content); err != nil {
		s.deps.Log.Warn("store a response", zap.Error(err)) // the next one is read from the row
	}
	return response, nil
}

// stored is an answer that is given again.
type stored struct {
	status int
	body   []byte
}

func (r stored) write(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	_, err := w.Write(r.body)
	return err
}

func (r stored) VisitStartStreamResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r stored) VisitCreateTransactionResponse(w http.ResponseWriter) error { return r.write(w) }
func (r stored) VisitRefundTransactionResponse(w http.ResponseWriter) error { return r.write(w) }
