package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	livestream "github.com/livestream-pro/livestream-pro"
)

// refusals are the constraints whose breach is an answer to a client.
var refusals = map[string]*livestream.Error{
	"users_username":                 livestream.Errorf(livestream.CodeUsernameTaken, "this username is taken"),
	"users_email":                    livestream.Errorf(livestream.CodeEmailTaken, "there is an account with this e-mail address"),
	"follows_not_self":               livestream.Errorf(livestream.CodeCannotFollowSelf, "you cannot follow yourself"),
	"streams_one_active":             livestream.Errorf(livestream.CodeAlreadyStreaming, "you have a live stream already; end it first"),
	"archives_stream_id":             livestream.Errorf(livestream.CodeRecordingExists, "this stream has its recording already"),
	"transactions_not_self":          livestream.Errorf(livestream.CodeCannotTipSelf, "you cannot tip yourself"),
	"follows_following_id_fkey":      errUserNotFound,
	"follows_follower_id_fkey":       errUserNotFound,
	"streams_user_id_fkey":           errUserNotFound,
	"notifications_user_id_fkey":     errUserNotFound,
	"transactions_recipient_id_fkey": errUserNotFound,
	"transactions_sender_id_fkey":    errUserNotFound,
	"transactions_stream_id_fkey":    errStreamNotFound,
}

var (
	errUserNotFound        = livestream.Errorf(livestream.CodeUserNotFound, "there is no such user")
	errStreamNotFound      = livestream.Errorf(livestream.CodeStreamNotFound, "there is no such stream")
	errArchiveNotFound     = livestream.Errorf(livestream.CodeArchiveNotFound, "there is no such archive")
	errUploadNotFound      = livestream.Errorf(livestream.CodeUploadNotFound, "there is no such upload")
	errTransactionNotFound = livestream.Errorf(livestream.CodeTransactionNotFound, "there is no such transaction")
)

// edge turns an error of the driver into the domain's, on the way out.
func edge(what string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*livestream.Error)(nil); errors.As(err, &e) {
		return err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if refusal, ok := refusals[pg.ConstraintName]; ok {
			return refusal
		}
		// Shutting down, starting up, out of connections, read-only after a failover.
		switch pg.Code {
		case "57P01", "57P02", "57P03", "53300", "25006":
			return livestream.Unavailable("the database", fmt.Errorf("%s: %w", what, err))
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	var (
		connect *pgconn.ConnectError
		network net.Error
	)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", what, err)
	}
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) {
		return livestream.Unavailable("the database", fmt.Errorf("%s: %w", what, err))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// orNotFound says which thing is missing when there is no row.
func orNotFound(err error, missing *livestream.Error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return missing
	}
	return err
}
