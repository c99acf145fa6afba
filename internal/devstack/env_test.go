package devstack

import (
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/config"
)

func TestTheEnvironmentIsReadBack(t *testing.T) {
	t.Parallel()
	want := Env{
		APIURL: "http://127.0.0.1:8080", ChatURLs: []string{"ws://127.0.0.1:8081", "ws://127.0.0.1:8082"},
		TemporalNamespace: "livestream", DatabaseURL: "postgres://livestream@127.0.0.1:5433/livestream?sslmode=disable",
		S3SecretKey: `it's $HOME "quoted" \ and more`, Dir: "/a folder/.devstack",
	}
	file := filepath.Join(t.TempDir(), "env")
	require.NoError(t, want.Write(file))
	got, err := LoadEnv(file)
	require.NoError(t, err)
	want.DatabaseReplicaURLs = []string{}
	require.Equal(t, want, got)

	// A script reads it too.
	out, err := exec.Command("sh", "-c", `. "$1"; printf '%s|' "$AWS_SECRET_ACCESS_KEY" $CHAT_URLS "$DEVSTACK_DIR"`, "sh", file).Output()
	require.NoError(t, err)
	require.Equal(t, want.S3SecretKey+"|ws://127.0.0.1:8081|ws://127.0.0.1:8082|/a folder/.devstack|", string(out))

	_, err = LoadEnv(filepath.Join(t.TempDir(), "none"))
	require.Error(t, err)
}

func TestTheEnvironmentHasTheNamesThatScriptsUse(t *testing.T) {
	t.Parallel()
	names := variableNames(Env{}.Variables())
	for _, name := range strings.Fields(`API_URL CHAT_URLS TEMPORAL_ADDRESS TEMPORAL_NAMESPACE TEMPORAL_UI_URL DATABASE_URL
		DATABASE_REPLICA_URLS REDIS_URL S3_ENDPOINT S3_BUCKET STRIPE_API_BASE STRIPE_WEBHOOK_SECRET`) {
		require.Contains(t, names, name)
	}
}

func TestTheEnvironmentHasAllThatRolesRequire(t *testing.T) {
	t.Parallel()
	names := variableNames(Env{}.Variables())
	for name, required := range productVariables() {
		if required {
			require.Contains(t, names, name)
		}
	}
}

func variableNames(variables []string) []string {
	var names []string
	for _, v := range variables {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
	}
	return names
}

// productVariables are the names that the product reads, and whether it must have
// them.
func productVariables() map[string]bool {
	variables := map[string]bool{"AWS_ACCESS_KEY_ID": true, "AWS_SECRET_ACCESS_KEY": true} // the SDK reads them
	for _, group := range []any{
		config.Log{}, config.Listen{}, config.Postgres{}, config.Redis{}, config.Temporal{}, config.S3{}, config.Stripe{}, config.StripeWebhooks{},
		config.Public{}, config.Tokens{}, config.Limits{}, config.Tracing{}, config.Requests{}, config.PushKeys{}, config.PushEndpoints{}, config.Pushing{},
	} {
		for i := range reflect.TypeOf(group).NumField() {
			tag := reflect.TypeOf(group).Field(i).Tag
			_, required := tag.Lookup("required")
			variables[tag.Get("env")] = required
		}
	}
	return variables
}
