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

// Migrate brings the schema up to date and tells of each step. Several at once
// are safe: a lock in the database lets one of them work.
func Migrate(ctx context.Context, url string, log func(string)) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return errors.New("migrate: the URL cannot be read; it looks like postgres://user:password@host:5432/database")
	}
	var db *sql.DB = stdlib.OpenDB(*config)
	defer db.Close()
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, folder, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	results, err := provider.Up(ctx)
	for _, result := range results {
		log(result.String())
	}
	return edge("migrate", err)
}
