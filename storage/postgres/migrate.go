package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// How long one migrating process waits for another: a try each second.
const (
	lockPeriodSeconds = 1
	lockTries         = 300
)

// Migrate brings the schema up to date and tells log, which may be nil, of each
// step. Several processes may do it at once. The URL must be the server's own:
// the lock that keeps them apart belongs to a session, which PgBouncer in
// transaction mode does not keep.
func Migrate(ctx context.Context, url string, log func(string)) (err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := migrate(ctx, db, log); err != nil {
		return fail(ctx, "migrate", err)
	}
	return nil
}

func migrate(ctx context.Context, db *sql.DB, log func(string)) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPeriodSeconds, lockTries))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	done, err := provider.Up(ctx)
	if log != nil {
		for _, step := range done {
			log(step.String())
		}
	}
	return err
}
