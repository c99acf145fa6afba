package devstack

import (
	"fmt"
	"net"
	"strconv"
)

// Ports are where the components listen, on the loopback address; 0 is any free
// one.
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

// take makes sure that a port is free, or finds a free one for 0. variable is
// what changes it.
func take(port int, what, variable string) (int, error) {
	listener, err := net.Listen("tcp", address(port))
	if err != nil {
		return 0, fmt.Errorf("port %d, for %s, is taken; stop what listens there, or choose another one with %s", port, what, variable)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// FreeAddress is a loopback address that nobody listens on now.
func FreeAddress() (string, error) {
	port, err := take(0, "a test", "")
	return address(port), err
}

// DefaultPorts are those of make dev, changed by the same variables.
func DefaultPorts() Ports {
	p := Ports{
		API: 8080, Chat: 8081, Temporal: 7233, TemporalUI: 8233, Postgres: 5433, Redis: 6380, S3: 7070, Stripe: 12111, Worker: 9101,
	}
	return p
}
