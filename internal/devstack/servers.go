package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"gopkg.in/yaml.v3"
)

// redis starts Redis. It appends each write to its file before it answers, so that
// what it acknowledged survives its SIGKILL; a machine that loses power may lose
// the last second, because the file is synced once a second.
func (s *Stack) redis(ctx context.Context) error {
	dir := filepath.Join(s.options.Dir, "redis")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the folder of Redis: %w", err)
	}
	args := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(s.ports.redis), "--dir", dir, "--databases", "4096", "--save", ""}
	if !s.options.Test {
		args = append(args, "--appendonly", "yes")
	}
	path, err := redisProgram(ctx)
	if err != nil {
		return err
	}
	p := &Process{Name: "redis", Path: path, Args: args, Dir: s.options.Dir}
	s.Env.RedisURL = "redis://" + address(s.ports.redis) + "/0"
	c := redis.NewClient(&redis.Options{Addr: address(s.ports.redis), MaxRetries: -1})
	defer func() { _ = c.Close() }()
	return s.launch(ctx, p, 20*time.Second, func(ctx context.Context) error { return c.Ping(ctx).Err() })
}

// TemporalConfig is temporal-dev.yaml: the development Temporal.
type TemporalConfig struct {
	Namespace        string            `yaml:"namespace"`
	SearchAttributes map[string]string `yaml:"search_attributes"`
	DynamicConfig    map[string]any    `yaml:"dynamic_config"`
	// TestDynamicConfig is added by a stack for tests.
	TestDynamicConfig map[string]any `yaml:"test_dynamic_config"`
}

// LoadTemporalConfig reads temporal-dev.yaml in the project's folder.
func LoadTemporalConfig(root string) (TemporalConfig, error) {
	var c TemporalConfig
	content, err := os.ReadFile(filepath.Join(root, "temporal-dev.yaml"))
	if err != nil {
		return c, fmt.Errorf("read the development Temporal's configuration: %w", err)
	}
	if err := yaml.Unmarshal(content, &c); err != nil {
		return c, fmt.Errorf("temporal-dev.yaml: %w", err)
	}
	if c.Namespace == "" {
		return c, errors.New("temporal-dev.yaml: namespace is missing")
	}
	return c, nil
}

// Temporal is a development server that can be killed and started again on the
// same data and port.
type Temporal struct {
	*Process
	Address   string
	Namespace string
}

// NewTemporal prepares a server; uiPort 0 leaves the UI out.
func NewTemporal(cli, dir string, config TemporalConfig, port, uiPort int) *Temporal {
	args := []string{
		"server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(port), "--namespace", config.Namespace,
		"--db-filename", filepath.Join(dir, "temporal.db"), "--log-level", "warn",
		// A commit does not wait for the disk: a payment is dozens of them. What is killed
		// loses nothing by it; a machine that loses its power may lose the last ones.
		"--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal",
	}
	if uiPort == 0 {
		args = append(args, "--headless")
	} else {
		args = append(args, "--ui-port", strconv.Itoa(uiPort), "--ui-ip", "127.0.0.1")
	}
	for name, kind := range config.SearchAttributes {
		args = append(args, "--search-attribute", name+"="+kind)
	}
	for key, value := range config.DynamicConfig {
		args = append(args, "--dynamic-config-value", fmt.Sprintf("%s=%v", key, value))
	}
	return &Temporal{
		Process:   &Process{Name: "temporal", Path: cli, Args: args, Dir: dir, StopSignal: syscall.SIGINT},
		Address:   address(port),
		Namespace: config.Namespace,
	}
}

// Launch starts the server and waits until it answers in its namespace.
func (t *Temporal) Launch(ctx context.Context) error {
	if err := t.Start(); err != nil {
		return err
	}
	return t.await(ctx, temporalLimit, t.ready)
}

// temporalLimit is how long Temporal may take to start.
const temporalLimit = 60 * time.Second

func (t *Temporal) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{HostPort: t.Address, Namespace: t.Namespace, Logger: silent})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.DescribeTaskQueue(ctx, "ready", enums.TASK_QUEUE_TYPE_WORKFLOW)
	return err
}

