package devstack

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// TemplateDatabase is a migrated database of a test stack, which others are made
// of.
const TemplateDatabase = "livestream_template"

// createDatabase makes a database when there is none of that name.
func createDatabase(ctx context.Context, url, name string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}
