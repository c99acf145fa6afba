package devstack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Ports are where the components listen, on the loopback address. A stack for
// tests takes free ones instead.
type Ports struct {
	API        int `name:"api-port" env:"API_PORT" default:"8080" help:"Port of the API."`
	Chat       int `name:"chat-port" env:"CHAT_PORT" default:"8081" help:"Port of the first chat node; the others follow."`
	Temporal   int `name:"temporal-port" env:"TEMPORAL_PORT" default:"7233" help:"Port of Temporal."`
	TemporalUI int `name:"temporal-ui-port" env:"TEMPORAL_UI_PORT" default:"8233" help:"Port of Temporal's UI."`
	Postgres   int `name:"postgres-port" env:"POSTGRES_PORT" default:"5433" help:"Port of the Postgres primary; its replicas follow."`
	Redis      int `name:"redis-port" env:"REDIS_PORT" default:"6380" help:"Port of Redis."`
	S3         int `name:"s3-port" env:"S3_PORT" default:"7070" help:"Port of the S3 gateway."`
	Stripe     int `name:"stripe-port" env:"STRIPE_PORT" default:"12111" help:"Port of the Stripe simulator."`
	Worker     int `name:"worker-port" env:"WORKER_PORT" default:"9101" help:"Port of the worker's health; the transcoder's follows."`
}

// plan is the port of each process.
type plan struct {
	api, temporal, temporalUI, postgres, redis, s3, stripe, worker, transcode int
	chat, replicas                                                            []int
}

// claim makes sure that all ports are free before anything starts, so that one
// that is taken is told at once.
func claim(ctx context.Context, o Options) (plan, error) {
	var p plan
	claims := []struct {
		to       *int
		want     int
		what     string
		variable string
	}{
		{&p.postgres, o.Ports.Postgres, "Postgres", "POSTGRES_PORT"},
		{&p.redis, o.Ports.Redis, "Redis", "REDIS_PORT"},
		{&p.temporal, o.Ports.Temporal, "Temporal", "TEMPORAL_PORT"},
		{&p.temporalUI, o.Ports.TemporalUI, "Temporal's UI", "TEMPORAL_UI_PORT"},
		{&p.s3, o.Ports.S3, "the S3 gateway", "S3_PORT"},
		{&p.stripe, o.Ports.Stripe, "the Stripe simulator", "STRIPE_PORT"},
		{&p.api, o.Ports.API, "the API", "API_PORT"},
		{&p.worker, o.Ports.Worker, "the worker", "WORKER_PORT"},
		{&p.transcode, o.Ports.Worker + 1, "the transcoder", "WORKER_PORT"},
	}
	p.replicas, p.chat = make([]int, o.Replicas), make([]int, o.ChatNodes)
	for i := range p.replicas {
		claims = append(claims, claims[0])
		claims[len(claims)-1].to, claims[len(claims)-1].want = &p.replicas[i], o.Ports.Postgres+1+i
	}
	for i := range p.chat {
		claims = append(claims, claims[0])
		last := &claims[len(claims)-1]
		last.to, last.want, last.what, last.variable = &p.chat[i], o.Ports.Chat+i, "chat", "CHAT_PORT"
	}
	// All are held until the last one is there, so that none is given out twice.
	for _, c := range claims {
		listener, err := listen(ctx, o.Test, c.want)
		if errors.Is(err, syscall.EADDRINUSE) {
			return p, fmt.Errorf("port %d, for %s, is taken; stop what listens there, or choose another one in the environment: %s=%d", c.want, c.what, c.variable, c.want+1000)
		}
		if err != nil {
			return p, fmt.Errorf("port %d, for %s: %w; choose another one with %s", c.want, c.what, err, c.variable)
		}
		defer listener.Close()
		*c.to = listener.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

func listen(ctx context.Context, anywhere bool, port int) (net.Listener, error) {
	if anywhere {
		return listenAnywhere(ctx)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", address(port))
}

// Free ports are looked for below those that systems give to outgoing
// connections, one of which could take a port before its server does.
const (
	firstFreePort = 20000
	lastFreePort  = 32000
)

func listenAnywhere(ctx context.Context) (listener net.Listener, err error) {
	for range 100 {
		if listener, err = listen(ctx, false, firstFreePort+rand.IntN(lastFreePort-firstFreePort)); err == nil {
			return listener, nil
		}
	}
	return nil, err
}

// FreeAddress is a loopback address that nobody listens on now.
func FreeAddress(ctx context.Context) (string, error) {
	port, err := freePort(ctx)
	return address(port), err
}

func freePort(ctx context.Context) (int, error) {
	listener, err := listenAnywhere(ctx)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
