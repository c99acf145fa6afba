// Command livestream is the product: one binary, one role a process.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	API     apiCmd     `cmd:"" name:"api" help:"Serve the REST API."`
	Chat    chatCmd    `cmd:"" help:"Serve the WebSockets: chat and notifications."`
	Worker  workerCmd  `cmd:"" help:"Run workflows and activities."`
	Migrate migrateCmd `cmd:"" help:"Bring the database's schema up to date."`
	Admin   adminCmd   `cmd:"" help:"Manage administrators."`
	Tiers   tiersCmd   `cmd:"" help:"Print which archives the next run would move to another storage class, and what that saves."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	parsed := kong.Parse(&c,
		kong.Name("livestream"),
		kong.Description("LiveStream Pro: the live streaming backend. Each flag can also be given by the environment variable beside it."),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "livestream:", err)
		os.Exit(1)
	}
}
