// Command devstack is for development: it starts the real servers on this machine
// and the product on them. make calls it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Up            upCmd            `cmd:"" help:"Start everything and keep it running until Ctrl-C (make dev)."`
	Demo          demoCmd          `cmd:"" help:"Walk through the main job (make demo)."`
	Test          testCmd          `cmd:"" help:"Run a command beside a test stack on free ports (make test)."`
	Bench         benchCmd         `cmd:"" help:"Measure the start of a stream (make bench)."`
	BenchAPI      benchAPICmd      `cmd:"" name:"bench-api" help:"Measure the API on a big database (make bench-api)."`
	BenchStarts   benchStartsCmd   `cmd:"" name:"bench-starts" help:"Measure starts of streams with up to a million followers, under load (make bench-starts)."`
	BenchFanout   benchFanoutCmd   `cmd:"" name:"bench-fanout" help:"Measure how a million followers are told (make bench-fanout)."`
	Baseline      baselineCmd      `cmd:"" hidden:"" help:"Serve bytes from memory, for bench-api."`
	BenchChat     benchChatCmd     `cmd:"" name:"bench-chat" help:"Measure the chat with 50,000 viewers (make bench-chat)."`
	BenchArchive  benchArchiveCmd  `cmd:"" name:"bench-archive" help:"Measure the making of an archive (make bench-archive)."`
	BenchPayments benchPaymentsCmd `cmd:"" name:"bench-payments" help:"Measure payments, Stripe's events and an outage of Stripe (make bench-payments)."`
	Generator     generatorCmd     `cmd:"" name:"bench-chat-generator" hidden:"" help:"Be viewers, for bench-chat."`
	Melody        melodyCmd        `cmd:"" name:"bench-chat-melody" hidden:"" help:"Be the baseline, for bench-chat."`
	Stripesim     stripesimCmd     `cmd:"" help:"Run the Stripe simulator alone."`
}

func main() {
	// A terminal that is closed ends us as Ctrl-C does.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var c cli
	parsed := kong.Parse(&c,
		kong.Name("devstack"),
		kong.Description("Development tools of LiveStream Pro."),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	err := parsed.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() > 0 && parsed.Command() == "test <command>":
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "devstack:", err)
		os.Exit(1)
	}
}
