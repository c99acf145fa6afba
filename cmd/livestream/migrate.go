package main

import (
	"context"
	"fmt"
	"os"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

type migrateCmd struct {
	URL string `name:"database-url" env:"DATABASE_URL" required:"" help:"Postgres primary, as a URL."`
}

// Run brings the schema up to date; it may run in several processes at once.
func (c *migrateCmd) Run(ctx context.Context) error {
	return postgres.Migrate(ctx, c.URL, func(line string) { fmt.Fprintln(os.Stderr, line) })
}

type adminCmd struct {
	Grant grantCmd `cmd:"" help:"Make a member an administrator."`
}

type grantCmd struct {
	Username string `arg:"" help:"The member's username."`

	config.Postgres
}

// Run makes the member an administrator.
func (c *grantCmd) Run(ctx context.Context) error {
	db, err := postgres.Open(ctx, postgresConfig(c.Postgres))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := postgres.NewUsers(db).SetRole(ctx, c.Username, livestream.RoleAdmin); err != nil {
		return err
	}
	fmt.Printf("%s is an administrator; it takes effect at their next login or refresh\n", c.Username)
	return nil
}
