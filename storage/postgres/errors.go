package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	livestream "github.com/livestream-pro/livestream-pro"
)

// SQLSTATE codes, see appendix A of Postgres's manual.
const (
	stateDuplicate       = "23505"
	stateSerialization   = "40001"
	stateDeadlock        = "40P01"
	stateUntranslatable  = "22P05"
	stateBadEncoding     = "22021"
	stateReadOnly        = "25006" // a primary that was demoted
	stateIdleInTx        = "25P03"
	stateLockTimeout     = "55P03"
	stateCanceled        = "57014" // by a timeout: what the caller cancels does not come here
	stateTooManyConns    = "53300"
	stateAdminShutdown   = "57P01"
	stateCrashShutdown   = "57P02"
	stateCannotConnect   = "57P03"
	stateIdleSession     = "57P05"
	classConnectionError = "08"
)

// violation is what a client is told when a constraint refuses a write.
func violation(constraint string) *livestream.Error {
	switch constraint {
	case "users_username_key":
		return livestream.Errorf(livestream.CodeUsernameTaken, "this username is taken")
	case "users_email_key":
		return livestream.Errorf(livestream.CodeEmailTaken, "this email address is registered already")
	case "follows_not_self":
		return livestream.Errorf(livestream.CodeCannotFollowSelf, "you cannot follow yourself")
	case "blocks_not_self":
		return livestream.Errorf(livestream.CodeCannotBlockSelf, "you cannot block yourself")
	case "transactions_not_self":
		return livestream.Errorf(livestream.CodeCannotTipSelf, "you cannot tip yourself")
	case "streams_one_active_key":
		return livestream.Errorf(livestream.CodeAlreadyStreaming, "you have a stream under way already")
	case "idx_archives_stream_id", "archives_pkey":
		return livestream.Errorf(livestream.CodeRecordingExists, "this stream has a recording already")
	case "chat_bans_user_id_fkey", "chat_bans_banned_by_fkey", "chat_moderators_user_id_fkey", "chat_moderators_moderator_id_fkey",
		"follows_follower_id_fkey", "follows_following_id_fkey", "sessions_user_id_fkey", "streams_user_id_fkey", "inboxes_user_id_fkey", "blocks_user_id_fkey", "push_subscriptions_user_id_fkey", "blocks_blocked_id_fkey",
		"notification_settings_user_id_fkey", "transactions_sender_id_fkey", "transactions_recipient_id_fkey", "idempotency_keys_user_id_fkey":
		return userNotFound()
	case "chat_settings_stream_id_fkey", "chat_bans_stream_id_fkey", "uploads_stream_id_fkey", "transactions_stream_id_fkey", "notification_progress_stream_id_fkey":
		return streamNotFound()
	}
	return nil
}

func userNotFound() *livestream.Error {
	return livestream.Errorf(livestream.CodeUserNotFound, "there is no such user")
}

func streamNotFound() *livestream.Error {
	return livestream.Errorf(livestream.CodeStreamNotFound, "there is no such stream")
}

func uploadNotFound() *livestream.Error {
	return livestream.Errorf(livestream.CodeUploadNotFound, "there is no such upload")
}

func archiveNotFound() *livestream.Error {
	return livestream.Errorf(livestream.CodeArchiveNotFound, "there is no such archive")
}

func transactionNotFound() *livestream.Error {
	return livestream.Errorf(livestream.CodeTransactionNotFound, "there is no such transaction")
}

func refundNotFound() *livestream.Error {
	return livestream.Errorf(livestream.CodeRefundNotFound, "there is no such refund")
}

// fail is this package's edge: every error leaves through it, once.
func fail(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*livestream.Error)(nil); errors.As(err, &e) {
		return e
	}
	// The caller went away: that is no fault of the database.
	if cause := ctx.Err(); errors.Is(cause, context.Canceled) {
		return fmt.Errorf("%s: %w: %w", what, cause, err)
	}
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		if e := violation(pg.ConstraintName); e != nil {
			e.Err = fmt.Errorf("%s: %w", what, err)
			return e
		}
		if pg.Code == stateBadEncoding || pg.Code == stateUntranslatable {
			return &livestream.Error{Code: livestream.CodeInvalidRequest, Message: "the text has characters that cannot be stored", Err: fmt.Errorf("%s: %w", what, err)}
		}
	}
	// A database that does not answer while the caller has time is not there.
	if disconnected(err) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return livestream.Unavailable("the database", fmt.Errorf("%s: %w", what, err))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// failOr is fail, but for a query without a row, which means missing.
func failOr(ctx context.Context, what string, err error, missing *livestream.Error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return missing
	}
	return fail(ctx, what, err)
}

// aborted says whether Postgres rolled a transaction back for another's sake.
func aborted(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && (pg.Code == stateSerialization || pg.Code == stateDeadlock)
}

// duplicate says whether a unique key refused the row.
func duplicate(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && pg.Code == stateDuplicate
}

// lockTimeout says whether somebody else had what was wanted for longer than a lock is
// waited for.
func lockTimeout(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && pg.Code == stateLockTimeout
}

// disconnected says whether the server could not be reached, went away, does not
// take us at the moment, or did not answer in time.
func disconnected(err error) bool {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		switch pg.Code {
		case stateReadOnly, stateIdleInTx, stateLockTimeout, stateCanceled, stateTooManyConns, stateAdminShutdown, stateCrashShutdown, stateCannotConnect, stateIdleSession:
			return true
		}
		// PgBouncer reports a server that it cannot reach in this class too.
		return strings.HasPrefix(pg.Code, classConnectionError)
	}
	var (
		connect *pgconn.ConnectError
		network net.Error
	)
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, puddle.ErrClosedPool)
}
