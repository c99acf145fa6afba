package httpapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	livestream "github.com/livestream-pro/livestream-pro"
)

//go:embed openapi.yaml
var openAPI []byte

// LoadContract reads openapi.yaml, as it is served.
func LoadContract() (*openapi3.T, error) {
	contract, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	return contract, nil
}

// operations finds the contract's operation of a request by its method and Gin's
// own route, so that there is one router.
type operations map[string]map[string]*operation

// operation is what the contract says of one, worked out once.
type operation struct {
	*routers.Route
	// public says whether it may be had without a token, member whether a token
	// means something to it.
	public, member bool
	// plain says that ids in its path are all that it needs.
	plain bool
	// limit is the one that it is under, if it is under one, and policy what
	// the header RateLimit-Policy says of that.
	limit  *livestream.RateLimit
	policy []string
}

var pathParameter = regexp.MustCompile(`\{([^}]+)\}`)

func (s *Server) newOperations(contract *openapi3.T) operations {
	all := operations{}
	for path, item := range contract.Paths.Map() {
		for method, spec := range item.Operations() {
			o := &operation{Route: &routers.Route{Spec: contract, Path: path, PathItem: item, Method: method, Operation: spec}}
			o.public, o.member = public(o.Route)
			if limit, limited := s.limitClass(spec.OperationID, method); limited {
				o.limit, o.policy = &limit, []string{policyOf(limit)}
			}
			o.plain = method == http.MethodGet && spec.RequestBody == nil
			for _, p := range slices.Concat(item.Parameters, spec.Parameters) {
				id := p.Value.In == openapi3.ParameterInPath && p.Value.Schema.Value.Format == "uuid"
				o.plain = o.plain && (id || p.Value.In == openapi3.ParameterInQuery && !p.Value.Required)
			}
			if all[method] == nil {
				all[method] = map[string]*operation{}
			}
			all[method][pathParameter.ReplaceAllString(path, ":$1")] = o
		}
	}
	return all
}

func (o operations) of(c *gin.Context) *operation { return o[c.Request.Method][c.FullPath()] }

// satisfiedBy says of a request that has nothing but ids whether it is as the
// contract wants it. It is most of them, and the validator costs as much as the
// rest of a cached read. Others are for it to judge.
func (o *operation) satisfiedBy(c *gin.Context) bool {
	if !o.plain || c.Request.URL.RawQuery != "" || c.Request.Body != nil && c.Request.Body != http.NoBody {
		return false
	}
	for _, p := range c.Params {
		if !isUUID(p.Value) {
			return false
		}
	}
	return true
}

// isUUID knows the one form of a UUID that the API speaks; uuid.Parse takes more.
func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		switch c := text[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// maxBody is the largest body that a request may have.
const maxBody = 1 << 20

// validate refuses what the contract's schema does, before a handler sees it.
func (s *Server) validate(c *gin.Context) {
	route := s.operations.of(c)
	if route == nil {
		return // media and documents are no part of the contract
	}
	if route.satisfiedBy(c) {
		return
	}
	if c.Request.Body != nil {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)
		body, err := io.ReadAll(c.Request.Body)
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			s.fail(c, livestream.Errorf(livestream.CodePayloadTooLarge, "a body has up to %d bytes", maxBody))
			return
		} else if err != nil {
			s.fail(c, livestream.Invalid("body", "cannot be read"))
			return
		}
		if len(body) > 0 && route.Operation.RequestBody != nil {
			if err := checkJSON(body); err != nil {
				s.fail(c, err)
				return
			}
		}
		c.Set(rawBodyKey, body)
		c.Request.Body = io.NopCloser(bytes.NewReader(body))
	}
	if !utf8.ValidString(c.Request.URL.Path) || !cleanQuery(c.Request) {
		s.fail(c, livestream.Invalid("query", "is UTF-8 without NUL"))
		return
	}
	params := map[string]string{}
	for _, p := range c.Params {
		params[p.Key] = p.Value
	}
	err := openapi3filter.ValidateRequest(c.Request.Context(), &openapi3filter.RequestValidationInput{
		Request: c.Request, PathParams: params, Route: route.Route, Options: &openapi3filter.Options{
			MultiError:         true,
			KeepValidatedValue: true,
			// Who asks is for authenticate to say.
			AuthenticationFunc:      openapi3filter.NoopAuthenticationFunc,
			SchemaValidationOptions: schemaOptions,
		},
	})
	if err != nil {
		s.fail(c, invalid(err))
	}
}

// rawBodyKey is where a handler finds the body byte for byte, for a signature.
const rawBodyKey = "raw_body"

var schemaOptions = []openapi3.SchemaValidationOption{
	openapi3.WithStringFormatValidator("uuid", openapi3.NewCallbackValidator(func(text string) error {
		if !isUUID(text) {
			return errors.New("it is no UUID")
		}
		return nil
	})),
}

func cleanQuery(r *http.Request) bool {
	for name, values := range r.URL.Query() {
		for _, text := range append(values, name) {
			if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				return false
			}
		}
	}
	return true
}

// maxDepth is how deep a body may be nested.
const maxDepth = 16

// checkJSON refuses what Go's decoder lets pass: text that is no text, a name that
// is given twice, and whatever follows the value.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return livestream.Invalid("body", "is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := checkValue(decoder, 0); err != nil {
		if e := (*livestream.Error)(nil); errors.As(err, &e) {
			return e
		}
		return livestream.Invalid("body", "is not JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return livestream.Invalid("body", "goes on after its JSON value")
	}
	return nil
}

