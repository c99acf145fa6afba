package livestream_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestCodeOf(t *testing.T) {
	t.Parallel()
	coded := livestream.Errorf(livestream.CodeStreamNotFound, "there is no stream %d", 5)
	for want, err := range map[livestream.Code]error{
		"":                            nil,
		livestream.CodeInternal:       errors.New("pq: relation does not exist"),
		livestream.CodeStreamNotFound: fmt.Errorf("read stream: %w", fmt.Errorf("again: %w", coded)),
		livestream.CodeUnavailable:    errors.Join(errors.New("dial"), livestream.Unavailable("the database", nil)),
	} {
		require.Equal(t, want, livestream.CodeOf(err))
	}
}

func TestErrorsKeepTheirCauseFromTheClient(t *testing.T) {
	t.Parallel()
	cause := errors.New("dial tcp 10.0.0.7:5432: connection refused")
	err := livestream.Unavailable("the database", cause)
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "10.0.0.7", "the log has it")
	require.NotContains(t, err.Message, "10.0.0.7", "the client does not")
	require.Equal(t, 2*time.Second, err.ComeBack())
	err.RetryAfter = time.Second
	require.Equal(t, time.Second, err.ComeBack(), "whoever is away knows better")
	require.Zero(t, livestream.Errorf(livestream.CodeForbidden, "no").ComeBack())
	require.EqualError(t, livestream.Errorf(livestream.CodeForbidden, "not %s", "yours"), "forbidden: not yours")

	refused := livestream.Invalid("title", "is longer than %d characters", 140)
	require.Equal(t, livestream.CodeInvalidRequest, refused.Code)
	require.Equal(t, []livestream.FieldError{{Field: "title", Message: "is longer than 140 characters"}}, refused.Fields)
	require.Equal(t, "title is longer than 140 characters", refused.Message)
}

// Clients tell errors apart by their codes, so that each has one of its own, in
// one style.
func TestCodesAreDistinct(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "error.go", nil, 0)
	require.NoError(t, err)
	seen := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		code, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, code)
		require.Empty(t, seen[code], "%s is %s too", spec.Names[0], code)
		seen[code] = spec.Names[0].Name
		return true
	})
	require.Equal(t, "CodeStreamNotFound", seen["stream_not_found"])
}
