package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// RefundTransaction promises a refund and leaves the rest to its workflow.
func (s *Server) RefundTransaction(ctx context.Context, request RefundTransactionRequestObject) (RefundTransactionResponseObject, error) {
	in := value(request.Body, RefundInput{})
	me := memberOf(ctx).UserID
	transaction, err := s.refundable(ctx, request.ID)
	if err != nil {
		return nil, err
	}
	asked := struct {
		TransactionID uuid.UUID
		RefundInput
	}{transaction.ID, in}
	return idempotent(ctx, s, "refund", request.Params.IdempotencyKey, asked, func(id uuid.UUID) (RefundTransactionResponseObject, int, error) {
		err := s.deps.Workflows.SubmitRefund(ctx, livestream.NewRefund{
			ID: id, TransactionID: transaction.ID, Amount: value(in.Amount, 0), Reason: value(in.Reason, ""), RequestedBy: &me,
		})
		if err != nil {
			return nil, 0, err
		}
		transaction, err := s.deps.Transactions.Any(ctx, transaction.ID)
		if err != nil {
			return nil, 0, err
		}
		return RefundTransaction202JSONResponse(transactionOf(transaction, me)), http.StatusAccepted, nil
	})
}

// refundable is a payment that the member may give back: its recipient may, and
// admins. Its sender may only see it, and others not even that.
//
// Errors: transaction_not_found, forbidden.
func (s *Server) refundable(ctx context.Context, id uuid.UUID) (livestream.Transaction, error) {
	me := memberOf(ctx)
	transaction, err := s.deps.Transactions.Any(ctx, id)
	if err != nil || transaction.RecipientID == me.UserID {
		return transaction, err
	}
	if me.Role == livestream.RoleAdmin {
		// The token may be older than the role is gone.
		user, err := s.deps.Users.ByID(onPrimary(ctx), me.UserID)
		if err != nil || user.Role == livestream.RoleAdmin {
			return transaction, err
		}
	}
	if transaction.SenderID == me.UserID {
		return livestream.Transaction{}, livestream.Errorf(livestream.CodeForbidden, "only its recipient can give a payment back")
	}
	return livestream.Transaction{}, livestream.Errorf(livestream.CodeTransactionNotFound, "there is no such transaction")
}
