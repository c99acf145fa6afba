package livestream

import (
	"errors"
	"fmt"
	"time"
)

// Code is the stable word by which a client recognises an error. The HTTP
// status of each is in one table in package httpapi.
type Code string

// The codes. Clients are written against them: add, never rename.
const (
	CodeInvalidRequest          Code = "invalid_request"
	CodeUnauthorized            Code = "unauthorized"
	CodeForbidden               Code = "forbidden"
	CodeNotFound                Code = "not_found"
	CodeMethodNotAllowed        Code = "method_not_allowed"
	CodePayloadTooLarge         Code = "payload_too_large"
	CodeRateLimited             Code = "rate_limited"
	CodeInternal                Code = "internal"
	CodeUnavailable             Code = "unavailable"
	CodeInvalidCredentials      Code = "invalid_credentials"
	CodeInvalidRefreshToken     Code = "invalid_refresh_token"
	CodeRefreshTokenReused      Code = "refresh_token_reused"
	CodeUsernameTaken           Code = "username_taken"
	CodeEmailTaken              Code = "email_taken"
	CodeUserNotFound            Code = "user_not_found"
	CodeCannotFollowSelf        Code = "cannot_follow_self"
	CodeCannotBlockSelf         Code = "cannot_block_self"
	CodeBlocked                 Code = "blocked"
	CodePushUnavailable         Code = "push_unavailable"
	CodeSubscriptionNotFound    Code = "push_subscription_not_found"
	CodeStreamNotFound          Code = "stream_not_found"
	CodeMessageNotFound         Code = "message_not_found"
	CodeAlreadyStreaming        Code = "already_streaming"
	CodeIngestUnavailable       Code = "ingest_unavailable"
	CodeStreamNotLive           Code = "stream_not_live"
	CodeRecordingDisabled       Code = "recording_disabled"
	CodeRecordingExists         Code = "recording_exists"
	CodeRecordingClosed         Code = "recording_closed"
	CodeUploadNotFound          Code = "upload_not_found"
	CodeUploadIncomplete        Code = "upload_incomplete"
	CodeArchiveNotFound         Code = "archive_not_found"
	CodeArchiveNotReady         Code = "archive_not_ready"
	CodeTransactionNotFound     Code = "transaction_not_found"
	CodeRefundNotFound          Code = "refund_not_found"
	CodeRefundExceedsCharge     Code = "refund_exceeds_charge"
	CodeAlreadyRefunded         Code = "already_refunded"
	CodeCannotModerateSelf      Code = "cannot_moderate_self"
	CodeCannotTipSelf           Code = "cannot_tip_self"
	CodeTipLimitReached         Code = "tip_limit_reached"
	CodeBanned                  Code = "banned"
	CodeBlockedTerm             Code = "blocked_term"
	CodeIdempotencyKeyRequired  Code = "idempotency_key_required"
	CodeIdempotencyKeyReused    Code = "idempotency_key_reused"
	CodeInvalidStripeSignature  Code = "invalid_signature"
	CodeInvalidWebSocketTicket  Code = "invalid_ticket"
	CodeWebSocketOriginRejected Code = "origin_not_allowed"
)

// Error is an error that a client may read. Anything else that reaches an edge
// is reported as CodeInternal, and its text stays in the log.
type Error struct {
	Code    Code
	Message string
	// Fields says which inputs were refused; only with CodeInvalidRequest.
	Fields []FieldError
	// RetryAfter is how long to wait before trying again; zero says nothing.
	RetryAfter time.Duration
	// Err is the cause, for the log alone.
	Err error
}

// FieldError is one refused input.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

func (e *Error) Unwrap() error { return e.Err }

// ComeBack is after what time a client is asked to try again: two seconds where
// something is unavailable and nobody knows better. Zero says nothing.
func (e *Error) ComeBack() time.Duration {
	if e.RetryAfter == 0 && e.Code == CodeUnavailable {
		return 2 * time.Second
	}
	return e.RetryAfter
}

// Errorf makes an error that a client may read.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Unavailable says that a dependency is down.
func Unavailable(what string, cause error) *Error {
	return &Error{Code: CodeUnavailable, Message: what + " is not available at the moment", Err: cause}
}

// Invalid refuses one field.
func Invalid(field, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	return &Error{Code: CodeInvalidRequest, Message: field + " " + message, Fields: []FieldError{{Field: field, Message: message}}}
}

// CodeOf is the code that a client would see for err; empty for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
