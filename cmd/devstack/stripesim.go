package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/livestream-pro/livestream-pro/internal/stripesim"
)

type stripesimCmd struct {
	Listen        string `default:"127.0.0.1:12111" help:"Address to serve on."`
	WebhookURL    string `name:"webhook-url" help:"Where events go."`
	WebhookSecret string `name:"webhook-secret" default:"whsec_devstack" help:"What signs events."`
	Journal       string `type:"path" help:"File that keeps the state across restarts."`
}

// Run serves the simulator until ctx ends.
func (c *stripesimCmd) Run(ctx context.Context) error {
	simulator, err := stripesim.New(stripesim.Config{WebhookURL: c.WebhookURL, WebhookSecret: c.WebhookSecret, Journal: c.Journal})
	if err != nil {
		return err
	}
	defer simulator.Close()
	server := &http.Server{Addr: c.Listen, Handler: simulator, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the Stripe simulator: %w", err)
	}
	return <-stopped
}
