// Package httpapi serves the REST API: openapi.yaml is the contract, api.gen.go
// follows from it, and there is one file for each resource.
//
// A handler checks what the contract cannot, asks a store or starts a workflow,
// and answers in the contract's types. It knows neither SQL nor Temporal: what
// it needs is named here as small interfaces, and cmd/ fills them in.
package httpapi
