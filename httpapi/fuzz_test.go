package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/httpapi"
)

var (
	fuzzRequests = flag.Int("requests", 4000, "requests that TestContractFuzz sends")
	fuzzSeed     = flag.Uint64("seed", 0, "seed of TestContractFuzz; 0 takes the time")
)

// TestContractFuzz sends requests that are made from the contract and then broken:
// whatever comes, the answer is no 5xx, and comes in time.
func TestContractFuzz(t *testing.T) {
	p := api(t)
	contract, err := httpapi.LoadContract()
	require.NoError(t, err)
	seed := *fuzzSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	ada := p.mustRegister(t)
	stream := ada.mustStart(nil)
	base := fuzzer{token: ada.token, ids: []string{ada.id, stream, uuid.NewString()}}
	for path, item := range contract.Paths.Map() {
		for method, operation := range item.Operations() {
			base.operations = append(base.operations, fuzzOperation{method, path, append(operation.Parameters, item.Parameters...), operation.RequestBody})
		}
	}
	sort.Slice(base.operations, func(i, j int) bool {
		a, b := base.operations[i], base.operations[j]
		return a.path+a.method < b.path+b.method
	})
	var (
		sending  sync.WaitGroup
		mu       sync.Mutex
		statuses = map[int]int{}
	)
	workers := 2 * runtime.GOMAXPROCS(0)
	for worker := range workers {
		sending.Add(1)
		go func() {
			defer sending.Done()
			f := base
			f.Rand = rand.New(rand.NewPCG(seed, uint64(worker)))
			for range *fuzzRequests / workers {
				request := f.request()
				recorder, began := httptest.NewRecorder(), time.Now()
				p.server.ServeHTTP(recorder, request)
				took := time.Since(began)
				mu.Lock()
				statuses[recorder.Code]++
				mu.Unlock()
				if recorder.Code >= http.StatusInternalServerError || took > 10*time.Second {
					t.Errorf("%s %s %v answers %d after %s: %s", request.Method, request.URL, request.Header, recorder.Code, took, recorder.Body)
					return
				}
				if recorder.Code >= http.StatusBadRequest && recorder.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s %s answers %d without a problem: %s", request.Method, request.URL, recorder.Code, recorder.Body)
					return
				}
			}
		}()
	}
	sending.Wait()
	t.Logf("statuses: %v", statuses)
	require.Greater(t, statuses[http.StatusBadRequest], *fuzzRequests/10, "little of it was broken")
	require.Greater(t, statuses[http.StatusOK], *fuzzRequests/50, "nearly all of it was broken")
}

type fuzzOperation struct {
	method, path string
	parameters   openapi3.Parameters
	body         *openapi3.RequestBodyRef
}

type fuzzer struct {
	*rand.Rand
	operations []fuzzOperation
	token      string
	ids        []string
}

func (f *fuzzer) one(texts ...string) string { return texts[f.IntN(len(texts))] }

func (f *fuzzer) hit(percent int) bool { return f.IntN(100) < percent }

func (f *fuzzer) request() *http.Request {
	operation := f.operations[f.IntN(len(f.operations))]
	path, query := operation.path, url.Values{}
	header := http.Header{"Content-Type": {"application/json"}}
	for _, ref := range operation.parameters {
		switch parameter := ref.Value; parameter.In {
		case "path":
			path = strings.ReplaceAll(path, "{"+parameter.Name+"}", url.PathEscape(f.text(parameter.Schema.Value, 15)))
		case "query":
			for range f.IntN(3) {
				query.Add(parameter.Name, f.text(parameter.Schema.Value, 30))
			}
		case "header":
			if f.hit(70) {
				header.Set(parameter.Name, f.text(parameter.Schema.Value, 20))
			}
		}
	}
	if f.hit(5) {
		query.Add(f.garbage(), f.garbage())
	}
	if f.hit(85) {
		header.Set("Authorization", "Bearer "+f.token)
	} else if f.hit(50) {
		header.Set("Authorization", f.garbage())
	}
	if f.hit(3) {
		header.Set("Content-Type", f.one("text/plain", "application/xml", "multipart/form-data", "application/json; charset=latin1", ";", ""))
	}
	for _, name := range []string{"X-Read-After", "X-Request-ID", "Origin", "X-Forwarded-For", "Range", "traceparent", "Content-Encoding"} {
		if f.hit(2) {
			header.Set(name, f.garbage())
		}
	}
	var body []byte
	if operation.body != nil || f.hit(5) {
		body = f.body(operation)
	}
	request := httptest.NewRequest(operation.method, "/", bytes.NewReader(body))
	request.URL.Path, _ = url.PathUnescape(path)
	request.URL.RawPath, request.URL.RawQuery = path, query.Encode()
	if f.hit(5) {
		request.URL.RawQuery += f.one("&", "&&=", "%zz", "&limit", "&cursor=%00", "&limit=1&limit=2", "&a[b]=c")
	}
	request.Header = header
	return request
}

