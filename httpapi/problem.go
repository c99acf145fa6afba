package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// statuses says with which status each code is answered.
var statuses = map[livestream.Code]int{
	livestream.CodeInvalidRequest:         http.StatusBadRequest,
	livestream.CodeUnauthorized:           http.StatusUnauthorized,
	livestream.CodeForbidden:              http.StatusForbidden,
	livestream.CodeNotFound:               http.StatusNotFound,
	livestream.CodeMethodNotAllowed:       http.StatusMethodNotAllowed,
	livestream.CodePayloadTooLarge:        http.StatusRequestEntityTooLarge,
	livestream.CodeRateLimited:            http.StatusTooManyRequests,
	livestream.CodeInternal:               http.StatusInternalServerError,
	livestream.CodeUnavailable:            http.StatusServiceUnavailable,
	livestream.CodeInvalidCredentials:     http.StatusUnauthorized,
	livestream.CodeInvalidRefreshToken:    http.StatusUnauthorized,
	livestream.CodeRefreshTokenReused:     http.StatusUnauthorized,
	livestream.CodeUsernameTaken:          http.StatusConflict,
	livestream.CodeEmailTaken:             http.StatusConflict,
	livestream.CodeUserNotFound:           http.StatusNotFound,
	livestream.CodeCannotFollowSelf:       http.StatusUnprocessableEntity,
	livestream.CodeCannotBlockSelf:        http.StatusUnprocessableEntity,
	livestream.CodeBlocked:                http.StatusForbidden,
	livestream.CodeSubscriptionNotFound:   http.StatusNotFound,
	livestream.CodePushUnavailable:        http.StatusUnprocessableEntity,
	livestream.CodeStreamNotFound:         http.StatusNotFound,
	livestream.CodeMessageNotFound:        http.StatusNotFound,
	livestream.CodeAlreadyStreaming:       http.StatusConflict,
	livestream.CodeIngestUnavailable:      http.StatusUnprocessableEntity,
	livestream.CodeStreamNotLive:          http.StatusUnprocessableEntity,
	livestream.CodeRecordingDisabled:      http.StatusConflict,
	livestream.CodeRecordingExists:        http.StatusConflict,
	livestream.CodeRecordingClosed:        http.StatusConflict,
	livestream.CodeUploadNotFound:         http.StatusNotFound,
	livestream.CodeUploadIncomplete:       http.StatusUnprocessableEntity,
	livestream.CodeArchiveNotFound:        http.StatusNotFound,
	livestream.CodeArchiveNotReady:        http.StatusConflict,
	livestream.CodeTransactionNotFound:    http.StatusNotFound,
	livestream.CodeRefundNotFound:         http.StatusNotFound,
	livestream.CodeRefundExceedsCharge:    http.StatusUnprocessableEntity,
	livestream.CodeAlreadyRefunded:        http.StatusConflict,
	livestream.CodeCannotModerateSelf:     http.StatusUnprocessableEntity,
	livestream.CodeCannotTipSelf:          http.StatusUnprocessableEntity,
	livestream.CodeTipLimitReached:        http.StatusUnprocessableEntity,
	livestream.CodeBanned:                 http.StatusForbidden,
	livestream.CodeBlockedTerm:            http.StatusUnprocessableEntity,
	livestream.CodeIdempotencyKeyRequired: http.StatusBadRequest,
	livestream.CodeIdempotencyKeyReused:   http.StatusUnprocessableEntity,
	livestream.CodeInvalidStripeSignature: http.StatusBadRequest,
}

// fail answers with a problem, and ends the request. An error without a code is
// ours: its text goes to the log alone.
func (s *Server) fail(c *gin.Context, err error) {
	var e *livestream.Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, context.DeadlineExceeded):
		e = livestream.Unavailable("the service", err)
	case errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil:
		c.Abort() // the client has gone
		return
	default:
		e = &livestream.Error{Code: livestream.CodeInternal, Message: "something went wrong on our side", Err: err}
	}
	status, known := statuses[e.Code]
	if !known {
		status, e = http.StatusInternalServerError, &livestream.Error{Code: livestream.CodeInternal, Message: "something went wrong on our side", Err: err}
	}
	if status >= http.StatusInternalServerError {
		s.deps.Log.Error("request failed", zap.String("request_id", requestID(c)), zap.Error(err))
	}
	if wait := e.ComeBack(); wait > 0 {
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	if status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", "Bearer")
	}
	problem := Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Message,
		Instance: c.Request.URL.Path, Code: string(e.Code), RequestID: requestID(c), Errors: e.Fields,
	}
	content, err := json.Marshal(problem)
	if err != nil {
		panic(err) // plain strings
	}
	c.Abort()
	c.Data(status, "application/problem+json", content)
}
