package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// Transactions stores payments.
type Transactions interface {
	ByID(ctx context.Context, id, userID uuid.UUID) (livestream.Transaction, error)
	Any(ctx context.Context, id uuid.UUID) (livestream.Transaction, error)
	List(ctx context.Context, filter livestream.TransactionFilter, page livestream.Page) (livestream.List[livestream.Transaction], error)
	Balances(ctx context.Context, userID uuid.UUID) ([]livestream.Balance, error)
}

func (s *Server) CreateTransaction(ctx context.Context, request CreateTransactionRequestObject) (CreateTransactionResponseObject, error) {
	in, key := request.Body, request.Params.IdempotencyKey
	if key == nil {
		return nil, livestream.Errorf(livestream.CodeIdempotencyKeyRequired, "the header Idempotency-Key is needed, so that a payment that is sent twice is made once")
	}
	if (in.StreamID == nil) == (in.RecipientID == nil) {
		return nil, livestream.Invalid("recipient_id", "or stream_id is needed, and not both")
	}
	if !livestream.KnownCurrency(in.Currency) {
		return nil, livestream.Invalid("currency", "is no currency of ISO 4217")
	}
	if r, narrow := s.config.TipRanges[in.Currency]; narrow && (in.Amount < r.Min || in.Amount > r.Max) {
		return nil, livestream.Invalid("amount", "must be from %d to %d in %s", r.Min, r.Max, in.Currency)
	}
	message := strings.TrimSpace(norm.NFC.String(value(in.Message, "")))
	me := memberOf(ctx).UserID
	return idempotent(ctx, s, "transaction", key, in, func(id uuid.UUID) (CreateTransactionResponseObject, int, error) {
		recipient, err := s.recipient(ctx, in)
		if err != nil {
			return nil, 0, err
		}
		if recipient == me {
			return nil, 0, livestream.Errorf(livestream.CodeCannotTipSelf, "you cannot tip yourself")
		}
		if err := s.mayBeSaid(ctx, in.StreamID, message); err != nil {
			return nil, 0, err
		}
		err = s.deps.Workflows.SubmitPayment(ctx, livestream.NewTransaction{
			ID: id, WorkflowID: workflows.PaymentID(me, *key), Kind: livestream.TransactionKind(in.Kind), Amount: in.Amount, Currency: in.Currency,
			SenderID: me, RecipientID: recipient, StreamID: in.StreamID, Message: message, PaymentMethod: value(in.PaymentMethod, ""),
		})
		if err != nil {
			return nil, 0, err
		}
		transaction, err := s.deps.Transactions.ByID(ctx, id, me)
		if err != nil {
			return nil, 0, err
		}
		out := transactionOf(transaction, me)
		if transaction.Status == livestream.TransactionQueued {
			return CreateTransaction202JSONResponse(out), http.StatusAccepted, nil
		}
		return CreateTransaction201JSONResponse(out), http.StatusCreated, nil
	})
}

// recipient is who a tip is for.
//
// Errors: stream_not_found, stream_not_live, user_not_found.
func (s *Server) recipient(ctx context.Context, in *TransactionInput) (uuid.UUID, error) {
	if in.StreamID == nil {
		user, err := s.deps.Users.ByID(ctx, *in.RecipientID)
		return user.ID, err
	}
	stream, err := s.deps.Streams.ByID(ctx, *in.StreamID)
	if err == nil && !stream.Status.Active() {
		err = livestream.Errorf(livestream.CodeStreamNotLive, "this stream has ended; tip its creator instead")
	}
	return stream.UserID, err
}

// mayBeSaid checks a tip's message by the rules of the chat that shows it.
//
// Errors: blocked_term.
func (s *Server) mayBeSaid(ctx context.Context, streamID *uuid.UUID, message string) error {
	if streamID == nil || message == "" {
		return nil
	}
	rules, err := s.deps.Chats.Rules(ctx, *streamID)
	if err == nil && rules.Settings.Blocked(message) {
		err = livestream.Errorf(livestream.CodeBlockedTerm, "the message has a term that is blocked here")
	}
	return err
}

func (s *Server) ListTransactions(ctx context.Context, request ListTransactionsRequestObject) (ListTransactionsResponseObject, error) {
	page, err := pageOf(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	me := memberOf(ctx).UserID
	list, err := s.deps.Transactions.List(ctx, livestream.TransactionFilter{
		UserID: me,
		Status: optional(request.Params.Status, func(v TransactionStatus) livestream.TransactionStatus { return livestream.TransactionStatus(v) }),
	}, page)
	if err != nil {
		return nil, err
	}
	return ListTransactions200JSONResponse{Data: each(list.Data, func(t livestream.Transaction) Transaction {
		return transactionOf(t, me)
	}), NextCursor: nextCursor(list.Next)}, nil
}

func (s *Server) GetTransaction(ctx context.Context, request GetTransactionRequestObject) (GetTransactionResponseObject, error) {
	me := memberOf(ctx).UserID
	transaction, err := s.deps.Transactions.ByID(ctx, request.ID, me)
	if err != nil {
		return nil, err
	}
	return GetTransaction200JSONResponse(transactionOf(transaction, me)), nil
}

func (s *Server) GetBalance(ctx context.Context, _ GetBalanceRequestObject) (GetBalanceResponseObject, error) {
	balances, err := s.deps.Transactions.Balances(ctx, memberOf(ctx).UserID)
	if err != nil {
		return nil, err
	}
	type entry = struct {
		Available int64  `json:"available"`
		Currency  string `json:"currency"`
		Pending   int64  `json:"pending"`
	}
	return GetBalance200JSONResponse{Balances: each(balances, func(b livestream.Balance) entry {
		return entry{Available: b.Available, Currency: b.Currency, Pending: b.Pending}
	})}, nil
}

// transactionOf is a payment as that member may see it: the client's secret is
// for the one who pays, as long as there is something to confirm.
func transactionOf(t livestream.Transaction, viewer uuid.UUID) Transaction {
	out := Transaction{
		ID: t.ID, Status: TransactionStatus(t.Status), Amount: t.Amount, Currency: t.Currency, Kind: TransactionKind(t.Kind),
		SenderID: t.SenderID, RecipientID: t.RecipientID, StreamID: t.StreamID, Message: t.Message,
		Failure:   optional(t.Failure, func(f livestream.Failure) Failure { return Failure(f) }),
		FeeAmount: t.FeeAmount, RefundedAmount: t.RefundedAmount, StripePaymentIntentID: notEmpty(t.PaymentIntentID),
		WorkflowID: t.WorkflowID, CreatedAt: t.CreatedAt, SettledAt: t.SettledAt,
	}
	if viewer == t.SenderID && !t.Status.Final() {
		out.ClientSecret = notEmpty(t.ClientSecret)
	}
	return out
}
