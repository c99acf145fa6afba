// Package contracttest holds each response that a test gets against the contract.
package contracttest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/httpapi"
)

// Transport passes requests on, and fails the test when an answer is not what
// openapi.yaml says. Media and documents are no part of it.
func Transport(tb testing.TB) http.RoundTripper {
	tb.Helper()
	contract, err := httpapi.LoadContract()
	require.NoError(tb, err)
	router, err := gorillamux.NewRouter(contract)
	require.NoError(tb, err)
	return &transport{tb: tb, router: router}
}

type transport struct {
	tb     testing.TB
	router routers.Router
}

func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	// OPTIONS is a browser's question, not a client's; HEAD has nothing to hold against
	// the contract; and / leads to the documents.
	if request.Method == http.MethodOptions || request.Method == http.MethodHead || request.URL.Path == "/" {
		return response, nil
	}
	for _, prefix := range []string{"/media/", "/docs", "/openapi.yaml", "/metrics"} {
		if strings.HasPrefix(request.URL.Path, prefix) {
			return response, nil
		}
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	t.check(request, response, body)
	return response, nil
}

func (t *transport) check(request *http.Request, response *http.Response, body []byte) {
	t.tb.Helper()
	route, params, err := t.router.FindRoute(request)
	if err != nil {
		// What the contract does not have is answered with a problem too.
		if response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusMethodNotAllowed {
			t.tb.Errorf("%s %s: %v, and yet the answer is %d", request.Method, request.URL.Path, err, response.StatusCode)
		}
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route},
		Status:                 response.StatusCode, Header: response.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(request.Context(), input); err != nil {
		t.tb.Errorf("%s %s answers %d against the contract: %v\n%s", request.Method, request.URL.Path, response.StatusCode, err, body)
	}
}