// silent is for a client whose errors are looked at.
var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// temporal starts Temporal, with its UI but for tests.
func (s *Stack) temporal(ctx context.Context) error {
	config, err := LoadTemporalConfig(s.options.Root)
	if err != nil {
		return err
	}
	// One that the developer has is used as it is.
	if s.Env.TemporalCLI, err = exec.LookPath("temporal"); err != nil {
		if s.Env.TemporalCLI, err = s.tool(ctx, "temporal"); err != nil {
			return err
		}
	}
	uiPort := 0
	if !s.options.Test {
		uiPort = s.ports.temporalUI
		s.Env.TemporalUIURL = "http://" + address(uiPort)
	} else {
		maps.Copy(config.DynamicConfig, config.TestDynamicConfig)
	}
	t := NewTemporal(s.Env.TemporalCLI, s.options.Dir, config, s.ports.temporal, uiPort)
	s.Env.TemporalAddress, s.Env.TemporalNamespace = t.Address, t.Namespace
	return s.launch(ctx, t.Process, temporalLimit, t.ready)
}

// s3 starts the S3 gateway over a folder, in which a folder is a bucket.
func (s *Stack) s3(ctx context.Context) error {
	path, err := s.tool(ctx, "versitygw")
	if err != nil {
		return err
	}
	s.Env.S3Dir = filepath.Join(s.options.Dir, "s3")
	s.Env.S3Endpoint = "http://" + address(s.ports.s3)
	s.Env.S3Bucket, s.Env.S3AccessKey, s.Env.S3SecretKey = "livestream", "livestream", "livestream-secret"
	if err := os.MkdirAll(filepath.Join(s.Env.S3Dir, s.Env.S3Bucket), 0o755); err != nil {
		return fmt.Errorf("the bucket's folder: %w", err)
	}
	args := []string{"--port", address(s.ports.s3), "--health", "/health", "--quiet", "posix"}
	if !keepsAttributes(s.Env.S3Dir) {
		// The file system keeps no attributes, so they go into files of their own.
		sidecar := filepath.Join(s.options.Dir, "s3-attributes")
		if err := os.MkdirAll(sidecar, 0o755); err != nil {
			return fmt.Errorf("the attributes' folder: %w", err)
		}
		args = append(args, "--sidecar", sidecar)
	}
	p := &Process{
		Name: "s3", Path: path, Args: append(args, s.Env.S3Dir), Dir: s.options.Dir,
		Env: []string{"ROOT_ACCESS_KEY=" + s.Env.S3AccessKey, "ROOT_SECRET_KEY=" + s.Env.S3SecretKey},
	}
	return s.launch(ctx, p, 20*time.Second, healthy(s.Env.S3Endpoint+"/health"))
}

// stripe starts the Stripe simulator, which is a command of this very program.
func (s *Stack) stripe(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	s.Env.StripeAPIBase = "http://" + address(s.ports.stripe)
	p := &Process{Name: "stripesim", Path: self, Dir: s.options.Dir, Args: []string{
		"stripesim", "--listen", address(s.ports.stripe), "--webhook-url", s.Env.APIURL + "/api/webhooks/stripe",
		"--webhook-secret", s.Env.StripeWebhookSecret, "--journal", filepath.Join(s.options.Dir, "stripesim.jsonl"),
	}}
	return s.launch(ctx, p, 20*time.Second, healthy(s.Env.StripeAPIBase+"/health"))
}

// stripeMock starts Stripe's own mock, which checks requests against the description
// of the API: of the version that our client speaks, and of no other.
func (s *Stack) stripeMock(ctx context.Context) error {
	path, err := s.tool(ctx, "stripe-mock")
	if err != nil {
		return err
	}
	s.Env.StripeMock = "http://" + address(s.ports.stripe)
	p := &Process{Name: "stripe-mock", Path: path, Dir: s.options.Dir, Args: []string{
		"-http-addr", address(s.ports.stripe),
		"-https-addr", "127.0.0.1:0", // any port: by itself it takes a fixed one, which only one stack could have
		"-strict-version-check",
	}}
	return s.launch(ctx, p, 20*time.Second, func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", address(s.ports.stripe))
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

// healthy asks an address and wants 200.
func healthy(url string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection can be used again
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}
