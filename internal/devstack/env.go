package devstack

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// TestVariable names, for tests, the file that describes their stack.
const TestVariable = "LIVESTREAM_STACK"

// Env is what a script or a test needs to know of a running stack: the content of
// the file env in its folder, as shell assignments.
type Env struct {
	APIURL              string
	ChatURLs            []string
	TemporalAddress     string
	TemporalNamespace   string
	TemporalUIURL       string
	DatabaseURL         string
	DatabaseReplicaURLs []string
	RedisURL            string
	S3Endpoint          string
	S3Bucket            string
	S3AccessKey         string
	S3SecretKey         string
	StripeAPIBase       string
	StripeSecretKey     string
	StripeWebhookSecret string
	StripeMock          string // of a stack for tests
	JWTKeyFile          string
	VAPIDKeyFile        string
	Binary              string // the product's
	TemporalCLI         string
	S3Dir               string // where buckets are folders
	Dir                 string // the stack's
}

func (e *Env) fields() []struct {
	name string
	one  *string
	many *[]string
} {
	type field = struct {
		name string
		one  *string
		many *[]string
	}
	return []field{
		{"API_URL", &e.APIURL, nil},
		{"CHAT_URLS", nil, &e.ChatURLs},
		{"TEMPORAL_ADDRESS", &e.TemporalAddress, nil},
		{"TEMPORAL_NAMESPACE", &e.TemporalNamespace, nil},
		{"TEMPORAL_UI_URL", &e.TemporalUIURL, nil},
		{"DATABASE_URL", &e.DatabaseURL, nil},
		{"DATABASE_REPLICA_URLS", nil, &e.DatabaseReplicaURLs},
		{"REDIS_URL", &e.RedisURL, nil},
		{"S3_ENDPOINT", &e.S3Endpoint, nil},
		{"S3_BUCKET", &e.S3Bucket, nil},
		{"AWS_ACCESS_KEY_ID", &e.S3AccessKey, nil},
		{"AWS_SECRET_ACCESS_KEY", &e.S3SecretKey, nil},
		{"STRIPE_API_BASE", &e.StripeAPIBase, nil},
		{"STRIPE_SECRET_KEY", &e.StripeSecretKey, nil},
		{"STRIPE_WEBHOOK_SECRET", &e.StripeWebhookSecret, nil},
		{"STRIPE_MOCK", &e.StripeMock, nil},
		{"JWT_PRIVATE_KEY_FILE", &e.JWTKeyFile, nil},
		{"VAPID_PRIVATE_KEY_FILE", &e.VAPIDKeyFile, nil},
		{"LIVESTREAM_BIN", &e.Binary, nil},
		{"TEMPORAL_CLI", &e.TemporalCLI, nil},
		{"S3_DIR", &e.S3Dir, nil},
		{"DEVSTACK_DIR", &e.Dir, nil},
	}
}

// Variables are the assignments, as a process gets them. PUBLIC_URL is the name
// under which the product itself knows API_URL.
func (e Env) Variables() []string {
	var vars []string
	for _, f := range e.fields() {
		var value string
		if f.one != nil {
			value = *f.one
		} else {
			value = strings.Join(*f.many, " ")
		}
		vars = append(vars, f.name+"="+value)
	}
	return append(vars, "PUBLIC_URL="+e.APIURL)
}

// Write writes the file, readable by its owner alone: it holds secrets.
func (e Env) Write(file string) error {
	var b strings.Builder
	for _, v := range e.Variables() {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&b, "%s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	return os.WriteFile(file, []byte(b.String()), 0o600)
}

// LoadEnv reads a file that Write wrote.
func LoadEnv(file string) (Env, error) {
	var e Env
	f, err := os.Open(file)
	if err != nil {
		return e, fmt.Errorf("read the stack's environment: %w", err)
	}
	defer f.Close()
	values := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'")
		values[name] = strings.ReplaceAll(value, `'\''`, "'")
	}
	if err := lines.Err(); err != nil {
		return e, fmt.Errorf("read the stack's environment: %w", err)
	}
	for _, f := range e.fields() {
		if f.one != nil {
			*f.one = values[f.name]
		} else {
			*f.many = strings.Fields(values[f.name])
		}
	}
	return e, nil
}

// WorkflowURL is where Temporal's UI shows a workflow.
func WorkflowURL(e Env, workflowID string) string {
	return e.TemporalUIURL + "/namespaces/" + e.TemporalNamespace + "/workflows/" + url.PathEscape(workflowID)
}