// text is a parameter's value, mostly one that the schema takes.
func (f *fuzzer) text(schema *openapi3.Schema, broken int) string {
	if f.hit(broken) {
		return f.garbage()
	}
	switch v := f.value(schema, 0).(type) {
	case string:
		return v
	default:
		content, _ := json.Marshal(v)
		return string(content)
	}
}

func (f *fuzzer) garbage() string {
	return f.one("", " ", "null", "-1", "0", "99999999999999999999", "1e309", "true", "[]", "{}", "\x00", "\xff\xfe", "é", "👩‍👩‍👧", "\u202e", "a\r\nb: c",
		"../../etc/passwd", "%2e%2e%2f", "' OR 1=1 --", "<script>", strings.Repeat("x", 5000), uuid.NewString()+"0", "{"+uuid.NewString()+"}", "NaN")
}

func (f *fuzzer) body(operation fuzzOperation) []byte {
	if operation.body == nil {
		return []byte(f.one("", "{}", "x", "null"))
	}
	content, err := json.Marshal(f.value(operation.body.Value.Content.Get("application/json").Schema.Value, 0))
	if err != nil {
		return nil
	}
	switch {
	case f.hit(60):
		return content
	case f.hit(20):
		return content[:f.IntN(len(content)+1)]
	case f.hit(20):
		return append(content, f.garbage()...)
	case f.hit(20) && len(content) > 2:
		// A field twice, or one that nobody knows.
		return []byte(`{` + f.one(`"title":"x"`, `"a":1`, `"amount":1`, `"":null`) + "," + string(content[1:]))
	case f.hit(20):
		return []byte(strings.Repeat(f.one(`[`, `{"a":`), 1+f.IntN(20000)))
	case f.hit(20) && len(content) > 0:
		broken := bytes.Clone(content)
		broken[f.IntN(len(broken))] = byte(f.IntN(256))
		return broken
	}
	return []byte(f.garbage())
}

// value follows a schema, and now and then does not.
func (f *fuzzer) value(schema *openapi3.Schema, depth int) any {
	if depth > 0 && f.hit(6) {
		return f.wrong()
	}
	if len(schema.Enum) > 0 {
		return schema.Enum[f.IntN(len(schema.Enum))]
	}
	switch {
	case schema.Type.Is("object"):
		object := map[string]any{}
		for name, property := range schema.Properties {
			if required := slices.Contains(schema.Required, name); required && !f.hit(4) || !required && f.hit(50) {
				object[name] = f.value(property.Value, depth+1)
			}
		}
		return object
	case schema.Type.Is("array"):
		list := make([]any, f.IntN(4))
		for i := range list {
			list[i] = f.value(schema.Items.Value, depth+1)
		}
		return list
	case schema.Type.Is("integer"):
		low, high := 0.0, 1000.0
		if schema.Min != nil {
			low = *schema.Min
		}
		if schema.Max != nil {
			high = *schema.Max
		}
		return int64(low) + f.Int64N(max(1, int64(high-low)))
	case schema.Type.Is("boolean"):
		return f.hit(50)
	case schema.Format == "uuid":
		return f.one(f.ids...)
	}
	switch schema.Pattern {
	case "^[a-z]{3}$":
		return f.one("usd", "eur", "jpy", "xxx")
	case "^[A-Za-z0-9_]{3,30}$":
		return fmt.Sprintf("fuzz_%d", f.IntN(1_000_000_000))
	}
	if strings.Contains(schema.Pattern, "@") {
		return fmt.Sprintf("fuzz%d@example.com", f.IntN(1_000_000_000))
	}
	if strings.HasPrefix(schema.Pattern, "^(video") {
		return "video/mp4"
	}
	return f.one("x", "some text", "ünïcode ✓", "<b>bold</b>", strings.Repeat("y", 1+f.IntN(300)), "pm_card_visa", "correct horse battery")
}

func (f *fuzzer) wrong() any {
	switch f.IntN(8) {
	case 0:
		return nil
	case 1:
		return f.garbage()
	case 2:
		return -f.Int64()
	case 3:
		return 1.5
	case 4:
		return []any{[]any{[]any{}}}
	case 5:
		return map[string]any{"a": map[string]any{"b": nil}}
	case 6:
		return true
	}
	return strings.Repeat("é", f.IntN(20_000))
}
