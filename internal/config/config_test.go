package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/config"
)

// The help says that each flag can also be given by the environment variable
// beside it, and `--help` is all that an operator may have at hand.
func TestEachFlagHasAVariableAndHelp(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, 0)
	require.NoError(t, err)
	flags, variables := map[string]bool{}, map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		group, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range group.Fields.List {
			name := field.Names[0].Name
			require.NotNil(t, field.Tag, name)
			text, err := strconv.Unquote(field.Tag.Value)
			require.NoError(t, err)
			tag := reflect.StructTag(text)
			flag, variable, help := tag.Get("name"), tag.Get("env"), tag.Get("help")
			require.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)*$`, flag, name)
			require.Regexp(t, `^[A-Z0-9]+(_[A-Z0-9]+)*$`, variable, flag)
			require.Regexp(t, `^\p{Lu}?.+\.$|^normal, .+\.$`, help, flag)
			require.False(t, flags[flag], "two flags %s", flag)
			require.False(t, variables[variable], "two variables %s", variable)
			flags[flag], variables[variable] = true, true

			_, required := tag.Lookup("required")
			_, hasDefault := tag.Lookup("default")
			require.False(t, required && hasDefault, "%s is required, and its default never counts", flag)
			if _, list := field.Type.(*ast.ArrayType); list {
				require.Equal(t, " ", tag.Get("sep"), flag)
				require.Contains(t, help, "separated by blanks", flag)
			}
			for _, choice := range strings.FieldsFunc(tag.Get("enum"), func(r rune) bool { return r == ',' }) {
				require.Contains(t, help, choice, flag)
			}
		}
		return true
	})
	require.GreaterOrEqual(t, len(flags), 28)
}

// everything is all groups in one command line.
type everything struct {
	config.Log
	config.Listen
	config.Postgres
	config.Redis
	config.Temporal
	config.S3
	config.Stripe
	config.StripeWebhooks
	config.Public
	config.Tokens
	config.Limits
}

// parse reads a command line as a role does; args come before what is required.
func parse(tb testing.TB, args ...string) everything {
	tb.Helper()
	var c everything
	k, err := kong.New(&c)
	require.NoError(tb, err)
	_, err = k.Parse(append(args, "--database-url=postgres://db/x", "--redis-url=redis://cache", "--s3-bucket=b", "--stripe-secret-key=sk_test_x", "--jwt-private-key-file=/key.pem"))
	require.NoError(tb, err)
	return c
}

// The pools' sizes and the timeout of a call to Stripe are requirements (S4, S5).
func TestDefaults(t *testing.T) {
	t.Parallel()
	c := parse(t, "--stripe-webhook-secret=whsec")
	require.Equal(t, int32(10), c.MaxConns)
	require.Equal(t, 30*time.Second, c.Connect)
	require.Equal(t, 10*time.Minute, c.Postgres.Idle)
	require.Equal(t, 50, c.Active)
	require.Equal(t, 20, c.Redis.Idle)
	require.Equal(t, 5*time.Minute, c.Lifetime)
	require.Equal(t, 5*time.Second, c.Stripe.Timeout)
	require.InDelta(t, 0.1, c.BreakerRate, 0)
	require.Less(t, c.CallsPerSecond*5/4, 101, "Stripe's limit is 100 in a second")
}

func TestListsAreSeparatedByBlanks(t *testing.T) {
	t.Parallel()
	c := parse(t, "--stripe-webhook-secret=whsec_new whsec_old", "--database-replica-urls=postgres://r1/x?a=1,2 postgres://r2/x",
		"--chat-urls=ws://a ws://b", "--allowed-origins=https://example.com")
	require.Equal(t, []string{"whsec_new", "whsec_old"}, c.WebhookSecrets)
	require.Equal(t, []string{"postgres://r1/x?a=1,2", "postgres://r2/x"}, c.ReplicaURLs)
	require.Equal(t, []string{"ws://a", "ws://b"}, c.ChatURLs)
	require.Equal(t, []string{"https://example.com"}, c.Origins)
}

func TestValuesOutOfRangeAreRefused(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"--log-level=loud", "--limits=none", "--database-max-conns=ten", "--stripe-timeout=5"} {
		k, err := kong.New(&everything{})
		require.NoError(t, err)
		_, err = k.Parse([]string{arg})
		require.ErrorContains(t, err, strings.Split(arg, "=")[0])
	}
}
