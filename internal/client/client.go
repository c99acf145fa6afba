// Package client is a small client of the API, for the demo, the benchmarks and
// the end-to-end tests. It knows the protocol, not the resources.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Client talks to one API as one member, or as nobody.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New makes a client of the API at that address.
func New(base string) *Client {
	return &Client{base: base, http: &http.Client{Timeout: 30 * time.Second}}
}

// At is the same client of another process of the API.
func (c *Client) At(base string) *Client {
	at := *c
	at.base = base
	return &at
}

// WithToken is the same client with an access token.
func (c *Client) WithToken(token string) *Client {
	with := *c
	with.token = token
	return &with
}

// WithTransport is the same client over another transport.
func (c *Client) WithTransport(transport http.RoundTripper) *Client {
	with := *c
	with.http = &http.Client{Timeout: c.http.Timeout, Transport: transport}
	return &with
}

// Problem is an error that the API answered.
type Problem struct {
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Detail     string `json:"detail"`
	RequestID  string `json:"request_id"`
	RetryAfter string `json:"-"`
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s (request %s)", p.Status, p.Code, p.Detail, p.RequestID)
}

// Do sends in as JSON, when it is not nil, and reads the answer into out, when it
// is not nil. headers are names and values in turn. An answer of 400 and above is
// a *Problem.
func (c *Client) Do(ctx context.Context, method, path string, in, out any, headers ...string) error {
	var body io.Reader
	if in != nil {
		content, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		problem := &Problem{Status: response.StatusCode, RetryAfter: response.Header.Get("Retry-After")}
		if err := json.Unmarshal(content, problem); err != nil {
			problem.Detail = string(content[:min(len(content), 200)])
		}
		return fmt.Errorf("%s %s: %w", method, path, problem)
	}
	if out == nil || len(content) == 0 {
		return nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}