func checkValue(decoder *json.Decoder, depth int) error {
	if depth > maxDepth {
		return livestream.Invalid("body", "is nested too deep")
	}
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case string:
		return checkText(t)
	case json.Delim:
		names := map[string]bool{}
		for decoder.More() {
			if t == '{' {
				name, err := decoder.Token()
				if err != nil {
					return err
				}
				if names[name.(string)] {
					return livestream.Invalid("body", "names a field twice")
				}
				names[name.(string)] = true
			}
			if err := checkValue(decoder, depth+1); err != nil {
				return err
			}
		}
		_, err := decoder.Token()
		return err
	}
	return nil
}

// checkText refuses NUL, which Postgres cannot store, and the mark that Go puts
// in the place of half a surrogate pair.
func checkText(text string) error {
	if strings.ContainsRune(text, 0) || strings.ContainsRune(text, utf8.RuneError) {
		return livestream.Invalid("body", "has characters that are none")
	}
	return nil
}

// invalid says what the validator refused, field by field.
func invalid(err error) error {
	fields := refusals(err, "", nil)
	if len(fields) == 0 {
		return &livestream.Error{Code: livestream.CodeInvalidRequest, Message: "the request does not follow the contract", Err: err}
	}
	message := fields[0].Field + " " + fields[0].Message
	return &livestream.Error{Code: livestream.CodeInvalidRequest, Message: message, Fields: fields, Err: err}
}

// maxRefusals bounds what is said of one request.
const maxRefusals = 20

func refusals(err error, field string, fields []livestream.FieldError) []livestream.FieldError {
	if len(fields) >= maxRefusals {
		return fields
	}
	refuse := func(message string) []livestream.FieldError {
		if slices.ContainsFunc(fields, func(f livestream.FieldError) bool { return f.Field == field }) {
			return fields // one thing at a time: an empty title has no letter either
		}
		return append(fields, livestream.FieldError{Field: field, Message: message})
	}
	switch e := err.(type) { //nolint:errorlint // the tree is walked node by node
	case openapi3.MultiError:
		for _, err := range e {
			fields = refusals(err, field, fields)
		}
		return fields
	case *openapi3filter.RequestError:
		switch {
		case e.Parameter != nil:
			field = e.Parameter.Name
		case e.RequestBody != nil:
			field = "body"
		}
		if e.Err != nil {
			return refusals(e.Err, field, fields)
		}
		return refuse(e.Reason)
	case *openapi3.SchemaError:
		if path := e.JSONPointer(); len(path) > 0 {
			field = strings.Join(path, ".")
		}
		return refuse(reason(e))
	case *openapi3filter.ParseError:
		return refuse("has the wrong type")
	}
	if errors.Is(err, openapi3filter.ErrInvalidRequired) {
		return refuse("is missing")
	}
	return refuse("is not what the contract asks for")
}

// reason is what the validator says of a value, in words that go on after the
// field's name.
func reason(e *openapi3.SchemaError) string {
	schema := e.Schema
	switch e.SchemaField {
	case "type":
		return "is not of the type " + strings.Join(schema.Type.Slice(), " or ")
	case "required":
		return "is missing"
	case "nullable":
		return "may not be null"
	case "minLength":
		return fmt.Sprintf("is shorter than %d characters", schema.MinLength)
	case "maxLength":
		return fmt.Sprintf("is longer than %d characters", *schema.MaxLength)
	case "minimum":
		return "is less than " + strconv.FormatFloat(*schema.Min, 'f', -1, 64)
	case "maximum":
		return "is more than " + strconv.FormatFloat(*schema.Max, 'f', -1, 64)
	case "minItems":
		return fmt.Sprintf("has fewer than %d entries", schema.MinItems)
	case "maxItems":
		return fmt.Sprintf("has more than %d entries", *schema.MaxItems)
	case "uniqueItems":
		return "has an entry twice"
	case "enum":
		return fmt.Sprintf("is none of %v", schema.Enum)
	case "format":
		return "is no " + schema.Format
	case "pattern":
		return "does not have the form that the contract asks for"
	case "properties":
		return strings.ReplaceAll(strings.TrimPrefix(e.Reason, "property "), " is unsupported", " is no field of it")
	}
	return "is not what the contract asks for"
}

// public says whether an operation may be had without a token, and member
// whether a token means something to it.
func public(route *routers.Route) (public, member bool) {
	security := route.Operation.Security
	if security == nil {
		security = &route.Spec.Security
	}
	member = slices.ContainsFunc(*security, func(r openapi3.SecurityRequirement) bool { return len(r) > 0 })
	public = len(*security) == 0 || slices.ContainsFunc(*security, func(r openapi3.SecurityRequirement) bool { return len(r) == 0 })
	return public, member
}

// documents serves the contract, and a page to browse it that needs nothing from
// another host.
func documents(router gin.IRouter) {
	router.GET("/", func(c *gin.Context) { c.Redirect(http.StatusFound, "/docs") })
	router.GET("/openapi.yaml", func(c *gin.Context) { c.Data(http.StatusOK, "application/yaml", openAPI) })
	policy := func(c *gin.Context) {
		c.Header("Content-Security-Policy", documentPolicy)
		c.Header("Referrer-Policy", "no-referrer")
	}
	page := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "LiveStream Pro", SwaggerJSON: "/openapi.yaml", BasePath: "/docs", HideCurl: false,
	})
	router.GET("/docs", policy, gin.WrapH(page))
	router.GET("/docs/*file", policy, gin.WrapH(page))
}
