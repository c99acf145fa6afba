package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// drainTimeout is how long a role goes on serving what it has begun once it was
// told to stop: what a load balancer's connection draining allows.
const drainTimeout = 60 * time.Second

// serve answers requests until ctx ends, then drains: drain is told first, so
// that load balancers look elsewhere, and what is under way may finish.
func serve(ctx context.Context, address string, handler http.Handler, log *zap.Logger, drain func(context.Context)) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s (the flag --listen changes it): %w", address, err)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          zap.NewStdLog(log),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		log.Info("serving", zap.String("address", listener.Addr().String()))
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		log.Info("draining")
		drain(ctx)
		return server.Shutdown(ctx)
	})
	return group.Wait()
}
